"""The group `xprim prompts`, and the same commands for other tools.

    tool.add_command(prompts_group(Config(app_name="mytool")), "prompts")

`--json` prints what `xprim_nb.cli.documents` describes; exit codes are those of `xprim_nb.cli.models`, and what is wrong
with a prompt, or an answer that is not in the cache, is 9. No model is loaded but by `ask`, and by that only when the cache
has no answer.

Source: spec 6 §Faces; spec 1 §CLI.
"""

from __future__ import annotations

import click

from xprim_nb.cli import prompts_asking, prompts_looking, prompts_saving, prompts_telemetry
from xprim_nb.cli.boundary import DoorGroup
from xprim_nb.cli.prompts_cache import prompts_cache_group
from xprim_nb.config import Config

__all__ = ["prompts_group"]

_COMMANDS = (
    prompts_asking.ask,
    prompts_looking.resolve,
    prompts_looking.explain,
    prompts_looking.lint,
    prompts_saving.checkpoint,
    prompts_saving.branch,
    prompts_saving.list_saved,
    prompts_saving.restore,
    prompts_saving.delete,
    prompts_saving.compact,
    prompts_telemetry.analyze,
    prompts_telemetry.export,
)


def prompts_group(config: Config | None = None) -> click.Group:
    """The group `prompts` for a parent's command tree.

    Args:
        config: The parent's settings; see `xprim_nb.cli.models.models_group`.
    """
    group = DoorGroup(
        "prompts",
        config=config or Config(),
        holds_prompts=True,
        help="Ask prompts, see what is sent and what it costs, and be answered from the cache the next time.",
        short_help="Ask prompts, and be answered from the cache.",
    )
    for command in _COMMANDS:
        group.add_command(command)
    group.add_command(prompts_cache_group(config or Config()))
    return group
