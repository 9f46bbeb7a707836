"""What every view shares: traits down, words up, an outlet for errors, a static twin, and an end.

    traits down    only the kernel sets them, from any thread, coalesced
    words up       `model.send({op, …})` calls `op_…`, which starts work and returns at once
    errors         what an `op_…` or its work raises stands in the view, with its hint
    static twin    the same state as HTML and text, for a saved notebook, an export, a reader without widgets
    end            `close()` gives everything back

Source: spec 3 §Views; STYLE rules 14, 15; research notebook §4 (callbacks, threads), §7 (mimebundle).
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, ClassVar, TypeVar

import anywidget
import traitlets
from IPython.display import display

from xprim_nb._bridge import Handle
from xprim_nb._text import clean
from xprim_nb.errors import XprimError
from xprim_nb.magics.wording import in_notebook
from xprim_nb.toolkit import Toolkit
from xprim_widgets import _static
from xprim_widgets._assets import css, esm
from xprim_widgets._pulse import Pulse

__all__ = ["View"]

_T = TypeVar("_T")
_log = logging.getLogger("xprim_nb.widgets")
_publish: Callable[..., object] = display  # IPython's has no types

# A saved notebook shows the twin as it was at the latest a few seconds after the last change.
_TWIN_S = 2.0


class View(anywidget.AnyWidget):  # type: ignore[misc]  # published without types
    """A window on a toolkit's state. Lives until `close`; what it shows goes on without it.

    Args:
        kit: Whose state it shows, and whose verbs its buttons call. Stays its owner's.

    Raises:
        TypeError: An argument is unknown.
    """

    asset: ClassVar[str]

    error = traitlets.Dict(help="What went wrong last: {text, hint}; empty when nothing has.").tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "asset" in vars(cls):
            cls._esm, cls._css = esm(cls.asset), css(cls.asset)
        super().__init_subclass__(**kwargs)

    def __init__(self, kit: Toolkit) -> None:
        self._kit = kit
        self._guard = threading.RLock()
        self._ends: list[Callable[[], object]] = []
        self._closed = False
        self._twin = _static.Twin(self.to_html, self.to_text)
        super().__init__()
        self._pulse = Pulse(self._drawn)
        self._ends.append(self._pulse.close)
        self.on_msg(self._hear)
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = _as_addressed

    # -- for the views ------------------------------------------------------------------------------

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The traits as they should be now, by name. Called in a thread, and may wait for the disk."""

    @abstractmethod
    def to_html(self) -> str:
        """What it shows now, as HTML without scripts."""

    @abstractmethod
    def to_text(self) -> str:
        """What it shows now, as text."""

    def poke(self) -> None:
        """Have it drawn anew soon; from any thread."""
        self._pulse.poke()

    def draw(self) -> None:
        """Bring the traits up to date now; only what has changed is sent."""
        wanted = self.state()
        with self._guard:
            changed = {name: value for name, value in wanted.items() if getattr(self, name) != value}
            with self.hold_sync():  # one message for all of them
                for name, value in changed.items():
                    self.set_trait(name, value)

    def follow(self, handle: Handle[_T], then: Callable[[_T], object] | None = None) -> None:
        """Draw when the work has ended; hand its result to `then`, and show what it raised."""

        def ended(handle: Handle[_T]) -> None:
            try:
                result = handle.result()
                if then is not None:
                    then(result)
            except CancelledError:  # somebody wanted that
                pass
            except Exception as error:  # noqa: BLE001  # the work's, or that of what followed: both belong into the view
                self.show_error(error)
            self.poke()

        handle.add_done_callback(ended)

    def show_error(self, error: BaseException) -> None:
        """Put an error into the view's outlet."""
        ours = isinstance(error, XprimError)
        if not ours:
            _log.error("a view's action failed", exc_info=error)
        text = error.message if isinstance(error, XprimError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, XprimError) else ""
        with self._guard:
            self.error = {"text": told(text), "hint": told(hint or "")}

    def at_end(self, end: Callable[[], object]) -> None:
        """Have `end` called by `close`."""
        self._ends.append(end)

    # -- for everybody ------------------------------------------------------------------------------

    def close(self) -> None:
        """Take the view away and give everything back; the work it shows goes on. Idempotent."""
        if "_ends" not in vars(self):  # it was never made: an argument was wrong
            return
        with self._guard:
            closed, self._closed = self._closed, True
        if closed:
            return
        while self._ends:
            self._ends.pop()()
        self._twin.close()
        # Its layout is a widget too, and would stay for ever; asking for it would make one where there is none.
        layout = self._trait_values.get("layout")
        super().close()
        if layout is not None:
            layout.close()

    def __del__(self) -> None:  # house: closing would need a lock
        """Do nothing: the collector comes at any moment, also while its thread holds a lock that closing needs.

        It never comes to a view that is open: its comm holds it.
        """

    def settle(self) -> None:
        """Have the static form say what the view says now: its work has ended."""
        self.draw()
        self._twin.settle()

    def open(self) -> None:
        """Tell the front end of it, unless nobody wants more than the static form."""
        if not _static.static_only():
            super().open()

    def cell_ended(self) -> None:
        """A cell has ended; where its outputs stay as they are now, they shall say what is the case now."""
        if _static.keeps_cells():
            try:
                self.settle()
            except Exception:  # noqa: BLE001  # the cell has done its work; a view that cannot be drawn is no fault of it
                _log.exception("a view could not be drawn")

    def op_dismiss(self) -> None:
        """The error has been read."""
        with self._guard:
            self.error = {}

    def _ipython_display_(self) -> None:
        self.draw()
        if _static.static_only():
            self._twin.show(alone=True)
        elif self._closed:
            _publish(self._twin.bundle(), raw=True)
        elif _static.has_twins():
            self._twin.show()
            _publish(self._live() | {"text/plain": ""}, raw=True)
        else:
            self._twin.show(self._live())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:  # noqa: ANN401  # as ipywidgets has it
        return self._twin.bundle() if self.comm is None else self._live() | self._twin.bundle()

    def _live(self) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_()
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        return {name: value for name, value in (data or {}).items() if not name.startswith("text/")}

    def _drawn(self) -> None:
        self.draw()
        self._twin.changed()

    def _hear(self, _: object, content: object, __: object) -> None:
        """A word from the front end: an operation of ours with plain values, or nothing happens."""
        if not isinstance(content, dict):
            return
        op, given = content.get("op"), {name: value for name, value in content.items() if name != "op"}
        act = getattr(self, f"op_{op}", None) if isinstance(op, str) else None
        if act is None:
            _log.warning("a view was sent an unknown word: %.80r", op)
            return
        try:
            act(**given)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs into the view
            self.show_error(error)
        self.poke()


def _as_addressed(data: object, subshell_id: str | None) -> str | None:
    """Hear a word where the front end sent it: our ops may run in any thread.

    ipykernel 7.4 hands it to the subshell that published last instead, which may be busy with a cell, or, after a page
    was loaded anew, gone: then the word is lost.
    """
    return subshell_id


def told(text: str) -> str:
    """A sentence for a view: commands as cells have them, nothing in it that turns or moves text."""
    return clean(in_notebook(text))
