"""What a health view has set going: checks, repairs, plans that wait for a yes, and the receipts of what has ended.

    idle → repairing → a receipt
    idle → looking what would change → a plan → refreshing, rolling back → a receipt
    idle → checking → the verdict has changed, or has not

One thing at a time is done to a model; a check of several is one thing of its own.

Source: spec 3 §Views (HealthView).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from xprim_nb._bridge import Handle
from xprim_nb.cache.health.report import Depth, ValidationReport
from xprim_nb.cache.upkeep.accounting import CacheAccounts
from xprim_nb.errors import XprimError
from xprim_nb.events import CheckProgress
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit import Toolkit
from xprim_widgets._health_notes import Doing, Note, checked, plan_note, progress_of, receipt_note

__all__ = ["HealthWork", "Host"]

# A check that somebody else has started tells ten times a second; when it is silent for longer, it has been stopped.
_SILENT_S = 5.0


class Host(Protocol):
    """What is asked of the view."""

    def follow(self, handle: Handle[Any], then: Callable[[Any], object] | None = None) -> None:
        """Draw when it has ended, hand on its result, show its error."""

    def look_again(self) -> None:
        """Something has changed on disk: draw it soon."""


@dataclass(slots=True)
class _Job:
    doing: Doing
    handle: Handle[Any]
    done: int = 0
    total: int = 1
    stopped: bool = False


class HealthWork:
    """Jobs and notes by model; the key of what concerns several is empty. Thread-safe; nothing here waits.

    Args:
        kit: Whose verbs are called.
        host: Who is told.
    """

    def __init__(self, kit: Toolkit, host: Host) -> None:
        self._kit, self._host = kit, host
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._notes: dict[str, Note] = {}
        self._heard: tuple[CheckProgress, float] | None = None
        self.said = ""
        self.accounts: CacheAccounts | None = None

    def check(self, refs: Sequence[ModelRef] | None, depth: Depth) -> None:
        """Look at one model, at several one after the other, or (None) at all that are installed."""
        doing: Doing = "full check" if depth == "full" else "quick check"
        if refs is None:
            self._begin("", doing, lambda: self._kit.validate_all(depth), self._all_checked)
        elif len(refs) == 1:
            ref = refs[0]
            self._begin(str(ref), doing, lambda: self._kit.validate(ref, depth), self._one_checked)
        elif refs:
            self._chain(list(refs), depth, doing)

    def repair(self, ref: ModelRef) -> None:
        """Mend a model."""
        self._begin(str(ref), "repair", lambda: self._kit.repair(ref), self._receipt(ref))

    def plan(self, ref: ModelRef, go: str) -> None:
        """Find out what a refresh or a rollback would change, and ask."""
        note = self._planned(ref)
        if go == "refresh":
            self._begin(str(ref), "plan refresh", lambda: self._kit.plan_refresh(ref), note)
        else:
            self._begin(str(ref), "plan rollback", lambda: self._kit.plan_rollback(ref), note)

    def go(self, ref: ModelRef) -> None:
        """Somebody said yes to what was planned for a model."""
        with self._lock:
            note = self._notes.get(str(ref))
            if note is None or note.kind != "ask" or note.why:
                raise XprimError(f"Nothing is planned for {ref}.", subject=str(ref))
        if note.go == "refresh":
            self._begin(str(ref), "refresh", lambda: self._kit.refresh(ref), self._receipt(ref))
        else:
            self._begin(str(ref), "rollback", lambda: self._kit.rollback(ref), self._receipt(ref))

    def leave(self, ref: str) -> None:
        """Somebody said no, or has read the receipt."""
        with self._lock:
            self._notes.pop(ref, None)

    def measure(self) -> None:
        """Ask the disk what all of it takes."""
        self._begin("", "measure", self._kit.accounts, lambda found: setattr(self, "accounts", found))

    def stop(self, ref: str) -> None:
        """Stop what is done to a model, or with an empty name the check of several."""
        with self._lock:
            job = self._jobs.get(ref)
            if job is None:
                return
            job.stopped = True
            job.handle.cancel()

    def hear(self, event: CheckProgress) -> None:
        """Somebody, maybe we, has got so far with a check."""
        over = event.finished and event.models_done >= event.models_total
        self._heard = None if over else (event, time.monotonic())

    def notes(self) -> dict[str, Any]:
        """The notes, as a trait has them."""
        with self._lock:
            return {ref: note.plain() for ref, note in self._notes.items()}

    def work(self) -> list[dict[str, Any]]:
        """What is going on, what concerns several first."""
        with self._lock:
            jobs = sorted(self._jobs.items())
            heard = self._heard
        rows = []
        for ref, job in jobs:
            line, percent = progress_of(job.doing, job.handle.snapshot(), job.done, job.total)
            if job.stopped:
                line = f"stopping: {line}"
            # A rename is over before anybody could stop it.
            stoppable = job.doing != "rollback" and not job.stopped
            rows.append({"ref": ref, "doing": job.doing, "line": line, "percent": percent, "stop": stoppable})
        if heard is not None and time.monotonic() - heard[1] < _SILENT_S:
            event = heard[0]
            if "" not in dict(jobs) and str(event.ref) not in dict(jobs):
                doing: Doing = "repair" if event.doing == "repair" else "full check"
                line, percent = progress_of(doing, event)
                said = line.removeprefix("full check").lstrip(",: ") if event.doing != "repair" else line
                rows.insert(
                    0,
                    {
                        "ref": "",
                        "doing": "elsewhere",
                        "line": f"{event.ref}, elsewhere: {said or 'being checked'}",
                        "percent": percent,
                        "stop": False,
                    },
                )
        return rows

    def _begin(
        self, key: str, doing: Doing, start: Callable[[], Handle[Any]], then: Callable[[Any], object]
    ) -> None:
        with self._lock:
            self._refuse(key)
            job = self._jobs[key] = _Job(doing, start())
            self._notes.pop(key, None)
        self._follow(key, job, job.handle, then)

    def _refuse(self, key: str) -> None:
        running = self._jobs.get(key)
        if running is not None:
            raise XprimError(
                f"{key or 'Everything'} is busy: {running.doing}.",
                subject=key,
                hint="Wait until it has ended, or stop it.",
            )

    def _follow(self, key: str, job: _Job, handle: Handle[Any], then: Callable[[Any], object] | None) -> None:
        # First, so that what is drawn then knows it has ended.
        handle.add_done_callback(lambda _: self._ended(key, job))
        self._host.follow(handle, then)

    def _ended(self, key: str, job: _Job) -> None:
        with self._lock:
            if self._jobs.get(key) is job:
                del self._jobs[key]
        self._host.look_again()

    def _chain(self, refs: list[ModelRef], depth: Depth, doing: Doing) -> None:
        """One check after the other, each begun when the one before it has ended."""
        reports: list[ValidationReport] = []
        with self._lock:
            self._refuse("")
            job = self._jobs[""] = _Job(doing, self._kit.validate(refs[0], depth), total=len(refs))

        def step(_: Handle[Any]) -> None:
            with self._lock:
                job.done += 1
                ends = job.stopped or job.done >= len(refs)
                if not ends:
                    job.handle = self._kit.validate(refs[job.done], depth)
            if ends:
                self._ended("", job)
                self._all_checked(reports)
            else:
                each(job.handle)

        def each(handle: Handle[Any]) -> None:
            self._host.follow(handle, reports.append)
            handle.add_done_callback(step)

        each(job.handle)

    def _one_checked(self, report: ValidationReport) -> None:
        self.said = checked([report])

    def _all_checked(self, reports: list[ValidationReport]) -> None:
        self.said = checked(reports)

    def _planned(self, ref: ModelRef) -> Callable[[Any], object]:
        return lambda plan: self._put(ref, plan_note(plan))

    def _receipt(self, ref: ModelRef) -> Callable[[Any], object]:
        return lambda result: self._put(ref, receipt_note(result, self._kit.registry_url))

    def _put(self, ref: ModelRef, note: Note) -> None:
        with self._lock:
            self._notes[str(ref)] = note
            if note.kind != "ask":
                self.said = note.title
