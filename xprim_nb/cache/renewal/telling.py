"""The sentences a user reads: what was found, what became of his files, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.renewal.changes import LocalFile
from xprim_nb.cache.renewal.merge import FileChange
from xprim_nb.cache.renewal.values import Refreshed
from xprim_nb.refs import ModelRef

__all__ = ["told_damage", "told_plan", "told_result"]

# More names than this are counted.
_NAMED = 5


def told_damage(ref: ModelRef, local: Mapping[str, LocalFile], *, renewed: bool = False) -> tuple[str, ...]:
    """What was found damaged or missing, and how it is mended.

    Args:
        ref: Which version.
        local: What was found.
        renewed: True when the new version has them whole.
    """
    told = []
    kinds = {"damaged": "damaged", "absent": "missing", "replaced": "no plain files any more"}
    for state, words in kinds.items():
        paths = [path for path, found in local.items() if found.state == state]
        if paths:
            end = "renewed" if renewed else f"mend it: `xprim cache repair {ref}`"
            told.append(f"{named(paths)}: {words}; {end}.")
    return tuple(told)


def told_plan(changes: Sequence[FileChange]) -> tuple[str, ...]:
    """What is not sure yet, and what does not find its place."""
    open_questions = [each.path for each in changes if each.action == "conflict" and not each.certain]
    told = []
    if open_questions:
        told.append(
            f"Whether the new version changed {named(open_questions)} is known when its bytes are here."
        )
    return (*told, *_told_aside(changes, "would stay"))


def told_result(done: Refreshed) -> tuple[str, ...]:
    """What became of it."""
    if done.status == "rolled_back":
        return (
            f"{done.ref} was rolled back: the new version was not what its manifest says. The old one is in place.",
        )
    updated = format_count(len(done.updated_files), "file")
    told = [f"{done.ref} is at {done.model.manifest_hash[:12]}: {updated} updated."]
    if done.status == "failed":
        told = [f"{done.ref} is at {done.model.manifest_hash[:12]}, and is not what its manifest says."]
    fetched, local = done.receipt.bytes_network, done.receipt.bytes_local
    told.append(f"{format_bytes(fetched)} were fetched, {format_bytes(local)} were on this machine.")
    mine = [path for path in done.kept if path not in {each.path for each in done.conflicts}]
    if mine:
        told.append(f"Kept as you left them: {named(mine)}.")
    for each in done.conflicts:
        beside = (
            f"the new version's is beside it as {each.upstream_path}"
            if each.upstream_path
            else "the new version has no such file"
        )
        told.append(f"Changed on both sides: {each.path} is yours, {beside}.")
    if done.set_aside:
        where = f"in the backup {done.backup.id}" if done.backup else f"in {done.kept_in}"
        told.append(f"Set aside, {where}: {named(done.set_aside)}.")
    if done.backup is not None:
        told.append(
            f"The old version is the backup {done.backup.id}; back to it: `xprim cache rollback {done.ref}`."
        )
    return tuple(told)


def named(paths: Sequence[str]) -> str:
    """A few names, and how many more there are.

    >>> named(["a", "b"]), named(list("abcdefg"))
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _told_aside(changes: Sequence[FileChange], verb: str) -> tuple[str, ...]:
    paths = [each.path for each in changes if each.action == "set_aside"]
    if not paths:
        return ()
    return (f"{named(paths)} {verb} with the old version alone.",)
