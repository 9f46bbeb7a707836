"""The health view: a sentence, a bar of sizes by state, and a row for each model with what can be done about it.

Source: spec 3 §Views (HealthView).
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Literal

import traitlets

from xprim_nb.cache.health.report import Depth
from xprim_nb.cache.health.status import CacheStatus
from xprim_nb.errors import ConfigError, InvalidRefError, XprimError
from xprim_nb.events import (
    CheckProgress,
    CorruptionFound,
    Event,
    ModelInstalled,
    ModelRefreshed,
    ModelRemoved,
    RolledBack,
)
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit import Toolkit
from xprim_widgets import _health_page
from xprim_widgets._base import View, told
from xprim_widgets._health_rows import (
    HealthRow,
    contact_sentence,
    disk_sentence,
    edits,
    health_rows,
    is_wanted,
    plain,
    shares_of,
    verdict_of,
)
from xprim_widgets._health_work import HealthWork

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HealthView"]

_NEWS = (CorruptionFound, ModelInstalled, ModelRefreshed, ModelRemoved, RolledBack)


class HealthView(View):
    """How what is installed is, live, and what can be done about it. Closing it stops nothing.

        view = HealthView(kit)                          # everything
        view = HealthView(kit, ["demo/tiny-llama"])     # some
        view.selection, view.frame                      # what is ticked, and as a DataFrame

    By itself it reads what was recorded (and the list of backups); no model file is touched and nobody is asked.

    Args:
        kit: Whose models.
        refs: Which; a ref without a version means all versions. Everything when None.

    Raises:
        InvalidRefError: A ref is none.
    """

    asset = "health"

    verdict = traitlets.Unicode(help="Everything in one sentence.").tag(sync=True)
    facts: traitlets.List[Any] = traitlets.List(
        help="Sentences about the cache itself: notes, the registry, the disk."
    ).tag(sync=True)
    rows: traitlets.List[Any] = traitlets.List(help="A list for each model: the fields of `HealthRow`.").tag(
        sync=True
    )
    changed = traitlets.Dict(help="Rows that have changed since `rows` was sent, by their place in it.").tag(
        sync=True
    )
    shares: traitlets.List[Any] = traitlets.List(
        help="The parts of the bar: the fields of `Share` as dicts."
    ).tag(sync=True)
    work: traitlets.List[Any] = traitlets.List(
        help="What is going on: {ref, doing, line, percent, stop}."
    ).tag(sync=True)
    notes = traitlets.Dict(help="Plans and receipts by ref: the fields of `Note`.").tag(sync=True)
    selected: traitlets.List[Any] = traitlets.List(help="The refs that are ticked.").tag(sync=True)
    said = traitlets.Unicode(help="How what was done last has ended, to be read out.").tag(sync=True)

    def __init__(self, kit: Toolkit, refs: Iterable[ModelRef | str] | None = None) -> None:
        self._wanted = None if refs is None else frozenset(ModelRef.parse(each) for each in refs)
        self._looking = threading.Lock()
        self._stale = True
        self._status: CacheStatus | None = None
        self._rows: list[HealthRow] = []
        self._base: list[HealthRow] = []
        self._sent: list[list[Any]] = []
        self._work = HealthWork(kit, self)
        super().__init__(kit)
        self.at_end(kit.events.subscribe(self._heard))
        self.draw()

    def state(self) -> dict[str, Any]:
        """See `View.state`."""
        with self._looking:
            if self._stale:
                self._look()
            status, rows, base, sent = self._status, self._rows, self._base, self._sent
        work = self._work.work()
        self._pulse.keep(bool(work))
        accounts = self._work.accounts
        facts = [*status.notes, contact_sentence(status.contact)] if status is not None else []
        if accounts is not None:
            facts.append(disk_sentence(accounts))
        return {
            "verdict": told(verdict_of(status, self._wanted)) if status is not None else "",
            "facts": [told(each)[:600] for each in facts],
            "rows": sent,
            "changed": {place: list(row) for place, row in (edits(base, rows) or {}).items()},
            "shares": [each._asdict() for each in shares_of(rows)],
            "work": [{**each, "line": told(each["line"])[:300]} for each in work],
            "notes": self._work.notes(),
            "said": self._work.said,
        }

    def look_again(self) -> None:
        """What is recorded may have changed: read it anew, soon. From any thread."""
        self._stale = True
        self.poke()

    # -- for everybody ------------------------------------------------------------------------------

    @property
    def selection(self) -> list[ModelRef]:
        """The models that are ticked, in the view's order."""
        ticked = set(self.selected)
        return [ref for row in self._rows if row.ref in ticked for ref in _refs([row.ref])]

    @property
    def frame(self) -> pd.DataFrame:
        """The latest verdicts on the selection; see `xprim_nb.reports.health_frame`."""
        return self._frame({str(each) for each in self.selection})

    def to_frame(self) -> pd.DataFrame:
        """The same for every model of the view."""
        return self._frame(None)

    def to_html(self) -> str:
        """See `View.to_html`."""
        return _health_page.html(self.verdict, self._rows, list(self.facts), self._work.notes())

    def to_text(self) -> str:
        """See `View.to_text`."""
        return _health_page.text(self.verdict, self._rows, list(self.facts), self._work.notes())

    # -- words from the front end -------------------------------------------------------------------

    def op_check(self, refs: Sequence[str] | None = None, depth: str = "quick") -> None:
        """Look at some models, or at all of the view."""
        if refs is None and self._wanted is not None:
            refs = [row.ref for row in self._rows]
        self._work.check(None if refs is None else [_ref(each) for each in refs], _depth(depth))

    def op_repair(self, ref: str = "") -> None:
        """Mend a model."""
        self._work.repair(_ref(ref))

    def op_refresh(self, ref: str = "") -> None:
        """Say what a refresh would change."""
        self._work.plan(_ref(ref), "refresh")

    def op_rollback(self, ref: str = "") -> None:
        """Say what a rollback would change."""
        self._work.plan(_ref(ref), "rollback")

    def op_go(self, ref: str = "") -> None:
        """Yes to what was planned."""
        self._work.go(_ref(ref))

    def op_leave(self, ref: str = "") -> None:
        """No to what was planned, or the receipt was read."""
        self._work.leave(str(ref))

    def op_stop(self, ref: str = "") -> None:
        """Stop what is done to a model; the check of several when empty."""
        self._work.stop(str(ref))

    def op_measure(self) -> None:
        """Ask the disk what all of it takes."""
        self._work.measure()

    def op_select(self, refs: Sequence[str] = ()) -> None:
        """These are ticked now."""
        with self._guard:
            self.selected = [str(each) for each in refs]

    # -- within -------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read what is recorded. Under the lock."""
        self._stale = False  # what changes from here on is read by the next one
        try:
            status = self._kit.status().result()
            backups = self._kit.backups().result()
        except XprimError as error:
            if (
                error.subject != "toolkit"
            ):  # it has been closed, and another one is in use: this is the last picture
                self.show_error(error)
            return
        except CancelledError:  # it is being closed
            return
        self._status, self._rows = status, health_rows(status, backups, self._wanted)
        if edits(self._base, self._rows) is None:
            self._base, self._sent = self._rows, plain(self._rows)

    def _heard(self, event: Event) -> None:
        match event:
            case CheckProgress():
                self._work.hear(event)
                if event.finished:
                    self._stale = True
                self.poke()
            case _ if isinstance(event, _NEWS):
                self.look_again()
            case _:
                pass

    def _frame(self, names: set[str] | None) -> pd.DataFrame:
        reports = importlib.import_module("xprim_nb.reports")  # with pandas, so not before somebody asks
        rows = () if self._status is None else self._status.rows
        shown = [
            row for row in rows if is_wanted(row.ref, self._wanted) and (names is None or row.ref in names)
        ]
        found = self._status.health_summary if self._status is not None else {}
        sizes = {ref: row.size_bytes for row in shown for ref in _refs([row.ref])}
        made: pd.DataFrame = reports.health_frame([found[row.ref] for row in shown], sizes)
        return made


def _ref(given: object) -> ModelRef:
    """The ref, when it is one; a front end may send anything.

    Raises:
        InvalidRefError: It is none.
    """
    return ModelRef.parse(str(given)).require_version()


def _refs(names: Iterable[str]) -> list[ModelRef]:
    """Those of the names that are refs: registry.json may hold anything."""
    found = []
    for name in names:
        try:
            found.append(_ref(name))
        except InvalidRefError:
            continue
    return found


def _depth(given: str) -> Depth:
    known: dict[str, Literal["quick", "full"]] = {"quick": "quick", "full": "full"}
    if given not in known:
        raise ConfigError(f"A check is quick or full, not {str(given)[:40]!r}.", subject="depth")
    return known[given]
