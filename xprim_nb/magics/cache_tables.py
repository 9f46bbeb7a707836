"""Lists about the cache that show as tables.

Source: spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from xprim_nb._text import STATUS_WORDS, format_bytes
from xprim_nb.magics.cache_facts import when
from xprim_nb.magics.tables import Rows

if TYPE_CHECKING:
    from xprim_nb.cache.adopt.scanning import AdoptedPlace
    from xprim_nb.cache.health.report import ValidationReport
    from xprim_nb.cache.renewal.values import Backup
    from xprim_nb.cache.upkeep.archived import Archived
    from xprim_nb.cache.upkeep.pins import Pin

__all__ = ["archives", "backups", "pins", "places", "reports"]


def reports(found: Iterable[ValidationReport]) -> Rows[ValidationReport]:
    """What was found in each model."""
    listed = list(found)
    cells = [
        (
            each.model_id,
            STATUS_WORDS[each.overall_status],
            each.depth,
            "; ".join(map(str, each.findings)) or each.recommendations.details,
        )
        for each in listed
    ]
    bad = next((each for each in listed if each.overall_status == "failed"), None)
    note = "" if listed else "Nothing is installed."
    if bad is not None:
        note = bad.recommendations.details
    return Rows.of(listed, ("model", "health", "looked", "found"), cells, note)


def backups(found: Iterable[Backup]) -> Rows[Backup]:
    """Versions that were put aside."""
    listed = list(found)
    cells = [
        (
            str(each.ref),
            each.id,
            when(each.made_at),
            format_bytes(each.size_bytes),
            each.problem or each.manifest_hash[:12],
        )
        for each in listed
    ]
    note = "" if listed else "There are no backups; `%xprim refresh` makes them."
    return Rows.of(listed, ("model", "backup", "made", "size", "manifest"), cells, note)


def pins(found: Iterable[Pin]) -> Rows[Pin]:
    """What is kept from every clean-up."""
    listed = list(found)
    cells = [(str(each.ref), when(each.at) if each.at else "", each.reason) for each in listed]
    note = "" if listed else "Nothing is pinned; `%xprim pin REF` keeps a model from every clean-up."
    return Rows.of(listed, ("model", "since", "reason"), cells, note)


def archives(found: Iterable[Archived]) -> Rows[Archived]:
    """What is stored compressed."""
    listed = list(found)
    cells = [
        (
            str(each.ref),
            format_bytes(each.model_bytes),
            format_bytes(each.stored_bytes),
            when(each.archived_at),
        )
        for each in listed
    ]
    note = "" if listed else "Nothing is archived; `%xprim archive REF` stores a model compressed."
    return Rows.of(listed, ("model", "size", "stored", "since"), cells, note)


def places(found: Iterable[AdoptedPlace]) -> Rows[AdoptedPlace]:
    """Directories of other programs that serve pulls."""
    listed = list(found)
    cells = [
        (each.root, each.kind, str(len(each.files)), format_bytes(each.size_bytes), str(len(each.models)))
        for each in listed
    ]
    note = "" if listed else "Nothing is adopted; `%xprim adopt hf` takes the Hugging Face cache."
    return Rows.of(listed, ("place", "kind", "files", "size", "models"), cells, note)
