"""What each core value has to tell, as names and values; how they are laid out is `faces`' part.

Source: spec 3 §Magics; spec 1 §Manager for the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

from xprim_nb._text import format_bytes, format_count, format_seconds
from xprim_nb.magics import ai_facts, cache_facts, prompt_facts, upkeep_facts
from xprim_nb.magics.sheets import Facts, Pairs, facts_html, facts_text

if TYPE_CHECKING:
    from xprim_nb.cache.values import (
        Exported,
        InstalledModel,
        Peeked,
        Pruned,
        Pulled,
        PullPlan,
        Receipt,
        RemoteDetail,
        Removed,
        UpdateCheck,
    )
    from xprim_nb.config import Config
    from xprim_nb.refs import ModelRef
    from xprim_nb.registry.index import RemoteModel
    from xprim_nb.registry.manifest import FileEntry
    from xprim_nb.registry.publisher import Published
    from xprim_nb.toolkit import Toolkit

__all__ = ["FACTS", "Facts", "facts_html", "facts_line", "facts_of", "facts_text", "installed_facts"]


def facts_of(value: object) -> Facts:
    """What a value shows, itself or as what it is a kind of; nothing when it is none of those in `FACTS`."""
    for kind in type(value).__mro__:
        known = FACTS.get((kind.__module__, kind.__name__))
        if known is not None:
            return known(value)
    return {}


def facts_line(value: Any) -> str:  # noqa: ANN401  # any value, as `repr` takes it
    """A value among others, in one short line; its repr when there is none."""
    for kind in type(value).__mro__:
        if (kind.__module__, kind.__name__) in prompt_facts.LINES:
            return prompt_facts.LINES[kind.__module__, kind.__name__](value)
    facts, ref = facts_of(value), getattr(value, "ref", None) or getattr(value, "model_id", None)
    told = ", ".join(str(facts[name]) for name in ("Status", "Plan", "Freed", "Size") if name in facts)
    if told and ref:
        return f"<{type(value).__name__} {ref}: {told}>"
    if facts and any("__str__" in vars(kind) for kind in type(value).__mro__[:-1]):
        return f"<{type(value).__name__} {str(value).partition(chr(10))[0]}>"
    return repr(value)


def _files(files: Iterable[FileEntry]) -> Pairs:
    return tuple((each.path, format_bytes(each.size)) for each in files)


def _metadata(metadata: Mapping[str, Any]) -> Pairs:
    return tuple((key, str(value)) for key, value in metadata.items())


def _refs(refs: Iterable[ModelRef]) -> str:
    return "\n".join(map(str, refs)) or "none"


def installed_facts(model: InstalledModel) -> dict[str, str | Pairs]:
    """What an installed model shows."""
    files = getattr(model, "files", None)
    return {
        "Model": str(model.ref),
        "Status": "installed",
        "Size": format_bytes(model.total_size),
        "Installed": model.installed_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "Path": str(model.path),
        "Files": _files(files) if files else str(model.file_count),
    }


def _remote_facts(model: RemoteModel) -> Facts:
    size = "not said" if model.total_size is None else format_bytes(model.total_size)
    facts: dict[str, str | Pairs] = {"Model": str(model.ref), "Status": "in the registry"}
    facts |= {"Alias of": model.alias_of} if model.alias_of else {}
    return facts | {"Size": size} | ({"Metadata": _metadata(model.metadata)} if model.metadata else {})


def _detail_facts(detail: RemoteDetail) -> Facts:
    facts: dict[str, str | Pairs] = {"Model": str(detail.ref), "Status": "in the registry"}
    facts |= {"Alias of": detail.alias_of} if detail.alias_of else {}
    chunks = f"{detail.chunk_count} × {format_bytes(detail.chunk_size)}"
    facts |= {"Size": format_bytes(detail.total_size), "Chunks": chunks, "Files": _files(detail.files)}
    return facts | ({"Metadata": _metadata(detail.metadata)} if detail.metadata else {})


def _pulled_facts(pulled: Pulled) -> Facts:
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


def _receipt_facts(receipt: Receipt) -> Facts:
    def counted(size_bytes: int, chunks: int) -> str:
        return f"{format_bytes(size_bytes)} in {format_count(chunks, 'chunk')}"

    facts = {"Fetched": counted(receipt.bytes_network, receipt.chunks_network)}
    if receipt.chunks_present:
        facts["Unfinished"] = f"{counted(receipt.bytes_present, receipt.chunks_present)} of an earlier pull"
    if receipt.chunks_local:
        others = ", ".join(receipt.local_models)
        facts["This machine"] = counted(receipt.bytes_local, receipt.chunks_local) + (
            f", from {others}" if others else ""
        )
    facts["Written"] = format_bytes(receipt.bytes_written)
    facts["Took"] = format_seconds(receipt.seconds)
    facts |= {"Tried again": format_count(receipt.retries, "time")} if receipt.retries else {}
    return facts | ({"Put aside": str(receipt.kept)} if receipt.kept is not None else {})


def _plan_facts(plan: PullPlan) -> Facts:
    facts = {
        "Model": str(plan.ref),
        "Plan": plan.status.replace("_", " "),
        "Size": format_bytes(plan.total_size),
    }
    if plan.status == "already_installed":
        return facts
    chunks = format_count(plan.chunks_network, "chunk")
    facts["To fetch"] = f"{format_bytes(plan.bytes_network)} in {chunks}"
    if plan.bytes_present:
        facts["Unfinished"] = f"{format_bytes(plan.bytes_present)} of an earlier pull"
    if plan.bytes_local:
        others = f", from {', '.join(plan.local_models)}" if plan.local_models else ""
        facts["This machine"] = f"{format_bytes(plan.bytes_local)}{others}"
    fits = "" if plan.fits else f": {format_bytes(plan.disk_needed - plan.disk_free)} short"
    free = format_bytes(plan.disk_free)
    return facts | {"Disk": f"{format_bytes(plan.disk_needed)} needed, {free} free{fits}"}


def _removed_facts(removed: Removed) -> Facts:
    facts = {"Removed": str(removed.ref), "Freed": format_bytes(removed.bytes_freed)}
    return facts | ({"Put aside": str(removed.kept)} if removed.kept is not None else {})


def _check_facts(check: UpdateCheck) -> Facts:
    facts = {
        "Model": str(check.ref),
        "Status": "update available" if check.available else "up to date",
        "Installed": check.installed_version or check.installed_hash[:12],
        "Offered": check.remote_version or check.remote_hash[:12],
    }
    return facts | ({"Warning": check.notice} if check.notice else {})


def _pruned_facts(pruned: Pruned) -> Facts:
    facts = {"Removed": format_count(len(pruned.partials), "unfinished pull")}
    facts["Freed"] = format_bytes(pruned.bytes_freed)
    left = f"{format_count(len(pruned.in_use), 'pull')} at work"
    return facts | ({"Left alone": left} if pruned.in_use else {})


def _exported_facts(exported: Exported) -> Facts:
    chunks, size = format_count(exported.chunks_written, "chunk"), format_bytes(exported.bytes_written)
    facts = {"Exported": _refs(exported.refs), "Registry": str(exported.to), "Written": f"{chunks}, {size}"}
    return facts | ({"Note": "\n".join(exported.notes)} if exported.notes else {})


def _published_facts(published: Published) -> Facts:
    chunks = f"{format_count(published.chunks_total, 'chunk')}, {published.chunks_new:,} new"
    facts = {
        "Published": str(published.ref),
        "Size": f"{format_bytes(published.total_size)} in {format_count(published.files, 'file')}",
        "Chunks": f"{chunks} ({format_bytes(published.bytes_new)})",
    }
    facts |= {"Aliases": ", ".join(published.aliases)} if published.aliases else {}
    return facts | ({"Left out": ", ".join(published.skipped)} if published.skipped else {})


def _peeked_facts(peeked: Peeked) -> Facts:
    files = tuple(
        (path, format_count(len(file.tensors), "tensor")) for path, file in peeked.tensor_files.items()
    )
    facts: dict[str, str | Pairs] = {"Model": str(peeked.ref), "Size": format_bytes(peeked.total_size)}
    facts["Parameters"] = f"{peeked.parameters:,}"
    facts["Tensors"] = tuple((dtype, format_bytes(size)) for dtype, size in peeked.dtypes.items()) or "none"
    return facts | ({"Files": files} if files else {}) | {"Read": format_bytes(peeked.bytes_read)}


def _config_facts(config: Config) -> Facts:
    return config.told()


def _toolkit_facts(kit: Toolkit) -> Facts:
    registry = "the embedded demo registry" if kit.uses_demo_registry else kit.registry_url
    facts = {"Registry": registry, "Models in": str(kit.config.base_dir)}
    facts |= {"Offline": "yes"} if kit.config.offline else {}
    running = "\n".join(each.describe for each in kit.pulls())
    return facts | ({"At work": running} if running else {})


FACTS: Mapping[tuple[str, str], Callable[[Any], Facts]] = {
    ("xprim_nb.cache.values", "Exported"): _exported_facts,
    ("xprim_nb.cache.values", "InstalledModel"): installed_facts,
    ("xprim_nb.cache.values", "Peeked"): _peeked_facts,
    ("xprim_nb.cache.values", "Pruned"): _pruned_facts,
    ("xprim_nb.cache.values", "PullPlan"): _plan_facts,
    ("xprim_nb.cache.values", "Pulled"): _pulled_facts,
    ("xprim_nb.cache.values", "Receipt"): _receipt_facts,
    ("xprim_nb.cache.values", "RemoteDetail"): _detail_facts,
    ("xprim_nb.cache.values", "Removed"): _removed_facts,
    ("xprim_nb.cache.values", "UpdateCheck"): _check_facts,
    ("xprim_nb.config", "Config"): _config_facts,
    ("xprim_nb.registry.index", "RemoteModel"): _remote_facts,
    ("xprim_nb.registry.publisher", "Published"): _published_facts,
    ("xprim_nb.toolkit", "Toolkit"): _toolkit_facts,
    **ai_facts.FACTS,
    **cache_facts.FACTS,
    **prompt_facts.FACTS,
    **upkeep_facts.FACTS,
}
