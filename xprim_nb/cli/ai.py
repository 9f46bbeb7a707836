"""The group `xprim ai`, and the same commands for other tools.

    tool.add_command(ai_group(Config(app_name="mytool")), "ai")

`--json` prints what `xprim_nb.cli.documents` describes; exit codes are those of `xprim_nb.cli.models`, and what kept a
model from running is 8. The engine is loaded with the first command that needs it.

Source: spec 4 §Faces; spec 1 §CLI.
"""

from __future__ import annotations

import click

from xprim_nb.cli import ai_doctor, ai_residency, ai_running
from xprim_nb.cli.boundary import DoorGroup
from xprim_nb.config import Config

__all__ = ["ai_group"]

_COMMANDS = (
    ai_running.run,
    ai_residency.list_awake,
    ai_residency.load,
    ai_residency.evict,
    ai_residency.pin,
    ai_residency.unpin,
    ai_residency.plan,
    ai_residency.timeline,
    ai_residency.recommend,
    ai_doctor.doctor,
)


def ai_group(config: Config | None = None) -> click.Group:
    """The group `ai` for a parent's command tree.

    Args:
        config: The parent's settings; see `xprim_nb.cli.models.models_group`.
    """
    group = DoorGroup(
        "ai",
        config=config or Config(),
        holds_ai=True,
        help="Run models, and see what is awake. A model that is not here is installed when it is first asked for.",
        short_help="Run models, and see what is awake.",
    )
    for command in _COMMANDS:
        group.add_command(command)
    return group
