"""Whose is this file, where did it come from, and why is it still here?

Source: spec 2 §Clean-up ("`why(path)` says which model a file belongs to and why it is kept").
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from xprim_nb._files import read_plain
from xprim_nb._text import format_count
from xprim_nb.cache.adopt.places import adopted_places
from xprim_nb.cache.kept import local_files
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.state import State
from xprim_nb.cache.store import read_manifest
from xprim_nb.cache.upkeep.archived import archive_of
from xprim_nb.cache.upkeep.cleanup import dependents
from xprim_nb.cache.upkeep.facts import Look
from xprim_nb.cache.upkeep.leases import lease_count
from xprim_nb.cache.upkeep.needs import needs_of
from xprim_nb.cache.upkeep.pins import pin_in, pin_of
from xprim_nb.cache.upkeep.values import Holding, told_readers
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError, StorageError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["Why", "WhyChunk", "why"]

_ADDED = "It is in no manifest: somebody added it, and it is never deleted with the model."
_UPSTREAMS = "A refresh put the new version's file here: the one of this name was changed on both sides."


class WhyChunk(NamedTuple):
    """A chunk that has bytes of a file.

    Attributes:
        digest: Its name.
        number: Its place in the model's stream.
        file_offset: Where its bytes begin in the file.
        length: How many of them the file has.
    """

    digest: str
    number: int
    file_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Why:
    """What is known of a path.

    Attributes:
        path: As it was asked for, absolute.
        kind: `model`, `partial`, `backup`, `archive`, `kept`, `chunk`, `manifest`, `bundle`, `adopted`, `own` (a file of
            ours, such as `registry.json`), `trash`, or `unknown`.
        ref: The version it belongs to; None for none.
        file: Its path inside the model; empty for none.
        registry: Where the model came from, masked; empty when that is not known.
        manifest_hash: The model's manifest; empty for none.
        chunks: The chunks that have bytes of the file.
        installed_at: When, in UTC.
        verified_at: When its bytes were last looked at, in UTC; None for never, or not known.
        used_at: When the model was last used, in UTC.
        kept_because: Sentences.
        removed_by: Sentences: what would take it away.
    """

    path: Path
    kind: str
    ref: ModelRef | None = None
    file: str = ""
    registry: str = ""
    manifest_hash: str = ""
    chunks: tuple[WhyChunk, ...] = ()
    installed_at: datetime | None = None
    verified_at: datetime | None = None
    used_at: datetime | None = None
    kept_because: tuple[str, ...] = ()
    removed_by: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        whose = f"{self.file or self.path.name} of {self.ref}" if self.ref else str(self.path)
        lines = [f"{whose} ({self.kind})"]
        if self.registry:
            lines.append(f"from {self.registry}, manifest {self.manifest_hash[:12]}")
        if self.installed_at:
            seen = f"{self.verified_at:%Y-%m-%d %H:%M}" if self.verified_at else "never since"
            lines.append(f"installed {self.installed_at:%Y-%m-%d %H:%M}, verified {seen}")
        if self.chunks:
            lines.append(
                f"in {format_count(len(self.chunks), 'chunk')}, the first {self.chunks[0].digest[:12]}"
            )
        return "\n".join([*lines, *self.kept_because, *self.removed_by])


def why(look: Look, state: State, path: Path) -> Why:
    """What is known of a path; a place outside of the cache is `unknown`, or `adopted`.

    Raises:
        StorageError: `registry.json` cannot be read.
    """
    base, layout = look.layout.base, look.layout
    path = path if path.is_absolute() else Path.cwd() / path
    parts = _below(base, path)
    if parts is None:
        return _outside(layout, path)
    if parts[:1] == ("cache",):
        return _in_cache(look, path, parts[1:])
    if parts[:1] == ("info",):
        name = "/".join(parts[1:3])
        because = (f"It belongs to the information bundle of {name}.",)
        return Why(path, "bundle", kept_because=because, removed_by=("Nothing removes it by itself.",))
    if len(parts) <= 1:
        return Why(path, "own", kept_because=(_OWN.get("".join(parts), "It is the models directory."),))
    for model in look.store.list():
        if parts[:3] == (model.ref.group, model.ref.model, model.ref.version):
            return _of_model(look, state, model, path, "/".join(parts[3:]))
    return Why(
        path,
        "unknown",
        kept_because=("No installed model is listed there: it is not ours, or was put there by hand.",),
        removed_by=("Nothing of ours removes it.",),
    )


_OWN = {
    "registry.json": "It names what is installed.",
    "state.sqlite": "It holds what was found out: deleting it loses no model.",
}


def _below(base: Path, path: Path) -> tuple[str, ...] | None:
    for one, other in ((base, path), (base.resolve(), path.parent.resolve() / path.name)):
        if other == one or other.is_relative_to(one):
            return other.relative_to(one).parts
    return None


def _outside(layout: Layout, path: Path) -> Why:
    try:
        places = adopted_places(layout)
    except StorageError:
        places = []
    for place in places:
        if path.is_relative_to(place.root):
            return Why(
                path,
                "adopted",
                kept_because=(
                    f"It lies in an adopted {place.kind} directory, {place.root}: pulls may read it.",
                ),
                removed_by=("Nothing of ours removes it; `forget_adopted` only stops reading it.",),
            )
    return Why(path, "unknown", kept_because=("It does not lie in the models directory.",))


def _of_model(look: Look, state: State, model: InstalledModel, path: Path, file: str) -> Why:
    ref = str(model.ref)
    used = look.used.get(ref)
    found = Why(
        path,
        "model",
        model.ref,
        file,
        str(model.extra.get("registry", "")),
        model.manifest_hash,
        installed_at=model.installed_at,
        verified_at=_verified_at(state, ref, file),
        used_at=used.when if used else None,
    )
    because = [f"{ref} is installed."]
    inside = file.partition("/")[0] == look.layout.metadata_name
    try:
        manifest = read_manifest(look.layout, model.path).manifest
        found = replace(found, chunks=_chunks(manifest, file))
        if file and not inside and not found.chunks and file not in {each.path for each in manifest.files}:
            is_upstreams = local_files(look.layout, model.path).get(file, {}).get("kind") == "upstream"
            because.append(_UPSTREAMS if is_upstreams else _ADDED)
    except StorageError:
        because.append("Its manifest cannot be read.")
    guards = _guards(look, model)
    removed = [f"`remove {ref}` takes it away; a clean-up may when the model is unused or over-age."]
    if guards:
        removed = [f"No clean-up takes it while that holds; `remove {ref}` does."]
    return replace(found, kept_because=(*because, *guards), removed_by=tuple(removed))


def _guards(look: Look, model: InstalledModel) -> list[str]:
    found = []
    if (pin := pin_of(model)) is not None:
        found.append(f"It is pinned: {pin.reason}")
    if leases := lease_count(look.layout, model.ref):
        found.append(f"{told_readers(leases)} it open.")
    others = [
        Holding("model", str(each.ref), "", (), ref=str(each.ref), depends_on=needs)
        for each in look.store.list()
        if each.ref != model.ref and (needs := needs_of(each, look.metadata.get(str(each.ref), {})))
    ]
    needed = dependents(Holding("model", str(model.ref), "", (), ref=str(model.ref)), others)
    return found + [f"{name} depends on it." for name in needed]


def _chunks(manifest: Manifest, file: str) -> tuple[WhyChunk, ...]:
    number = next((n for n, each in enumerate(manifest.files) if each.path == file), None)
    if number is None:
        return ()
    begin = manifest.file_starts[number]
    end = begin + manifest.files[number].size
    first = max(bisect_right(manifest.chunk_starts, begin) - 1, 0)
    last = bisect_left(manifest.chunk_starts, end) if end > begin else first
    found = []
    for index in range(first, last):
        start, size = manifest.chunk_starts[index], manifest.sizes[index]
        offset = max(start - begin, 0)
        found.append(
            WhyChunk(manifest.chunks[index], index, offset, min(start + size, end) - max(start, begin))
        )
    return tuple(found)


def _verified_at(state: State, ref: str, file: str) -> datetime | None:
    """The file's own check, else the model's."""

    def read() -> float | None:
        with state.reading() as connection:
            for query, values in (
                ("SELECT checked_at FROM checked_files WHERE ref = ? AND path = ?", (ref, file)),
                ("SELECT checked_at FROM verdicts WHERE ref = ?", (ref,)),
            ):
                row = connection.execute(query, values).fetchone()
                if row is not None:
                    return float(row[0])
        return None

    at = state.guarded(read, None) if state.path.exists() else None
    return datetime.fromtimestamp(at, UTC) if at else None


def _in_cache(look: Look, path: Path, parts: tuple[str, ...]) -> Why:
    layout, kind = look.layout, parts[0] if parts else ""
    ref, rest = _ref_in(parts)
    if kind == "partial" and len(parts) > 1:
        return _of_partial(layout, path, parts)
    if kind == "backup" and ref is not None:
        file = "/".join(rest[2:]) if rest[1:2] == ("tree",) else ""
        manifest_hash = _hash_in(layout, layout.cache.joinpath(*parts[:5], "tree"))
        return Why(
            path,
            "backup",
            ref,
            file,
            manifest_hash=manifest_hash,
            kept_because=(f"It is a backup of {ref}: `rollback {ref}` brings it back.",),
            removed_by=("A clean-up takes it when a newer backup of the same version exists.",),
        )
    if kind == "archive" and ref is not None:
        return _of_archive(layout, path, ref, rest)
    if kind == "kept" and ref is not None:
        return Why(
            path,
            "kept",
            ref,
            "/".join(rest[1:]),
            kept_because=(f"Somebody had changed or added it in {ref}: it was put aside when that went.",),
            removed_by=("Nothing of ours ever removes it: look through it, and delete it yourself.",),
        )
    told = {
        "chunks": ("chunk", "It is a loose chunk that a pull may use.", "A clean-up, or `prune`."),
        "manifests": ("manifest", "It is a manifest that was fetched.", "Nothing; it is small."),
        "trash": ("trash", "It is on its way out.", "`prune`, or the next pull."),
        "intents": ("own", "It is a swap or removal that was begun.", "The next operation ends it."),
        "locks": ("own", "It is a lock.", "Nothing; it is empty."),
        "leases": ("own", "It tells that a model is being read.", "Its reader, when done."),
        "index": ("own", "It is the registry's last answer.", "Nothing; it is small."),
        "adopted.json": ("own", "It names adopted directories.", "`forget_adopted`."),
    }
    known = told.get(kind, ("own", "It belongs to the cache.", "Nothing by itself."))
    return Why(path, known[0], kept_because=(known[1],), removed_by=(known[2],))


def _of_partial(layout: Layout, path: Path, parts: tuple[str, ...]) -> Why:
    manifest_hash, file = parts[1], "/".join(parts[3:]) if parts[2:3] == ("tree",) else ""
    chunks: tuple[WhyChunk, ...] = ()
    try:
        raw = read_plain(layout.manifests / manifest_hash)
        chunks = _chunks(Manifest.model_validate(orjson.loads(raw)), file)
    except (OSError, ValueError):  # emptied, or damaged: nothing can be said of its chunks
        chunks = ()
    return Why(
        path,
        "partial",
        file=file,
        manifest_hash=manifest_hash,
        chunks=chunks,
        kept_because=("It belongs to an unfinished pull: the same pull goes on from there.",),
        removed_by=("A clean-up or the next pull takes it when nobody touched it for a day; `prune` now.",),
    )


def _of_archive(layout: Layout, path: Path, ref: ModelRef, rest: tuple[str, ...]) -> Why:
    try:
        archived = archive_of(layout, ref)
    except StorageError as error:
        return Why(path, "archive", ref, kept_because=(error.message,), removed_by=("Nothing by itself.",))
    if archived is None:
        return Why(
            path,
            "archive",
            ref,
            kept_because=(f"It belongs to an archive of {ref} that was never finished.",),
            removed_by=("A clean-up takes it when it is stale; `archive` goes on from there.",),
        )
    file = ""
    if rest[:1] == ("local",) and len(rest) > 1:
        file = next((name for name, each in archived.document.local.items() if each.sha256 == rest[1]), "")
    chunks: tuple[WhyChunk, ...] = ()
    if rest[:1] == ("chunks",) and len(rest) > 1:
        chunks = (WhyChunk(rest[1].partition(".")[0], -1, 0, 0),)
    because = [f"{ref} is archived: `restore {ref}` brings it back, byte for byte."]
    if (pin := pin_in(ref, archived.document.entry)) is not None:
        because.append(f"It is pinned: {pin.reason}")
    if archived.local_files:
        because.append(f"It holds the last copy of {', '.join(archived.local_files[:3])}.")
    return Why(
        path,
        "archive",
        ref,
        file,
        str(archived.document.entry.get("registry", "")),
        archived.manifest_hash,
        chunks,
        archived.archived_at,
        kept_because=tuple(because),
        removed_by=(f"`restore {ref}`, `remove_archive {ref}`; a clean-up when space is short.",),
    )


def _ref_in(parts: tuple[str, ...]) -> tuple[ModelRef | None, tuple[str, ...]]:
    try:
        return ModelRef(*parts[1:4]).require_version(), parts[4:]
    except (InvalidRefError, TypeError):
        return None, ()


def _hash_in(layout: Layout, tree: Path) -> str:
    try:
        return str(read_manifest(layout, tree).digest)
    except StorageError:
        return ""
