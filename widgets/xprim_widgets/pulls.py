"""The pull panel: a row for each pull, with a bar of two tones, words, a chunk map, and the button that fits.

Source: spec 3 §Views (PullPanel).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from html import escape
from typing import Any

import traitlets

from xprim_nb._bridge import Handle
from xprim_nb.cache.values import Pulled
from xprim_nb.magics import bars
from xprim_nb.refs import ModelRef
from xprim_nb.toolkit import Toolkit
from xprim_widgets._base import View, told
from xprim_widgets._pull_rows import PullRow, row_of
from xprim_widgets._pullbook import book_of

__all__ = ["PullPanel"]


class PullPanel(View):
    """Pulls, live: pause, resume, retry, cancel. Closing it stops no pull.

        panel = PullPanel(kit)                        # every pull, those to come too
        panel = PullPanel(kit, ["demo/tiny-llama v2"])  # this one

    Args:
        kit: Whose pulls.
        refs: Which; every pull when None.

    Raises:
        InvalidRefError: A ref is none.
    """

    asset = "pulls"

    rows: traitlets.List[Any] = traitlets.List(
        help="A dict for each pull, the oldest first: the fields of `PullRow`."
    ).tag(sync=True)
    empty = traitlets.Unicode(help="What stands there while there are no rows.").tag(sync=True)

    def __init__(self, kit: Toolkit, refs: Iterable[ModelRef | str] | None = None) -> None:
        self._refs = (
            None if refs is None else frozenset(str(ModelRef.parse(each).require_version()) for each in refs)
        )
        self._book = book_of(kit)
        super().__init__(kit)
        self.empty = "No pull was started here yet. `%xprim pull REF` starts one."
        self.at_end(self._book.subscribe(self.poke))
        self.draw()

    @classmethod
    def of(cls, kit: Toolkit, handle: Handle[Pulled]) -> PullPanel:
        """The panel of one pull."""
        return cls(kit, [book_of(kit).note(handle)])

    def state(self) -> dict[str, Any]:
        """See `View.state`."""
        seen = [(each.ref, row_of(each)) for each in self._book.seen(self._refs)]
        self._pulse.keep(any(row.state in ("running", "stalled") for _, row in seen))
        rows = []
        for _, row in seen:
            shown = asdict(row)
            shown.update(ref=told(row.ref), line=told(row.line)[:2000], hint=told(row.hint)[:2000])
            rows.append({**shown, "buttons": list(row.buttons)})
        return {"rows": rows}

    def op_pause(self, ref: str = "") -> None:
        """Stop a pull; what it fetched is kept."""
        self._book.pause(self._mine(ref))

    def op_cancel(self, ref: str = "") -> None:
        """Stop a pull, and throw away what it fetched."""
        self._book.cancel(self._mine(ref))

    def op_resume(self, ref: str = "") -> None:
        """Go on where it stopped."""
        self._book.start(self._mine(ref))

    def op_retry(self, ref: str = "") -> None:
        """Try again; what is there is kept."""
        self._book.start(self._mine(ref))

    def to_html(self) -> str:
        """See `View.to_html`."""
        rows = self._now()
        if not rows:
            return f"<p>{escape(self.empty)}</p>"
        return "".join(_html(row) for row in rows)

    def to_text(self) -> str:
        """See `View.to_text`."""
        rows = self._now()
        return "\n".join(f"pull {told(row.ref)}: {told(row.line)}" for row in rows) or self.empty

    def _now(self) -> list[PullRow]:
        return [row_of(each) for each in self._book.seen(self._refs)]

    def _mine(self, ref: object) -> str:
        """The ref, when it is one; a front end may send anything.

        Raises:
            InvalidRefError: It is none.
        """
        return str(ModelRef.parse(str(ref)).require_version())


def _html(row: PullRow) -> str:
    name, line = told(row.ref), told(row.line)
    drawn = bars.bar(f"pull {name}", row.percent, (row.reused, row.fetched), line)
    hint = f"<div>{escape(told(row.hint))}</div>" if row.hint else ""
    return f"<div><strong>{escape(name)}</strong> · {row.state}</div>{drawn}{hint}"
