"""What the panel beside the table says of one version: from its bundle, its files, or the registry's index.

Source: spec 3 §Views (ModelBrowser: "model card side panel from the information bundle, offline too").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from xprim_nb._text import format_bytes, format_count
from xprim_nb._threads import settled
from xprim_nb.cache.bundles.facts import split_front_matter
from xprim_nb.cache.bundles.naming import MODEL_CARD
from xprim_nb.cache.bundles.store import Bundle
from xprim_nb.cache.upkeep.facts import inodes_of
from xprim_nb.cache.upkeep.needs import needs_of
from xprim_nb.cache.values import InstalledModel, PullPlan
from xprim_nb.errors import NotInstalledError, XprimError
from xprim_nb.manager import Manager
from xprim_nb.refs import ModelRef
from xprim_widgets._base import told
from xprim_widgets._browser_rows import ModelRow, removal_text
from xprim_widgets.card import card_tree

__all__ = ["read_card", "weigh"]

_README = "documentation/README.md"
# What a panel has room for; a card of megabytes is nobody's reading.
_MAX_README_BYTES = 256 << 10
_MAX_VALUE = 2_000
_MAX_PAIRS = 40
_MAX_FILES = 20
_CARD_NAMES = {
    "summary": "Summary",
    "license": "Licence",
    "pipeline_tag": "Task",
    "library_name": "Library",
    "language": "Language",
    "base_model": "Made from",
    "datasets": "Datasets",
    "parameters": "Parameters",
    "licence": "Licence",
    "quantization": "Quantisation",
    "quantisation": "Quantisation",
    "description": "Description",
    "architecture": "Architecture",
}


async def read_card(manager: Manager, row: ModelRow, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The panel of one version; see `ModelBrowser.card`. Asks nobody for what is installed.

    Raises:
        StorageError: What is installed cannot be listed.
    """
    try:
        model: InstalledModel | None = await manager.get_installed(row.ref)
    except NotInstalledError:
        model = None
    plan, note = None, ""
    if model is None:
        try:
            plan = await manager.plan_pull(row.ref, manifest_hash=row.manifest_hash)
        except XprimError as error:
            note = f"Its manifest could not be had: {error.message}"
    return await settled(_panel, row, manager.bundle(row.ref), model, plan, metadata, note)


async def weigh(manager: Manager, ref: ModelRef, metadata: Mapping[str, Mapping[str, Any]]) -> str:
    """What removing a version does, as a sentence.

    Args:
        manager: Whose.
        ref: Which version.
        metadata: What the registry's index says of the others, by ref.

    Raises:
        NotInstalledError, StorageError: See `errors`.
    """
    model = await manager.get_installed(ref)
    models = await manager.list_installed()

    def said() -> str:
        names = {str(ref), ref.name}
        needing = [
            each.ref
            for each in models
            if each.ref != ref and names.intersection(needs_of(each, metadata.get(str(each.ref), {})))
        ]
        return removal_text(ref, inodes_of(model.path), needing)

    return await settled(said)


def _panel(
    row: ModelRow,
    bundle: Bundle,
    model: InstalledModel | None,
    plan: PullPlan | None,
    metadata: Mapping[str, Any],
    note: str,
) -> dict[str, Any]:
    notes = [note] if note else []
    readme = _readme(bundle, model, notes)
    if not readme and not notes:
        notes.append(
            "It has no card."
            if model is not None
            else "Its card comes with it; this is what the registry says."
        )
    pairs = [
        ("Version", f"{row.ref.version}, another name of {row.alias_of}" if row.alias_of else row.ref.version)
    ]
    if model is not None:
        pairs += _installed_pairs(model)
    elif plan is not None:
        pairs += _plan_pairs(plan)
    elif row.size_bytes is not None:
        pairs.append(("Size", format_bytes(row.size_bytes)))
    pairs += _told_pairs(_card_of(bundle, notes))
    known = {name.lower() for name, _ in pairs}
    pairs += [(name, text) for name, text in _told_pairs(metadata) if name.lower() not in known]
    return {
        "ref": str(row.ref),
        "installed": model is not None,
        "pairs": [[told(name)[:80], told(_cut(text))] for name, text in pairs[:_MAX_PAIRS]],
        "tree": card_tree(readme),
        "note": told(_cut(" ".join(notes))),
    }


def _installed_pairs(model: InstalledModel) -> list[tuple[str, str]]:
    return [
        ("Size", f"{format_bytes(model.total_size)} in {format_count(model.file_count, 'file')}"),
        ("Installed", f"{model.installed_at:%Y-%m-%d %H:%M} UTC"),
        ("Path", str(model.path)),
    ]


def _plan_pairs(plan: PullPlan) -> list[tuple[str, str]]:
    files = [f"{each.path} ({format_bytes(each.size)})" for each in plan.files[:_MAX_FILES]]
    if len(plan.files) > _MAX_FILES:
        files.append(f"and {len(plan.files) - _MAX_FILES} more")
    return [
        ("Size", f"{format_bytes(plan.total_size)}, {format_bytes(plan.bytes_network)} to fetch"),
        ("Files", "\n".join(files)),
    ]


def _readme(bundle: Bundle, model: InstalledModel | None, notes: list[str]) -> str:
    raw = b""
    try:
        raw = bundle.read_bytes(_README)[:_MAX_README_BYTES]
    except NotInstalledError:  # no bundle, or none with a README: the model may have brought one
        if model is not None:
            raw = _own_readme(model)
    except XprimError as error:
        notes.append(error.message)
    problems: list[str] = []
    _, body = split_front_matter(raw.decode(errors="replace"), problems)
    return body


def _own_readme(model: InstalledModel) -> bytes:
    path = model.path / "README.md"
    try:
        if not path.resolve().is_relative_to(model.path.resolve()):
            return b""
        with path.open("rb") as file:
            return file.read(_MAX_README_BYTES)
    except OSError:
        return b""


def _card_of(bundle: Bundle, notes: list[str]) -> Mapping[str, Any]:
    try:
        found = json.loads(bundle.read(MODEL_CARD))
    except NotInstalledError:
        return {}
    except (XprimError, ValueError, RecursionError) as error:
        notes.append(f"The bundle's card cannot be read: {error}")
        return {}
    return {key: found[key] for key in _CARD_NAMES if found.get(key)} if isinstance(found, dict) else {}


def _told_pairs(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value:,}"
        if text.strip():
            yield _CARD_NAMES.get(key, key), text


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
