"""The command `xprim`: the whole toolkit.

Source: spec 1 §CLI.
"""

from __future__ import annotations

from typing import Any

import click

import xprim_nb
from xprim_nb.cli import agents, documents, lab, maintaining, publishing
from xprim_nb.cli.ai import ai_group
from xprim_nb.cli.boundary import DoorCommand, DoorGroup, pass_session
from xprim_nb.cli.cache import cache_group
from xprim_nb.cli.models import models_group
from xprim_nb.cli.prompts import prompts_group
from xprim_nb.cli.session import Session
from xprim_nb.config import Config

__all__ = ["main", "xprim"]


@click.group(cls=DoorGroup, config=Config(), owns_settings=True)
@click.version_option(xprim_nb.__version__, prog_name="xprim")
def xprim() -> None:  # house: a group is its commands
    """Models for notebooks: installed like packages, verified like backups."""


@xprim.command("config", cls=DoorCommand)
@pass_session
def show_config(session: Session) -> None:
    """Show the settings in force; passwords are masked."""
    told = session.config.told()
    width = max(map(len, told)) + 2
    lines = [f"{name + ':':<{width}}{value}" for name, value in told.items()]
    session.answer({"config": documents.plain(_shown(session.config))}, *lines)


def _shown(config: Config) -> dict[str, Any]:
    verify = config.verify if isinstance(config.verify, bool | str) else "an SSL context"
    return {**config.shown(), "data_dir": config.base_dir, "verify": verify}


for _command in (
    models_group(),
    cache_group(),
    ai_group(),
    prompts_group(),
    maintaining.maintain,
    publishing.publish,
    publishing.serve,
    lab.lab,
    agents.mcp,
):
    xprim.add_command(_command)


def main() -> None:
    """The command `xprim`."""
    xprim(prog_name="xprim")


if __name__ == "__main__":
    main()
