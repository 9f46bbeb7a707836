"""How a refresh goes about it: the seed's `UpdateStrategy`, with defaults that lose nothing.

Source: seeds/000 §3 (Cache Refresh & Update Management); spec 2 §Refresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, field_serializer
from pydantic.json_schema import SkipJsonSchema

__all__ = ["NotificationChannel", "Trigger", "UpdatePolicy", "UpdateStrategy"]

Trigger: TypeAlias = Literal["manual", "scheduled", "on_demand", "version_change"]
# A word such as `log`, `notebook`, `webhook:URL`, `file:PATH`; in Python also whatever takes a notice.
NotificationChannel: TypeAlias = str | SkipJsonSchema[Callable[..., object]]


class UpdatePolicy(BaseModel):
    """What is done with what is there.

    Attributes:
        preserve_local_modifications: Files that somebody changed or added are carried into the new version. False:
            the new version is as published; the old files stay in the backup, or are put aside.
        backup_before_update: The old version stays as a backup, by rename.
        incremental_updates: Bytes that this machine has are not fetched. False: all of it comes from the registry.
        rollback_on_failure: The old version comes back when the new one turns out wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    preserve_local_modifications: bool = True
    backup_before_update: bool = True
    incremental_updates: bool = True
    rollback_on_failure: bool = True


class UpdateStrategy(BaseModel):
    """How a refresh goes about it.

    Attributes:
        trigger: Why it is done; recorded, not judged.
        update_policy: What is done with what is there.
        validation_after_update: The new version is read again and compared with its manifest, once in place.
        notification_channels: Who is told of it: `log`, `notebook`, `webhook:URL`, `file:PATH`, or a callable.

    >>> UpdateStrategy(trigger="scheduled").update_policy.backup_before_update
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    trigger: Trigger = "manual"
    update_policy: UpdatePolicy = UpdatePolicy()
    validation_after_update: bool = True
    notification_channels: tuple[NotificationChannel, ...] = ()

    @field_serializer("notification_channels", when_used="json")
    def _named(self, channels: tuple[NotificationChannel, ...]) -> list[str]:
        return [each if isinstance(each, str) else f"callable:{_name(each)}" for each in channels]


def _name(channel: Any) -> str:  # noqa: ANN401  # whatever can be called
    return str(getattr(channel, "__qualname__", type(channel).__name__))
