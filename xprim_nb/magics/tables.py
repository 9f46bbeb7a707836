"""What the commands return that the core has no value for: lists that show as tables, a model with its files.

Source: spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Generic, Self, TypeVar

from xprim_nb._bridge import Handle
from xprim_nb._text import clean, format_bytes, format_seconds
from xprim_nb.cache.values import InstalledModel, Pulled, Removed, UpdateCheck
from xprim_nb.magics import faces, facts
from xprim_nb.magics.wording import in_notebook
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.registry.manifest import FileEntry

__all__ = [
    "InstalledDetail",
    "Rows",
    "checks",
    "everything",
    "installed",
    "pulls",
    "remote",
    "removals",
    "running",
]

_T = TypeVar("_T")

# What stands between two prices would be set as a formula.
_NO_MATHS = "mathjax_ignore tex2jax_ignore"
_HEADERS: tuple[str, ...] = ("model", "version", "size", "alias of", "here")


class Rows(tuple[_T, ...], Generic[_T]):
    """Values in order, shown as a table; a slice is no table any more.

    Attributes:
        headers: Of the columns.
        cells: A row of text for each value.
        note: A sentence under the table, or several lines; empty when there is nothing to say.
    """

    headers: Sequence[str]
    cells: Sequence[Sequence[str]]
    note: str

    @classmethod
    def of(
        cls, values: Iterable[_T], headers: Sequence[str], cells: Iterable[Sequence[str]], note: str = ""
    ) -> Self:
        """The values with their table."""
        rows = cls(values)
        rows.headers, rows.cells, rows.note = headers, list(cells), note
        return rows

    def __repr__(self) -> str:
        lines = [self.headers, *self.cells]
        widths = [max(len(line[column]) for line in lines) + 2 for column in range(len(self.headers))]
        shown = [
            "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return clean(in_notebook("\n".join([*shown, self.note] if self.note else shown)))

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="text-align:left">{escape(name)}</th>' for name in self.headers
        )
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{_escaped(cell)}</td>' for cell in row) + "</tr>"
            for row in self.cells
        )
        note = (
            f'<p class="{_NO_MATHS}" style="white-space:pre-wrap">{_escaped(self.note)}</p>'
            if self.note
            else ""
        )
        return f'<table class="xprim-rows {_NO_MATHS}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}'


@dataclass(frozen=True, slots=True)
class InstalledDetail(InstalledModel):
    """An installed model, and its files in the manifest's order."""

    files: tuple[FileEntry, ...] = ()

    def __repr__(self) -> str:
        return facts.facts_text(facts.installed_facts(self))

    def _repr_html_(self) -> str:
        return facts.facts_html(facts.installed_facts(self))


def installed(models: Iterable[InstalledModel], *, filtered: str = "") -> Rows[InstalledModel]:
    """Installed models as a table."""
    kept = [each for each in models if filtered.lower() in str(each.ref).lower()]
    cells = [
        (each.ref.name, each.ref.version, format_bytes(each.total_size), f"{each.installed_at:%Y-%m-%d}")
        for each in kept
    ]
    note = (
        "" if kept or filtered else "Nothing is installed yet; `%xprim models --remote` shows what there is."
    )
    return Rows.of(
        kept, ("model", "version", "size", "installed"), cells, note or _none_found(kept, filtered)
    )


def remote(
    listing: RemoteListing, here: Iterable[InstalledModel] | None = None, *, filtered: str = ""
) -> Rows[RemoteModel]:
    """What a registry lists as a table, with what of it is installed where that is known."""
    known = {each.ref: each.manifest_hash for each in here or ()}
    kept = [each for each in listing if filtered.lower() in str(each.ref).lower()]
    cells: list[tuple[str, ...]] = [
        (each.ref.name, each.ref.version, _size(each.total_size), each.alias_of or "", _presence(each, known))
        for each in kept
    ]
    note = "" if listing else "This registry lists no models."
    if listing.stale:
        note = f"{listing.source} as of {format_seconds(listing.age_s)} ago: {listing.why_stale}"
    headers = _HEADERS
    if here is None:
        headers, cells = headers[:-1], [row[:-1] for row in cells]
    return Rows.of(kept, headers, cells, note or _none_found(kept, filtered))


def everything(
    listing: RemoteListing | None, here: Iterable[InstalledModel]
) -> Rows[InstalledModel | RemoteModel]:
    """What there is and what is installed in one table; what a registry lists no more is there too."""
    installed = list(here)
    table = remote(listing, installed) if listing is not None else Rows[RemoteModel].of((), _HEADERS, ())
    listed = {each.ref for each in table}
    others = [each for each in installed if each.ref not in listed]
    rows: list[tuple[InstalledModel | RemoteModel, Sequence[str]]] = [
        *zip(table, table.cells, strict=True),
        *(
            (each, (each.ref.name, each.ref.version, format_bytes(each.total_size), "", "installed"))
            for each in others
        ),
    ]
    rows.sort(key=lambda row: row[0].ref)
    note = table.note or ("" if rows else "Nothing is installed, and no registry could be asked.")
    return Rows.of((value for value, _ in rows), _HEADERS, [cells for _, cells in rows], note)


def running(handles: Iterable[Handle[Pulled]]) -> Rows[Handle[Pulled]]:
    """Pulls in flight, each with the line that says how far it is."""
    listed = list(handles)
    cells = [
        (each.describe.removeprefix("pull "), faces.handle_text(each).removeprefix(f"{each.describe}: "))
        for each in listed
    ]
    return Rows.of(listed, ("pull", "how far"), cells, "" if listed else "No pull is running.")


def checks(found: Iterable[UpdateCheck]) -> Rows[UpdateCheck]:
    """Answers of the registry about installed versions as a table."""
    listed = list(found)
    cells = [
        (
            each.ref.name,
            each.ref.version,
            "update available" if each.available else "up to date",
            each.installed_version or each.installed_hash[:12],
            each.remote_version or each.remote_hash[:12],
        )
        for each in listed
    ]
    note = "" if listed else "No installed version is in the registry."
    return Rows.of(listed, ("model", "version", "status", "installed", "offered"), cells, note)


def pulls(done: Iterable[Pulled]) -> Rows[Pulled]:
    """Results of pulls as a table."""
    listed = list(done)
    cells = [
        (each.ref.name, each.ref.version, each.status, format_bytes(each.model.total_size)) for each in listed
    ]
    return Rows.of(
        listed, ("model", "version", "status", "size"), cells, "" if listed else "Everything is up to date."
    )


def removals(removed: Iterable[Removed]) -> Rows[Removed]:
    """Removed versions as a table."""
    listed = list(removed)
    cells = [(each.ref.name, each.ref.version, format_bytes(each.bytes_freed)) for each in listed]
    return Rows.of(listed, ("removed", "version", "freed"), cells)


def _escaped(text: str) -> str:
    return escape(clean(in_notebook(text)))


def _size(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else format_bytes(size_bytes)


def _presence(model: RemoteModel, known: Mapping[ModelRef, str]) -> str:
    if model.ref not in known:
        return ""
    return "installed" if known[model.ref] == model.manifest_hash else "update available"


def _none_found(kept: Sequence[object], filtered: str) -> str:
    return f"No name contains {filtered!r}." if filtered and not kept else ""
