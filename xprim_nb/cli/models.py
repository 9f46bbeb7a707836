"""The command `xprim-models`, and the same commands for other tools.

Under a Click parent:

    tool.add_command(models_group(Config(app_name="mytool", registry_url="https://models.example.org")))

Under a Typer parent, which needs a callback or a command of its own besides:

    command = typer.main.get_command(app)
    command.add_command(models_group(Config(app_name="mytool")), "models")
    command()

Both then read `mytool models pull fast-whisper/tiny fp16`. `--json` prints what `xprim_nb.cli.documents` describes.

Exit codes: 0 ok · 1 general · 2 usage · 3 not in the registry · 4 not installed · 5 network, or offline ·
6 verification failed · 7 storage · 8 a model could not be run · 9 a prompt, its answer or a checkpoint · 130 interrupted.

Source: seeds/002 §Integration Pattern, §CLI Test Interface; spec 1 §CLI.
"""

from __future__ import annotations

import click

import xprim_nb
from xprim_nb.cli import changing, publishing, reading
from xprim_nb.cli.boundary import DoorGroup
from xprim_nb.config import Config

__all__ = ["main", "models_group"]

_COMMANDS = (
    reading.list_models,
    changing.pull,
    changing.remove,
    reading.info,
    reading.path,
    changing.update,
    changing.prune,
    reading.peek,
    publishing.publish,
    publishing.export,
    publishing.serve,
)


def models_group(config: Config | None = None) -> click.Group:
    """The group `models` for a parent's command tree.

    Args:
        config: The parent's settings. The environment is applied on top when a command runs: the parent's
            `<APPNAME>_MODELS_DIR`, and `XPRIM_MODELS_REGISTRY_URL` where the parent names no registry.
    """
    return _filled(
        DoorGroup(
            "models",
            config=config or Config(),
            holds_models=True,
            help="Pull, list and remove models.",
            short_help="Pull, list and remove models.",
        )
    )


def _filled(group: DoorGroup) -> DoorGroup:
    for command in _COMMANDS:
        group.add_command(command)
    return group


xprim_models = click.version_option(xprim_nb.__version__, prog_name="xprim-models")(
    _filled(
        DoorGroup(
            "xprim-models",
            config=Config(),
            owns_settings=True,
            holds_models=True,
            help="Pull models from a content-addressed registry, and keep them whole.",
        )
    )
)


def main() -> None:
    """The command `xprim-models`."""
    xprim_models(prog_name="xprim-models")


if __name__ == "__main__":
    main()
