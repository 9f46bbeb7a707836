"""Windows on core values, where somebody has hung some: found by entry point, loaded with the first that is shown.

Without them, or in a terminal, every value keeps its text and its HTML.

Source: DESIGN §Top level (`xprim_nb.views`); spec 3 §Magics ("`pull` shows the live panel at once").
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.toolkit import Toolkit

__all__ = ["View", "Views", "maker_of"]

_GROUP = "xprim_nb.views"
_log = logging.getLogger("xprim_nb")


class View(Protocol):
    """A window: shows itself in the cell that runs, follows what it shows, and can be closed."""

    def _ipython_display_(self) -> None: ...
    def cell_ended(self) -> None:
        """A cell has ended, whichever."""

    def settle(self) -> None:
        """Have the static form say what the view says now."""

    def close(self) -> None:
        """Take it away."""


class Views:
    """The windows of one shell. Owns those it opened, until `close`.

    Args:
        shell: Where they are shown.
        kit: Returns the toolkit they look into.
    """

    def __init__(self, shell: InteractiveShell, kit: Callable[[], Toolkit]) -> None:
        self._shell, self._kit = shell, kit
        self._open: WeakSet[Any] = WeakSet()
        # Shown by the cell of that number: they are kept, so that no other value gets their identity.
        self._told: tuple[int, list[object]] = (-1, [])

    def add(self) -> Callable[[], None]:
        """Show values as windows from now on; the result takes that back and closes what was opened."""
        assert self._shell.display_formatter is not None, "every shell has one"
        own = self._shell.display_formatter.ipython_display_formatter
        own.for_type_by_name("xprim_nb._bridge", "Handle", self._show_handle)
        events: Any = self._shell.events
        events.register("post_run_cell", self._cell_ended)
        own.for_type_by_name("xprim_nb.reports.health", "HealthReport", self._show_value)
        own.for_type_by_name("xprim_nb.scheduling.values", "Reply", self._show_reply)
        own.for_type_by_name("xprim_nb.prompts.asked", "Asked", self._show_asked)

        def take_back() -> None:
            events.unregister("post_run_cell", self._cell_ended)
            own.pop("xprim_nb._bridge.Handle", None)
            own.pop("xprim_nb.reports.health.HealthReport", None)
            own.pop("xprim_nb.scheduling.values.Reply", None)
            own.pop("xprim_nb.prompts.asked.Asked", None)
            self.close()

        return take_back

    def open(self, name: str, *args: object) -> View | None:
        """A new window; None in a terminal, or where nobody has hung one of that name."""
        maker = maker_of(name) if getattr(self._shell, "kernel", None) is not None else None
        if maker is None:
            return None
        made: View = maker(self._kit(), *args)
        self._open.add(made)
        return made

    def show_pull(self, handle: Handle[Any]) -> View | None:
        """Show a pull at once, and not again as the result of the same cell."""
        panel = self.open("pull", handle)
        if panel is not None:
            panel._ipython_display_()
            self.told(handle)
        return panel

    def told(self, value: object) -> None:
        """A window shows it: it is not shown again as the result of the same cell."""
        cell, values = self._told
        now = self._shell.execution_count
        self._told = (now, [*values, value] if cell == now else [value])

    def settle(self) -> None:
        """Have every window say what is now: the toolkit behind it is about to go."""
        for each in list(self._open):
            each.settle()

    def close(self) -> None:
        """Close every window that was opened here and still is."""
        self.settle()
        for each in list(self._open):
            each.close()

    def _cell_ended(self, _: object) -> None:
        for each in list(self._open):
            each.cell_ended()

    def _was_told(self, value: object) -> bool:
        """Whether this cell has shown it; asked once, so that `display(value)` after that shows it."""
        cell, values = self._told
        if cell != self._shell.execution_count or not any(each is value for each in values):
            return False
        self._told = (cell, [each for each in values if each is not value])
        return True

    def _show_value(self, value: object) -> None:
        if not self._was_told(value):
            raise NotImplementedError  # house: the formatter's word for "not mine": HTML and text are asked next

    def _show_reply(self, reply: object) -> None:
        self._show_value(reply)
        self._show_stamp("ai_faces", "stamp_line", reply)

    def _show_asked(self, asked: object) -> None:
        self._show_value(asked)
        self._show_stamp("prompt_faces", "asked_stamp", asked)

    def _show_stamp(self, module: str, line: str, value: object) -> None:
        if (
            getattr(self._shell, "kernel", None) is None
        ):  # a terminal has its text, and no place yet for the rest
            faces: Any = importlib.import_module(f"xprim_nb.magics.{module}")
            sys.stdout.write(f"[{getattr(faces, line)(value)}]\n")

    def _show_handle(self, handle: Handle[Any]) -> None:
        if self._was_told(handle):
            return
        if not handle.describe.startswith("pull ") or self.show_pull(handle) is None:
            raise NotImplementedError  # house: the formatter's word for "not mine": HTML and text are asked next


@cache
def maker_of(name: str) -> Callable[..., View] | None:
    """What makes the windows of a name; None where nobody has hung one, or it cannot be loaded."""
    for each in importlib.metadata.entry_points(group=_GROUP):
        try:
            return getattr(each.load(), name)  # type: ignore[no-any-return]  # what the group promises
        except (ImportError, AttributeError):
            _log.exception("the views of %s cannot be used", each.value)
    return None
