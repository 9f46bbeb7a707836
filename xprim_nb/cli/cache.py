"""The group `xprim cache`, and the same commands for other tools.

    tool.add_command(cache_group(Config(app_name="mytool")), "cache")

A tool that mounts it has `maintain` there too. `--json` prints what `xprim_nb.cli.documents` describes; exit codes are
those of `xprim_nb.cli.models`, and damage that was found, or is left, is 6.

Source: spec 2; spec 1 §CLI.
"""

from __future__ import annotations

import click

from xprim_nb.cli import cache_health, cache_renewal, cache_storing, cache_upkeep, maintaining
from xprim_nb.cli.boundary import DoorGroup
from xprim_nb.cli.cache_bundles import bundle_group
from xprim_nb.config import Config

__all__ = ["cache_group"]

_COMMANDS = (
    cache_health.status,
    cache_health.validate,
    cache_health.scrub,
    cache_health.repair,
    cache_renewal.refresh,
    cache_renewal.rollback,
    cache_renewal.backups,
    cache_renewal.drop_backup,
    cache_upkeep.cleanup,
    cache_upkeep.free,
    cache_upkeep.pin,
    cache_upkeep.unpin,
    cache_upkeep.pins,
    cache_upkeep.why,
    cache_upkeep.dedupe,
    cache_storing.archive,
    cache_storing.restore,
    cache_storing.archived,
    cache_storing.drop_archive,
    cache_storing.adopt,
    cache_storing.adopted,
    cache_storing.forget,
    maintaining.maintain,
)


def cache_group(config: Config | None = None) -> click.Group:
    """The group `cache` for a parent's command tree.

    Args:
        config: The parent's settings; see `xprim_nb.cli.models.models_group`.
    """
    group = DoorGroup(
        "cache",
        config=config or Config(),
        holds_cache=True,
        help="Check, mend, renew and tidy what is installed. Everything here works offline.",
        short_help="Check, mend, renew and tidy what is installed.",
    )
    for command in _COMMANDS:
        group.add_command(command)
    group.add_command(bundle_group(config or Config()))
    return group
