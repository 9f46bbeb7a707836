"""The residency panel: what is awake, what it takes, who waits, what crashed, and what can be done about it.

Source: spec 4 §Faces (`%xprim gpu`).
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import asdict
from typing import Any

import traitlets

from xprim_nb.errors import XprimError
from xprim_nb.events import Event, ModelInstalled, ModelRemoved, ResidencyChanged, WorkerFailed
from xprim_nb.scheduling.values import EngineSnapshot
from xprim_nb.toolkit import Toolkit
from xprim_nb.workers.values import CrashReport
from xprim_widgets import _residency_page
from xprim_widgets._base import View, told
from xprim_widgets._residency_page import Page
from xprim_widgets._residency_rows import (
    crash_id,
    crash_row,
    device_rows,
    is_busy,
    model_rows,
    queue_rows,
    verdict_of,
)
from xprim_widgets._residency_work import ResidencyWork

__all__ = ["ResidencyPanel"]

_log = logging.getLogger("xprim_nb.widgets")

# Progress and counts move while something is going on. Otherwise only other kernels and programs do, untold.
_BUSY_S, _QUIET_S = 0.5, 5.0
# A page says every half minute that it is looked at. One that has not for longer is gone, or hidden; or its kernel cannot
# hear it because a cell runs: what moves is followed for a good while yet, what is idle is not looked at.
_WATCHED_S, _FOLLOWED_S = 75.0, 600.0
# To choose from; more is typed.
_MOST_KNOWN = 300
_NOTE_CHARS = 500
# After news the ledger and the driver follow within a moment, and tell nobody.
_LIVELY_S = 3.0


class ResidencyPanel(View):
    """Devices, models, queue and crashes, live. Closing it evicts nothing and stops nothing.

        panel = ResidencyPanel(kit)

    It opens the engine, so that it knows the devices; no model is loaded by that. While no page shows it, it looks at
    nothing but what happens.

    Args:
        kit: Whose engine.
    """

    asset = "residency"

    verdict = traitlets.Unicode(help="Everything in one sentence.").tag(sync=True)
    at = traitlets.Float(help="When it was looked at last, in seconds since the epoch; 0 when never.").tag(
        sync=True
    )
    note = traitlets.Unicode(help="Why that is not now; empty when it is.").tag(sync=True)
    devices: traitlets.List[Any] = traitlets.List(
        help="A dict for each device: the fields of `DeviceRow`, accelerators first."
    ).tag(sync=True)
    models: traitlets.List[Any] = traitlets.List(help="A dict for each model: the fields of `ModelRow`.").tag(
        sync=True
    )
    queue = traitlets.Dict(help="Who waits: {rows: dicts of `QueueRow`, next first, total}.").tag(sync=True)
    crash = traitlets.Dict(
        help="The latest crash: the fields of `CrashFace`, and `id`; empty when there is none, or it was read."
    ).tag(sync=True)
    planned = traitlets.Dict(
        help="A plan that waits for a yes: {key, name, lines, go}; empty otherwise."
    ).tag(sync=True)
    doing = traitlets.Dict(help="What is being done, by key of the model: {line, stop}.").tag(sync=True)
    known: traitlets.List[Any] = traitlets.List(help="Names of installed models, to choose from.").tag(
        sync=True
    )
    news: traitlets.List[Any] = traitlets.List(help="What has happened, the latest first: {at, text}.").tag(
        sync=True
    )
    said = traitlets.Unicode(help="What has just happened, to be read out.").tag(sync=True)

    def __init__(self, kit: Toolkit) -> None:
        self._looking = threading.Lock()
        self._seen: EngineSnapshot | None = None
        self._failed, self._lively_until, self._watched_at = "", 0.0, time.monotonic()
        self._installed: list[str] | None = None
        self._read: set[str] = set()
        self._work = ResidencyWork(kit, self)
        super().__init__(kit)
        self.at_end(kit.events.subscribe(self._heard))
        self.draw()

    def state(self) -> dict[str, Any]:
        """See `View.state`."""
        with self._looking:
            self._look()
            seen = self._seen
        doing = self._work.doing()
        busy = bool(doing) or (seen is not None and is_busy(seen)) or time.monotonic() < self._lively_until
        unheard_s = time.monotonic() - self._watched_at
        # What failed is tried again when something happens, or somebody looks.
        keeps = not self._failed and unheard_s < (_FOLLOWED_S if busy else _WATCHED_S)
        self._pulse.keep(keeps, _BUSY_S if busy else _QUIET_S)
        said = {
            "doing": doing,
            "planned": self._work.planned(),
            "said": self._work.said(),
            "news": self._work.news(),
            "note": self._failed,
            "known": self._names(),
        }
        if seen is None:
            return {**said, "verdict": "The engine could not be asked."}
        crash = self._unread(seen)
        return {
            **said,
            "verdict": verdict_of(seen),
            "at": round(seen.at, 1),
            "devices": [
                {**asdict(each), "parts": list(map(asdict, each.parts))} for each in device_rows(seen)
            ],
            "models": [{**asdict(each), "acts": list(each.acts)} for each in model_rows(seen)],
            "queue": {"rows": list(map(asdict, queue_rows(seen.queue))), "total": len(seen.queue)},
            "crash": crash_row(crash) if crash is not None else {},
        }

    def to_html(self) -> str:
        """See `View.to_html`."""
        return _residency_page.html(self._page())

    def to_text(self) -> str:
        """See `View.to_text`."""
        return _residency_page.text(self._page())

    # -- words from the front end -------------------------------------------------------------------

    def op_evict(self, key: str = "") -> None:
        """Let a model go."""
        self._work.evict(self._known(key))

    def op_pin(self, key: str = "") -> None:
        """Keep a model from being evicted."""
        self._work.pin(self._known(key))

    def op_unpin(self, key: str = "") -> None:
        """Let a model be evicted again."""
        self._work.unpin(self._known(key))

    def op_retry(self, key: str = "") -> None:
        """Let a broken model be tried again."""
        self._work.retry(self._known(key))

    def op_plan(self, key: str = "") -> None:
        """Say what loading a model would do."""
        self._work.plan(self._known(key))

    def op_ask(self, name: str = "") -> None:
        """Say what loading a model would do that is not in the panel yet."""
        self._work.ask(str(name).strip())

    def op_load(self, key: str = "") -> None:
        """Yes to what was planned."""
        self._work.load(str(key))

    def op_watch(self) -> None:
        """A page shows it: it is looked at now, and for a while."""
        self._watched_at = time.monotonic()

    def op_leave(self) -> None:
        """No to what was planned."""
        self._work.leave()

    def op_stop(self, key: str = "") -> None:
        """Wait no longer for a load."""
        self._work.stop(str(key))

    def op_read(self, crash: str = "") -> None:
        """A crash has been read: it, and those before it, are not shown again."""
        if self._seen is None or str(crash) not in map(crash_id, self._seen.crashes):
            return
        known = [crash_id(each) for each in self._seen.crashes]
        with self._guard:
            self._read = set(known[known.index(str(crash)) :])

    # -- within -------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at the engine. Under the lock."""
        try:
            self._seen, self._failed = self._kit.ai.snapshot(), ""
        except CancelledError:  # it is being closed
            self._failed = "The engine is being closed."
        except XprimError as error:
            self._failed = told(error.message)[:_NOTE_CHARS]
        except Exception as error:  # noqa: BLE001  # one that is being closed may fail in any way
            _log.debug("the engine could not be looked at", exc_info=error)
            self._failed = "The engine could not be looked at: it is closed, or being closed."

    def _names(self) -> list[str]:
        if self._installed is None:
            try:
                listed = self._kit.list_installed().result()
            except (XprimError, CancelledError) as error:  # to choose from a list is a comfort
                _log.debug("what is installed is not known", exc_info=error)
                return []
            self._installed = [told(str(each.ref)) for each in listed[:_MOST_KNOWN]]
        return self._installed

    def _heard(self, event: Event) -> None:
        if isinstance(event, ResidencyChanged | WorkerFailed):
            self._work.hear(event)
            self._lively_until = time.monotonic() + _LIVELY_S
            self.poke()
        elif isinstance(event, ModelInstalled | ModelRemoved):
            self._installed = None
            self.poke()

    def _known(self, key: object) -> str:
        """The key, when the panel shows such a model; a front end may send anything.

        Raises:
            XprimError: It shows none.
        """
        if self._seen is None or str(key) not in {each.key for each in self._seen.models}:
            raise XprimError(f"{told(str(key))[:80]} is not in this panel any more.", subject=str(key)[:80])
        return str(key)

    def _unread(self, seen: EngineSnapshot) -> CrashReport | None:
        latest = seen.crashes[0] if seen.crashes else None
        return latest if latest is not None and crash_id(latest) not in self._read else None

    def _page(self) -> Page:
        seen = self._seen
        if seen is None:
            return Page(self.verdict)
        queue = queue_rows(seen.queue)
        return Page(
            verdict_of(seen),
            device_rows(seen),
            model_rows(seen),
            queue,
            len(seen.queue),
            self._unread(seen),
        )
