"""The model browser: search, filter, pull, use and remove, with the card of one model beside the table.

Source: spec 3 §Views (ModelBrowser).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from xprim_nb.cache.planning import check_space
from xprim_nb.cache.values import PullPlan, Removed
from xprim_nb.errors import XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit import Toolkit
from xprim_widgets._base import View, told
from xprim_widgets._browser_book import ModelBook
from xprim_widgets._browser_card import read_card, weigh
from xprim_widgets._browser_free import free_of
from xprim_widgets._browser_rows import ModelRow, frame_of
from xprim_widgets._browser_twin import registry_line, twin_html, twin_text
from xprim_widgets._browser_work import fetches_of, works_of
from xprim_widgets._pullbook import book_of
from xprim_widgets._static import static_only

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ModelBrowser"]

# A registry on this machine or near it answers within this; one that does not is shown when it does.
_FIRST_LIST_S = 2.0
# Where the list itself is asked for (`to_frame`, a static page): as long as one would wait for a page.
_WHOLE_LIST_S = 30.0
# No screen shows more rows at once.
_MOST_LOOKED_AT = 60


class ModelBrowser(View):
    """Every model that the registry lists or that is installed, live. Closing it stops no pull.

        browser = ModelBrowser(kit)
        browser.selection      # what is ticked, as a list of ModelRef
        browser.to_frame()     # every row

    Args:
        kit: Whose models.
    """

    asset = "browser"

    catalogue = traitlets.Dict(
        help="Columns of the whole list, sent once: names, versions, sizes (-1: not said), "
        "quantisations and licences ({words, codes}), aliases ([number, version])."
    ).tag(sync=True)
    marks = traitlets.Dict(help="Numbers of the rows that are installed, and of those with an update.").tag(
        sync=True
    )
    fetches: traitlets.List[Any] = traitlets.List(
        help="For rows on screen: [number, bytes a pull would fetch, bytes of disk it needs]."
    ).tag(sync=True)
    pulls: traitlets.List[Any] = traitlets.List(
        help="For rows being worked on: {ref, state, percent, line, hint}; see `PullRow`."
    ).tag(sync=True)
    free = traitlets.Dict(
        help="Bytes free: {disk, memory}, rounded down; `gpu`: what models may take of the largest accelerator."
    ).tag(sync=True)
    registry = traitlets.Dict(
        help="How good the list is: {asking, listed, confirmed_at (unix seconds), why_stale, offline}."
    ).tag(sync=True)
    card = traitlets.Dict(
        help="The panel: {ref, installed, pairs, tree, note}, `loading` while it is read; empty when closed."
    ).tag(sync=True)
    confirm = traitlets.Dict(help="A removal that waits for a yes: {ref, text}; empty otherwise.").tag(
        sync=True
    )
    picked = traitlets.Dict(help="What is ticked: {refs, turn}; `turn` is the front end's own count.").tag(
        sync=True
    )
    news = traitlets.Unicode(help="What has just been done, in a sentence.").tag(sync=True)

    def __init__(self, kit: Toolkit) -> None:
        self._book = ModelBook(kit, self.poke, self.show_error)
        self._pull_book = book_of(kit)
        self._busy: dict[str, str] = {}
        self._looked_at: list[str] = []
        self._panel: dict[str, Any] = {}
        self._question: dict[str, str] = {}
        self._ticks: dict[str, Any] = {"refs": [], "turn": 0}
        self._said = ""
        super().__init__(kit)
        self.at_end(self._book.close)
        self.at_end(self._pull_book.subscribe(self.poke))
        self._book.load()
        self.draw()

    @property
    def selection(self) -> list[ModelRef]:
        """What is ticked, in the order of ticking."""
        return [ModelRef.parse(each) for each in self._ticks["refs"]]

    def to_frame(self) -> pd.DataFrame:
        """Every row, whatever is filtered; see `_browser_rows.frame_of` for the columns."""
        self._book.ready(_WHOLE_LIST_S)
        free = free_of(self._kit)
        rows = self._book.catalogue().rows
        return frame_of(rows, self._book.plans.to_fetch(), free["disk"], free["memory"])

    def refresh(self) -> None:
        """Ask the registry again."""
        self._book.load()

    def state(self) -> dict[str, Any]:
        """See `View.state`."""
        catalogue = self._book.catalogue()
        pulls = works_of(self._pull_book.seen(), dict(self._busy), catalogue, settling=self._book.settling)
        self._keep_card()
        self._pulse.keep(any(each["state"] in ("running", "stalled") for each in pulls))
        with self._guard:
            return {
                "catalogue": catalogue.columns,
                "marks": catalogue.marks,
                "fetches": fetches_of(catalogue, self._looked_at, self._book.plans.known),
                "pulls": pulls,
                "free": free_of(self._kit),
                "registry": {
                    **(found := self._book.registry()),
                    "why_stale": told(found["why_stale"])[:500],
                },
                "card": self._panel,
                "confirm": self._question,
                "picked": self._ticks,
                "news": self._said,
            }

    # -- words from the front end ------------------------------------------------------------------

    def op_refresh(self) -> None:
        """Ask the registry again."""
        self._book.load()

    def op_look(self, refs: object = ()) -> None:
        """These rows are on screen: what would their pulls fetch?"""
        listed = [str(each) for each in refs[:_MOST_LOOKED_AT]] if isinstance(refs, list) else []
        self._looked_at = listed
        rows = [row for each in listed if (row := self._book.row(each)) is not None]
        self._book.plans.want(rows)

    def op_pull(self, ref: str = "") -> None:
        """Pull or update a version, if the disk can hold it."""
        row = self._row(ref)
        with self._guard:
            if str(row.ref) in self._busy:
                return
            self._busy[str(row.ref)] = "planning"
        handle = self._kit.plan_pull(row.ref)
        handle.add_done_callback(lambda _: self._not_busy(str(row.ref)))
        self.follow(handle, self._begin)

    def op_pause(self, ref: str = "") -> None:
        """Stop a pull; what it fetched is kept."""
        self._pull_book.pause(str(self._row(ref).ref))

    def op_ask_remove(self, ref: str = "") -> None:
        """What would a removal free? The answer is a question."""
        wanted = self._row(ref).ref
        told_of = self._book.metadata({str(row.ref) for row in self._rows() if row.installed})

        def asked(text: str) -> None:
            with self._guard:
                self._question = {"ref": str(wanted), "text": told(text)}

        self.follow(self._kit.start(f"weigh {wanted}", weigh, wanted, told_of), asked)

    def op_keep(self) -> None:
        """Do not remove it."""
        with self._guard:
            self._question = {}

    def op_remove(self, ref: str = "") -> None:
        """Remove what the question was about; anything else is not removed."""
        with self._guard:
            if not ref or self._question.get("ref") != ref or ref in self._busy:
                return
            self._question = {}
            self._busy[ref] = "removing"
        handle = self._kit.remove(ref)
        handle.add_done_callback(lambda _: self._not_busy(ref))
        self.follow(handle, self._removed)

    def op_card(self, ref: str = "") -> None:
        """Open the panel of a version."""
        row = self._row(ref)
        with self._guard:
            self._panel = {"ref": str(row.ref), "installed": row.installed, "loading": True}
        self._read_card(row)

    def op_close_card(self) -> None:
        """Close the panel."""
        with self._guard:
            self._panel = {}

    def op_select(self, refs: object = (), turn: object = 0) -> None:
        """What is ticked now, all of it."""
        number = self._book.catalogue().number
        listed = [str(each) for each in refs if str(each) in number] if isinstance(refs, list) else []
        with self._guard:
            self._ticks = {"refs": listed, "turn": turn if isinstance(turn, int) else 0}

    # -- the static form -----------------------------------------------------------------------------

    def to_html(self) -> str:
        """See `View.to_html`."""
        return twin_html(self._rows(), self._line(), self._panel)

    def to_text(self) -> str:
        """See `View.to_text`."""
        return twin_text(self._rows(), self._line())

    def _ipython_display_(self) -> None:
        self._book.ready(_WHOLE_LIST_S if static_only() else _FIRST_LIST_S)
        super()._ipython_display_()

    # -- ours ------------------------------------------------------------------------------------------

    def _rows(self) -> list[ModelRow]:
        return list(self._book.catalogue().rows)

    def _line(self) -> str:
        return told(registry_line(self._book.registry()))

    def _row(self, ref: object) -> ModelRow:
        """The row that a front end names; it may send anything.

        Raises:
            InvalidRefError: It is no ref.
            XprimError: No row has it.
        """
        wanted = str(ModelRef.parse(str(ref)).require_version())
        row = self._book.row(wanted)
        if row is None:
            raise XprimError(f"{wanted} is not in this list any more.", subject=wanted)
        return row

    def _read_card(self, row: ModelRow) -> None:
        name = str(row.ref)

        def read(panel: dict[str, Any]) -> None:
            with self._guard:
                if self._panel.get("ref") == name:  # no newer wish has come before this one was met
                    self._panel = panel

        def ended(_: object) -> None:
            with self._guard:
                if self._panel.get("ref") == name:
                    self._panel = {key: value for key, value in self._panel.items() if key != "loading"}

        metadata = self._book.metadata({name}).get(name, {})
        handle = self._kit.start(f"read the card of {name}", read_card, row, metadata)
        self.follow(handle, read)
        handle.add_done_callback(ended)

    def _keep_card(self) -> None:
        """Read the open card again when its model has come or gone."""
        with self._guard:
            row = self._book.row(self._panel["ref"]) if self._panel else None
            if row is None or self._panel["installed"] == row.installed:
                return
            self._panel = {**self._panel, "installed": row.installed}
        self._read_card(row)

    def _not_busy(self, ref: str) -> None:
        with self._guard:
            self._busy.pop(ref, None)

    def _begin(self, plan: PullPlan) -> None:
        self._book.plans.note(plan)
        try:
            check_space(plan, self._kit.config.base_dir)
            self._pull_book.start(str(plan.ref))
        except XprimError as error:
            self.show_error(error)

    def _removed(self, removed: Removed) -> None:
        kept = f" Files that were changed here were put aside: {removed.kept}" if removed.kept else ""
        with self._guard:
            self._said = told(f"{removed.ref} is removed.{kept}")
