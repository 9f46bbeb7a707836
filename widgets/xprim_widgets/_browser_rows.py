"""From what the registry lists and what is installed to the rows of the browser. Pure.

The catalogue is sent once, as columns; what changes is small, and names its row by number: which are installed, which
have an update, what a pull would fetch.

Source: spec 3 §Views (ModelBrowser); research notebook §8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from xprim_nb._text import clean, format_bytes
from xprim_nb.cache.upkeep.values import Inode
from xprim_nb.cache.values import InstalledModel
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import RemoteModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Catalogue", "ModelRow", "frame_of", "removal_text", "rows_of", "word"]

# Longer words are no licence and no quantisation; the card shows them whole.
_MAX_WORD = 48
_LICENCE = ("license", "licence")
_QUANTISATION = ("quantization", "quantisation", "quant", "dtype", "precision")
# A version that is named after its numbers' format: fp16, int8, q4_k_m, bf16, iq2_xs, awq, gptq.
_FORMAT = re.compile(r"(?:fp|bf|f|int|i?q|nf)\d{1,2}(?:[._-]\w+)*|awq|gptq", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A version that can be had, or is here.

    Attributes:
        ref: Which.
        size_bytes: Of all its files; None where the registry does not say.
        manifest_hash: What the registry offers; what is installed where it offers nothing.
        installed_hash: What is installed; empty when it is not.
        quantisation: Of its numbers, as the registry or the version's name says; empty where neither does.
        licence: As the registry says; empty where it does not.
        alias_of: The version it is another name of; empty for a real version.
    """

    ref: ModelRef
    size_bytes: int | None
    manifest_hash: str
    installed_hash: str = ""
    quantisation: str = ""
    licence: str = ""
    alias_of: str = ""

    @property
    def installed(self) -> bool:
        """True when some manifest of it is installed."""
        return bool(self.installed_hash)

    @property
    def has_update(self) -> bool:
        """True when the registry offers another manifest than the one installed."""
        return self.installed and self.installed_hash != self.manifest_hash

    @property
    def status(self) -> str:
        """`available`, `installed` or `update_available`."""
        if not self.installed:
            return "available"
        return "update_available" if self.has_update else "installed"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The rows, and as a front end gets them.

    Attributes:
        rows: Sorted by ref.
        number: The place of each ref among them.
        columns: What does not change while the list is the same: an unknown size is -1, words go by number.
        marks: The numbers of the rows that are installed, and of those that have an update.
    """

    rows: Sequence[ModelRow]
    number: Mapping[str, int]
    columns: dict[str, Any]
    marks: dict[str, list[int]]

    @classmethod
    def of(cls, rows: Sequence[ModelRow]) -> Self:
        """The catalogue of these rows."""
        columns = {
            "names": [row.ref.name for row in rows],
            "versions": [row.ref.version for row in rows],
            "sizes": [-1 if row.size_bytes is None else row.size_bytes for row in rows],
            "quantisations": _coded(row.quantisation for row in rows),
            "licences": _coded(row.licence for row in rows),
            "aliases": [[at, row.alias_of] for at, row in enumerate(rows) if row.alias_of],
        }
        marks = {
            "installed": [at for at, row in enumerate(rows) if row.installed],
            "update": [at for at, row in enumerate(rows) if row.has_update],
        }
        return cls(rows, {str(row.ref): at for at, row in enumerate(rows)}, columns, marks)


def word(value: object) -> str:
    r"""A value from a registry as one short line; empty when it is none.

    >>> word(" mit\n"), word(["mit"])
    ('mit', '')
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    text = clean(" ".join(str(value)[: 4 * _MAX_WORD].split()))
    return text if len(text) <= _MAX_WORD else f"{text[: _MAX_WORD - 1]}…"


def rows_of(listing: Iterable[RemoteModel], installed: Iterable[InstalledModel]) -> list[ModelRow]:
    """A row for each version that is listed or installed, sorted by ref."""
    here = {model.ref: model for model in installed}
    rows = []
    for each in listing:
        mine = here.pop(each.ref, None)
        rows.append(
            ModelRow(
                each.ref,
                each.total_size if each.total_size is not None else (mine.total_size if mine else None),
                each.manifest_hash,
                mine.manifest_hash if mine else "",
                _first(each.metadata, _QUANTISATION) or _format_in(each),
                _first(each.metadata, _LICENCE),
                each.alias_of or "",
            )
        )
    for mine in here.values():
        quantisation = mine.ref.version if _FORMAT.fullmatch(mine.ref.version) else ""
        rows.append(ModelRow(mine.ref, mine.total_size, mine.manifest_hash, mine.manifest_hash, quantisation))
    return sorted(rows, key=lambda row: row.ref)


def frame_of(
    rows: Sequence[ModelRow], to_fetch: Mapping[str, int], disk_free: int, memory_free: int
) -> pd.DataFrame:
    """Every row, whatever is filtered.

    Columns: `ref, group, model, version` string · `size_bytes` Int64 (NA where the registry does not say) ·
    `bytes_to_fetch` Int64 (NA where no pull was planned) · `quantisation, licence, alias_of` string (NA where not
    known) · `status` string (`available`, `installed`, `update_available`) · `fits_disk, fits_memory` bool (False
    where the size is not known) · `manifest_hash` string.

    Args:
        rows: The rows.
        to_fetch: Bytes that a pull would fetch, by manifest hash.
        disk_free: Bytes free on the disk of the models.
        memory_free: Bytes of memory that are free.
    """
    from xprim_nb.reports import columns  # noqa: PLC0415  # house: a browser is shown without pandas

    kinds = {
        **dict.fromkeys(("ref", "group", "model", "version"), columns.TEXT),
        **dict.fromkeys(("size_bytes", "bytes_to_fetch"), columns.MAYBE_BYTES),
        **dict.fromkeys(("quantisation", "licence", "alias_of", "status"), columns.TEXT),
        **dict.fromkeys(("fits_disk", "fits_memory"), columns.FLAG),
        "manifest_hash": columns.TEXT,
    }
    return columns.typed_frame(
        kinds,
        (
            (
                str(row.ref),
                row.ref.group,
                row.ref.model,
                row.ref.version,
                row.size_bytes,
                to_fetch.get(row.manifest_hash) if row.status != "installed" else 0,
                row.quantisation or None,
                row.licence or None,
                row.alias_of or None,
                row.status,
                row.status == "installed" or _holds(disk_free, row.size_bytes),
                _holds(memory_free, row.size_bytes),
                row.manifest_hash,
            )
            for row in rows
        ),
    )


def removal_text(ref: ModelRef, inodes: Iterable[Inode], needed_by: Sequence[ModelRef]) -> str:
    """What removing a version does, before it is done.

    Args:
        ref: Which.
        inodes: What its directory is made of.
        needed_by: Installed versions that name it as what they need.
    """
    listed = list(inodes)
    freed = sum(each.disk_bytes for each in listed if each.links <= each.seen)
    shared = sum(each.disk_bytes for each in listed if each.links > each.seen)
    said = [f"Remove {ref}? It frees {format_bytes(freed)}."]
    if shared:
        said.append(f"{format_bytes(shared)} are shared with files elsewhere, and stay.")
    said.append("Models that have chunks in common with it have their own copies and stay usable.")
    if needed_by:
        names = ", ".join(map(str, needed_by[:3]))
        more = f" and {len(needed_by) - 3} more" if len(needed_by) > 3 else ""
        said.append(f"But it is needed by {names}{more}.")
    return " ".join(said)


def _holds(free: int, size_bytes: int | None) -> bool:
    return size_bytes is not None and size_bytes <= free


def _coded(words: Iterable[str]) -> dict[str, Any]:
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(each, len(numbers)) for each in words]
    return {"words": list(numbers), "codes": codes}


def _first(metadata: Mapping[str, Any], names: Sequence[str]) -> str:
    for name in names:
        if name in metadata and (found := word(metadata[name])):
            return found
    return ""


def _format_in(model: RemoteModel) -> str:
    for version in (model.ref.version, model.alias_of or ""):
        if _FORMAT.fullmatch(version):
            return version
    return ""
