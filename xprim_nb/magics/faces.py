"""How core values look in a cell: facts as a small table, a listing as rows, a pull as a bar; as text and as HTML.

The values themselves know nothing of this. A view that brings a mimebundle of its own takes precedence.

Source: spec 3 §Magics; DESIGN §Top level ("every value still has a text and an HTML repr").
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb._text import clean, format_bytes, format_paused, format_seconds
from xprim_nb.magics import bars

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.cache.values import Pulled
    from xprim_nb.registry.listing import RemoteListing

__all__ = ["SHOWN", "add", "handle_html", "handle_text", "pulled_line"]


_PULLED = ("installed", "updated", "already_installed")


class _Printer(Protocol):
    stack: Sequence[int]

    def text(self, obj: str) -> object: ...


def pulled_line(pulled: Pulled) -> str:
    """The result of a pull in one line."""
    size, took = format_bytes(pulled.model.total_size), format_seconds(pulled.receipt.seconds)
    if pulled.status == "already_installed":
        return f"{pulled.ref}: already installed"
    return f"{pulled.ref}: {pulled.status}, {size} in {took}"


def handle_text(handle: Handle[Any]) -> str:
    """Work in one line, as it stands now."""
    state, progress = _state(handle), handle.snapshot()
    if not handle.done and progress is not None:
        return bars.answering(progress) if bars.is_answer(progress) else bars.text(progress, handle.describe)
    return state


def handle_html(handle: Handle[Any]) -> str:
    """Work as a bar with its line, as it stands now."""
    progress = handle.snapshot()
    if bars.is_answer(progress) and not handle.done:
        return bars.answering_html(progress)
    # An empty bar would contradict "already installed", and say nothing about a failure.
    if progress is None or (handle.done and not getattr(progress, "bytes_total", 0)):
        return f'<div class="xprim-pull">{escape(_state(handle))}</div>'
    line = _state(handle) if handle.done else bars.text(progress, handle.describe)
    return bars.html(progress, line, handle.describe)


def _state(handle: Handle[Any]) -> str:
    if not handle.done:
        return f"{handle.describe}: running"
    try:
        error = handle.exception()
    except CancelledError:
        progress = handle.snapshot()
        return f"{handle.describe}: {'stopped' if bars.is_answer(progress) else format_paused(progress)}"
    if error is not None:
        return f"{handle.describe}: failed: {error}"
    result = handle.result()
    # Of what has a receipt a pull alone has such a status.
    pulled = hasattr(result, "receipt") and getattr(result, "status", "") in _PULLED
    if pulled:
        return pulled_line(result)
    told = getattr(result, "stamp", "") or (str(result) if hasattr(result, "is_awake") else "done")
    return f"{handle.describe}: {told}"


def _listing_text(listing: RemoteListing) -> str:
    return repr(_rows(listing))


def _listing_html(listing: RemoteListing) -> str:
    shown: str = _rows(listing)._repr_html_()
    return shown


def _rows(listing: RemoteListing) -> Any:  # noqa: ANN401  # Rows, whose module comes with the first command
    return importlib.import_module("xprim_nb.magics.tables").remote(listing)


# The values that `facts` knows, by module: that one is loaded with the first of them, not with the extension.
SHOWN: Mapping[str, str] = {
    "xprim_nb.cache.values": "Exported InstalledModel Peeked Pruned PullPlan Pulled Receipt RemoteDetail Removed "
    "UpdateCheck",
    "xprim_nb.cache.adopt.installing": "Adopted",
    "xprim_nb.cache.adopt.scanning": "AdoptedPlace FoundModel",
    "xprim_nb.cache.bundles.initialize": "BundlePlan Initialized",
    "xprim_nb.cache.bundles.keeper": "BundleRepaired",
    "xprim_nb.cache.bundles.manifest": "CacheManifest",
    "xprim_nb.cache.bundles.store": "Bundle",
    "xprim_nb.cache.health.glance": "StatusRow",
    "xprim_nb.cache.health.repaired": "RepairPlan Repaired",
    "xprim_nb.cache.health.report": "FileFinding ValidationReport",
    "xprim_nb.cache.health.scrub": "Scrubbed",
    "xprim_nb.cache.health.status": "CacheStatus",
    "xprim_nb.cache.renewal.merge": "FileChange",
    "xprim_nb.cache.renewal.values": "Backup DropPlan Dropped RefreshPlan Refreshed Restored RollbackPlan",
    "xprim_nb.cache.upkeep.accounting": "Account CacheAccounts",
    "xprim_nb.cache.upkeep.archive": "ArchivePlan",
    "xprim_nb.cache.upkeep.archived": "Archived",
    "xprim_nb.cache.upkeep.cleanup": "Candidate CleanupPlan Spared",
    "xprim_nb.cache.upkeep.dedupe": "DedupePlan Deduplicated",
    "xprim_nb.cache.upkeep.execute": "CleanupResult Done",
    "xprim_nb.cache.upkeep.pins": "Pin",
    "xprim_nb.cache.upkeep.restoring": "RestorePlan Restored",
    "xprim_nb.cache.upkeep.usage": "Used",
    "xprim_nb.cache.upkeep.why": "Why",
    "xprim_nb.config": "Config",
    "xprim_nb.manager.due": "MaintenanceRecord",
    "xprim_nb.manager.steward": "MaintenancePlan MaintenanceReport",
    "xprim_nb.prompts.caches.store": "CacheStats",
    "xprim_nb.prompts.checkpoints.saved": "Checkpoint",
    "xprim_nb.prompts.resolve": "ResolvedScaffold",
    "xprim_nb.registry.index": "RemoteModel",
    "xprim_nb.registry.publisher": "Published",
    "xprim_nb.scheduling.plan": "ResidencyPlan",
    "xprim_nb.scheduling.values": "DeviceView EngineSnapshot ModelView QueueView Reply",
    "xprim_nb.toolkit": "Toolkit",
}


# Values with faces of their own: module and beginning of the functions that draw them, and in which forms.
_DRAWN: Mapping[tuple[str, str], tuple[str, str, Sequence[str]]] = {
    ("xprim_nb.scheduling.values", "Reply"): ("ai_faces", "reply", ("text", "html", "markdown")),
    ("xprim_nb.prompts.asked", "Asked"): ("prompt_faces", "asked", ("text", "html", "markdown")),
    ("xprim_nb.prompts.xray", "Explanation"): ("prompt_faces", "explanation", ("text", "html")),
}


def _drawn(module: str, what: str, how: str) -> Callable[[Any], str]:
    def show(value: object) -> str:
        shown: str = getattr(importlib.import_module(f"xprim_nb.magics.{module}"), f"{what}_{how}")(value)
        return shown

    return show


def _facts() -> Any:  # noqa: ANN401  # a module
    return importlib.import_module("xprim_nb.magics.facts")


def _facts_text(value: object) -> str:
    shown: str = _facts().facts_text(_facts().facts_of(value))
    return shown


def _facts_html(value: object) -> str:
    shown: str = _facts().facts_html(_facts().facts_of(value))
    return shown


def add(shell: InteractiveShell) -> Callable[[], None]:
    """Give the values their faces in this shell; the result takes them back."""
    work, listing = ("xprim_nb._bridge", "Handle"), ("xprim_nb.registry.listing", "RemoteListing")
    texts: dict[tuple[str, str], Callable[[Any], str]] = {work: handle_text, listing: _listing_text}
    pages: dict[tuple[str, str], Callable[[Any], str]] = {work: handle_html, listing: _listing_html}
    for module, names in SHOWN.items():
        for each in names.split():
            texts[module, each], pages[module, each] = _facts_text, _facts_html
    marks: dict[tuple[str, str], Callable[[Any], str]] = {}
    by_form = {"text": texts, "html": pages, "markdown": marks}
    for name, (module, what, forms) in _DRAWN.items():
        for form in forms:
            by_form[form][name] = _drawn(module, what, form)
    assert shell.display_formatter is not None, "every shell has one"
    formatters = shell.display_formatter.formatters
    plain, page, marked = (formatters[each] for each in ("text/plain", "text/html", "text/markdown"))
    for name, mark in marks.items():
        marked.for_type_by_name(*name, mark)
    for name, text in texts.items():
        plain.for_type_by_name(*name, _printer(text))
    for name, render in pages.items():
        page.for_type_by_name(*name, render)

    def take_back() -> None:
        for name in marks:
            marked.pop(".".join(name), None)
        for name in texts:
            plain.pop(".".join(name), None)
            page.pop(".".join(name), None)

    return take_back


def _printer(text: Callable[[Any], str]) -> Callable[[Any, _Printer, bool], None]:
    def pretty(value: Any, printer: _Printer, cycle: bool) -> None:  # noqa: ANN401  # each has its own type
        nested = len(printer.stack) > 1  # one of a list: several lines each would run together
        printer.text(clean(_facts().facts_line(value) if nested else text(value)))

    return pretty
