"""A steward that records what it is told, and a maintainer that has it and a clock that stands still."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.errors import NotInstalledError
from xprim_nb.events import Event, EventHub
from xprim_nb.manager.maintaining import Maintainer

T0 = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def report_of(name: str, status: str = "healthy") -> ValidationReport:
    return ValidationReport.model_validate(
        {"model_id": name, "validation_timestamp": T0, "overall_status": status}
    )


@dataclass
class Recorder:
    """A steward that does nothing and remembers what it was told; `fails` says which verb raises what."""

    states: dict[str, str] = field(default_factory=dict)
    mends: dict[str, bool] = field(default_factory=dict)
    backups: dict[str, str] = field(default_factory=dict)
    fails: dict[str, Exception] = field(default_factory=dict)
    bundle_states: dict[str, str] = field(default_factory=dict)
    bundle_mends: bool = True
    calls: list[str] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event | None = None

    async def scrub(self, budget_s: float = 60.0) -> object:
        await self._told(f"scrub {budget_s:g}")
        return "91 % verified."

    async def validate_all(self, depth: str = "quick") -> list[ValidationReport]:
        await self._told(f"validate_all {depth}")
        return [report_of(name, status) for name, status in self.states.items()]

    async def validate(self, ref: Any, depth: str = "quick") -> ValidationReport:
        await self._told(f"validate {ref}")
        return report_of(str(ref), self.states[str(ref)])

    async def repair(self, ref: Any) -> Any:
        await self._told(f"repair {ref}")
        success = self.mends.get(str(ref), True)
        return SimpleNamespace(success=success, remaining_issues=() if success else ("chunk 3 is nowhere.",))

    async def rollback(self, ref: Any) -> object:
        await self._told(f"rollback {ref}")
        if str(ref) not in self.backups:
            raise NotInstalledError("no backup")
        self.states[str(ref)] = self.backups[str(ref)]
        return None

    async def plan_cleanup(self, policy: Any = None) -> Any:
        await self._told("plan_cleanup")
        return SimpleNamespace(freed_bytes=10)

    async def cleanup(self, plan: Any) -> Any:
        await self._told("cleanup")
        return SimpleNamespace(freed_bytes=plan.freed_bytes, removed_models=("demo/old v1",))

    async def dedupe(self) -> object:
        await self._told("dedupe")
        return "2 files share their blocks."

    async def list_bundles(self) -> Any:
        await self._told("list_bundles")
        return [SimpleNamespace(ref=name) for name in self.bundle_states]

    async def validate_bundle(self, ref: Any, depth: str = "full") -> ValidationReport:
        await self._told(f"validate_bundle {ref}")
        return report_of(str(ref), self.bundle_states[str(ref)])

    async def repair_bundle(self, ref: Any) -> Any:
        await self._told(f"repair_bundle {ref}")
        return SimpleNamespace(success=self.bundle_mends, remaining_issues=("README.md: it never came.",))

    async def _told(self, call: str) -> None:
        self.calls.append(call)
        self.entered.set()
        if self.goes_on is not None:
            await self.goes_on.wait()
        error = self.fails.get(call.split(maxsplit=1)[0])
        if error is not None:
            raise error


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = T0

    def __call__(self) -> float:
        return self.now.timestamp()


@dataclass
class Bench:
    """A maintainer of a recorder."""

    steward: Recorder
    clock: Clock
    maintainer: Maintainer
    heard: list[Event]

    @classmethod
    def at(cls, root: Path) -> Bench:
        """One whose files lie below `root`."""
        steward, clock, events, heard = Recorder(), Clock(), EventHub(), list[Event]()
        events.subscribe(heard.append)
        maintainer = Maintainer(
            steward=steward,
            bundles=cast("Any", steward),
            record_file=root / "cache" / "maintenance.json",
            lock_file=root / "cache" / "locks" / "maintenance.lock",
            events=events,
            clock=clock,
        )
        return cls(steward, clock, maintainer, heard)
