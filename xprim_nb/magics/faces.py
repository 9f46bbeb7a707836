"""How core values look in a cell: facts as a small table, a pull as a bar; as text and as HTML.

The values themselves know nothing of this. A view that brings a mimebundle of its own takes precedence.

Source: spec 3 §Magics; DESIGN §Top level ("every value still has a text and an HTML repr").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from datetime import UTC
from html import escape
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from IPython.core.interactiveshell import InteractiveShell

from xprim_nb._text import format_bytes, format_seconds
from xprim_nb.config import mask_url
from xprim_nb.magics import bars

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.cache.values import InstalledModel, Pulled, PullPlan, RemoteDetail, Removed
    from xprim_nb.config import Config
    from xprim_nb.registry.manifest import FileEntry

__all__ = ["add", "facts_html", "facts_text", "handle_html", "handle_text", "pulled_line"]

_Facts: TypeAlias = Mapping[str, str]


# Names and metadata come from a registry: in a terminal they must not move the cursor or ring.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class _Printer(Protocol):
    def text(self, obj: str) -> object: ...


def facts_text(facts: _Facts) -> str:
    """Facts as aligned lines."""
    width = max(map(len, facts), default=0) + 3
    return "\n".join(
        f"{name + ':':<{width}}{value}".replace("\n", "\n" + " " * width) for name, value in facts.items()
    )


def facts_html(facts: _Facts) -> str:
    """Facts as a table with row headings."""
    cell = "text-align:left;vertical-align:top;white-space:pre-wrap"
    rows = (
        f'<tr><th scope="row" style="{cell}">{escape(name)}</th><td style="{cell}">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f'<table class="xprim-facts"><tbody>{"".join(rows)}</tbody></table>'


def _files(files: tuple[FileEntry, ...]) -> str:
    return "\n".join(f"{each.path}  {format_bytes(each.size)}" for each in files)


def installed_facts(model: InstalledModel) -> dict[str, str]:
    """What an installed model shows."""
    facts = {
        "Model": str(model.ref),
        "Status": "installed",
        "Size": format_bytes(model.total_size),
        "Installed": model.installed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "Path": str(model.path),
    }
    files = getattr(model, "files", None)
    return facts | ({"Files": _files(files)} if files else {"Files": str(model.file_count)})


def _detail_facts(detail: RemoteDetail) -> dict[str, str]:
    facts = {"Model": str(detail.ref), "Status": "in the registry"}
    if detail.alias_of:
        facts["Alias of"] = detail.alias_of
    chunks = f"{detail.chunk_count} × {format_bytes(detail.chunk_size)}"
    facts |= {"Size": format_bytes(detail.total_size), "Chunks": chunks, "Files": _files(detail.files)}
    if detail.metadata:
        facts["Metadata"] = "\n".join(f"{key}: {value}" for key, value in detail.metadata.items())
    return facts


def pulled_line(pulled: Pulled) -> str:
    """The result of a pull in one line."""
    size, took = format_bytes(pulled.model.total_size), format_seconds(pulled.receipt.seconds)
    if pulled.status == "already_installed":
        return f"{pulled.ref}: already installed"
    return f"{pulled.ref}: {pulled.status}, {size} in {took}"


def _pulled_facts(pulled: Pulled) -> dict[str, str]:
    receipt = pulled.receipt
    facts = {"Model": str(pulled.ref), "Status": pulled.status.replace("_", " ")}
    facts["Size"] = format_bytes(pulled.model.total_size)
    if pulled.status != "already_installed":
        reused = receipt.bytes_present + receipt.bytes_local
        facts["Fetched"] = f"{format_bytes(receipt.bytes_network)} in {format_seconds(receipt.seconds)}"
        facts["Reused"] = format_bytes(reused)
    facts["Path"] = str(pulled.path)
    if receipt.kept is not None:
        facts["Put aside"] = f"files that were changed here: {receipt.kept}"
    if pulled.warnings:
        facts["Warning"] = "\n".join(pulled.warnings)
    return facts


def _plan_facts(plan: PullPlan) -> dict[str, str]:
    facts = {
        "Model": str(plan.ref),
        "Plan": plan.status.replace("_", " "),
        "Size": format_bytes(plan.total_size),
    }
    if plan.status == "already_installed":
        return facts
    others = f", from {', '.join(plan.local_models)}" if plan.local_models else ""
    fits = "" if plan.fits else f": {format_bytes(plan.disk_needed - plan.disk_free)} short"
    return facts | {
        "To fetch": f"{format_bytes(plan.bytes_network)} in {plan.chunks_network} chunks",
        "Unfinished": f"{format_bytes(plan.bytes_present)} of an earlier pull",
        "This machine": f"{format_bytes(plan.bytes_local)}{others}",
        "Disk": f"{format_bytes(plan.disk_needed)} needed, {format_bytes(plan.disk_free)} free{fits}",
    }


def _removed_facts(removed: Removed) -> dict[str, str]:
    facts = {"Removed": str(removed.ref), "Freed": format_bytes(removed.bytes_freed)}
    return facts | ({"Put aside": str(removed.kept)} if removed.kept is not None else {})


def _config_facts(config: Config) -> dict[str, str]:
    shown = config.shown()
    facts = {name: str(value) for name, value in shown.items()}
    facts["registry_url"] = str(shown["registry_url"] or "the embedded demo registry")
    facts["mirrors"] = " ".join(map(mask_url, config.mirrors)) or "none"
    facts["data_dir"] = str(config.base_dir)
    facts["headers"] = ", ".join(f"{name}: ***" for name in config.headers) or "none"
    facts["proxy"] = str(shown["proxy"] or "the environment's")
    return facts


def handle_text(handle: Handle[Any]) -> str:
    """Work in one line, as it stands now."""
    state, progress = _state(handle), handle.snapshot()
    if not handle.done and progress is not None:
        return bars.text(progress)
    return state


def handle_html(handle: Handle[Any]) -> str:
    """Work as a bar with its line, as it stands now."""
    progress = handle.snapshot()
    if progress is None:
        return f'<div class="xprim-pull">{escape(_state(handle))}</div>'
    return bars.html(progress, _state(handle) if handle.done else bars.text(progress))


def _state(handle: Handle[Any]) -> str:
    if not handle.done:
        return f"{handle.describe}: running"
    try:
        error = handle.exception()
    except CancelledError:
        return f"{handle.describe}: {bars.paused(handle.snapshot())}"
    if error is not None:
        return f"{handle.describe}: failed: {error}"
    result = handle.result()
    return pulled_line(result) if hasattr(result, "receipt") else f"{handle.describe}: done"


_FACES: Mapping[tuple[str, str], Callable[[Any], _Facts]] = {
    ("xprim_nb.cache.values", "InstalledModel"): installed_facts,
    ("xprim_nb.cache.values", "RemoteDetail"): _detail_facts,
    ("xprim_nb.cache.values", "Pulled"): _pulled_facts,
    ("xprim_nb.cache.values", "PullPlan"): _plan_facts,
    ("xprim_nb.cache.values", "Removed"): _removed_facts,
    ("xprim_nb.config", "Config"): _config_facts,
}


def add(shell: InteractiveShell) -> Callable[[], None]:
    """Give the values their faces in this shell; the result takes them back."""
    texts: dict[tuple[str, str], Callable[[Any], str]] = {("xprim_nb._bridge", "Handle"): handle_text}
    pages: dict[tuple[str, str], Callable[[Any], str]] = {("xprim_nb._bridge", "Handle"): handle_html}
    for name, facts in _FACES.items():
        texts[name], pages[name] = _shown_by(facts, facts_text), _shown_by(facts, facts_html)
    assert shell.display_formatter is not None, "every shell has one"
    formatters = shell.display_formatter.formatters
    plain, page = formatters["text/plain"], formatters["text/html"]
    for name, text in texts.items():
        plain.for_type_by_name(*name, _printer(text))
    for name, render in pages.items():
        page.for_type_by_name(*name, render)

    def take_back() -> None:
        for name in texts:
            plain.pop(".".join(name), None)
            page.pop(".".join(name), None)

    return take_back


def _shown_by(facts: Callable[[Any], _Facts], render: Callable[[_Facts], str]) -> Callable[[Any], str]:
    return lambda value: render(facts(value))


def _printer(text: Callable[[Any], str]) -> Callable[[Any, _Printer, bool], None]:
    def pretty(value: object, printer: _Printer, cycle: bool) -> None:
        printer.text(text(value).translate(_CONTROL))

    return pretty
