"""What a registry lists: `models.json`, `{group: {model: {version: entry}}}`.

An entry that breaks the format is set aside with its reason, so that it blocks itself and nothing else.

Source: spec 1 §Wire format (aliases: depth ≤ 8, a loop is an error; unknown keys are ignored and kept).
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from xprim_nb._hashing import Digest, is_digest
from xprim_nb.errors import InvalidRefError, ModelNotFoundError, RegistryError, VersionNotFoundError
from xprim_nb.refs import ModelRef

__all__ = ["MAX_ALIAS_DEPTH", "Index", "RemoteModel", "parse_index"]

MAX_ALIAS_DEPTH = 8

# Every one of them is logged; a hostile index of 64 MiB has room for millions.
_MAX_TOLD = 100

# difflib's own cutoff for close matches.
_ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """One line of the index.

    Attributes:
        ref: Which model and version.
        manifest_hash: Digest of its manifest.
        total_size: In bytes; None when the index does not say.
        alias_of: The version this one is another name of, at the end of the chain; None for a real version.
        metadata: What the publisher added.
    """

    ref: ModelRef
    manifest_hash: Digest
    total_size: int | None = None
    alias_of: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Index:
    """A parsed `models.json`.

    Attributes:
        models: Sorted by ref.
        problems: Entries that break the format, with the reason; asking for one raises it.
    """

    models: Mapping[ModelRef, RemoteModel]
    problems: Mapping[ModelRef, str]
    unnamed_problems: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[RemoteModel]:
        return iter(self.models.values())

    def told_problems(self) -> list[str]:
        """A sentence for each entry that is left out of the list, for a log; not for all when they are very many."""
        named = [f"{ref} is left out: {problem}" for ref, problem in islice(self.problems.items(), _MAX_TOLD)]
        if (more := len(self.problems) - _MAX_TOLD) > 0:
            named.append(f"{more} more {'entry is' if more == 1 else 'entries are'} left out.")
        return [*self.unnamed_problems, *named]

    def get(self, ref: ModelRef) -> RemoteModel:
        """The entry for a version.

        Raises:
            ModelNotFoundError: The registry has no such model.
            VersionNotFoundError: The model has no such version; the hint lists those it has.
            RegistryError: The entry breaks the format.
        """
        ref.require_version()
        if ref in self.problems:
            raise RegistryError(f"models.json: {ref}: {self.problems[ref]}", subject=str(ref))
        if ref in self.models:
            return self.models[ref]
        versions = [model.ref.version for model in self.versions(ref)]
        raise VersionNotFoundError(
            f"{ref.name} has no version {ref.version!r}.",
            subject=str(ref),
            hint=f"It has: {', '.join(versions)}.",
        )

    def versions(self, ref: ModelRef) -> list[RemoteModel]:
        """Every version of a model.

        Raises:
            ModelNotFoundError: The registry has no such model.
        """
        found = [each for each in self if (each.ref.group, each.ref.model) == (ref.group, ref.model)]
        if not found:
            near = _near(ref, {each.ref.name: each.ref for each in self}.values())
            hint = f"Did you mean {', '.join(near[:5])}?" if near else ""
            raise ModelNotFoundError(f"The registry has no model {ref.name}.", subject=ref.name, hint=hint)
        return found


def _near(wanted: ModelRef, known: Iterable[ModelRef]) -> list[str]:
    """Names that may have been meant, the likeliest first.

    Group and model are compared apart: a long group in common makes no two models alike.
    """
    scored, groups = [], dict[str, float]()
    for ref in known:
        if ref.group not in groups:
            groups[ref.group] = _likeness(wanted.group, ref.group)
        group, begins = groups[ref.group], ref.model.startswith(wanted.model)
        if not begins and not group:
            continue
        model = _likeness(wanted.model, ref.model)
        if begins or model:
            scored.append((-group - model, ref.name))
    return [name for _, name in sorted(scored)]


def _likeness(one: str, other: str) -> float:
    """How alike two names are, up to 1; 0 when they are not. The cheap bounds come first: an index may be long."""
    pair = difflib.SequenceMatcher(None, one.lower(), other.lower())
    if pair.real_quick_ratio() < _ALIKE or pair.quick_ratio() < _ALIKE:
        return 0.0
    likeness = pair.ratio()
    return likeness if likeness >= _ALIKE else 0.0


def parse_index(raw: bytes) -> Index:
    """The index in `raw`.

    Raises:
        RegistryError: It is not a JSON object at all.
    """
    try:
        document = orjson.loads(raw)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise RegistryError(f"models.json is not JSON: {error}", subject="models.json") from error
    if not isinstance(document, dict):
        raise RegistryError(
            f"models.json is a {type(document).__name__}, not an object.", subject="models.json"
        )
    entries: dict[ModelRef, Mapping[str, Any]] = {}
    problems: dict[ModelRef, str] = {}
    unnamed: list[str] = []
    for group, models in document.items():
        for model, versions in _items(models, group, unnamed):
            for version, entry in _items(versions, f"{group}/{model}", unnamed):
                try:
                    ref = ModelRef(group, model, version).require_version()
                except InvalidRefError as error:
                    _note(unnamed, error.message)
                    continue
                problem = _problem(entry)
                if problem is None:
                    entries[ref] = entry
                else:
                    problems[ref] = problem
    return _resolved(entries, problems, unnamed)


def _items(value: object, place: str, unnamed: list[str]) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    _note(unnamed, f"{place[:200]!r} is a {type(value).__name__}, not an object.")
    return []


def _note(unnamed: list[str], reason: str) -> None:
    if len(unnamed) < _MAX_TOLD:
        unnamed.append(reason)
    elif len(unnamed) == _MAX_TOLD:
        unnamed.append("models.json has more entries without a usable name than are listed here.")


def _problem(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return f"the entry is a {type(entry).__name__}, not an object."
    if not is_digest(entry.get("hash")):
        return f"hash is {reprlib.repr(entry.get('hash'))}, not 64 lower-case hexadecimal digits."
    size = entry.get("total_size")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        return f"total_size is {reprlib.repr(size)}, not a number of bytes."
    if not isinstance(entry.get("metadata", {}) or {}, dict):
        return "metadata is not an object."
    if not isinstance(entry.get("alias") or "", str):
        return "alias is not the name of a version."
    return None


def _resolved(
    entries: Mapping[ModelRef, Mapping[str, Any]], problems: dict[ModelRef, str], unnamed: list[str]
) -> Index:
    models: dict[ModelRef, RemoteModel] = {}
    for ref in sorted(entries):
        entry = entries[ref]
        target = ref
        try:
            target = _follow(ref, entries)
        except RegistryError as error:
            problems[ref] = error.message
            continue
        size = entry.get("total_size", entries[target].get("total_size"))
        models[ref] = RemoteModel(
            ref=ref,
            manifest_hash=Digest(entry["hash"]),
            total_size=size,
            alias_of=target.version if target != ref else None,
            metadata=entry.get("metadata") or entries[target].get("metadata") or {},
        )
    return Index(models, problems, tuple(unnamed))


def _follow(ref: ModelRef, entries: Mapping[ModelRef, Mapping[str, Any]]) -> ModelRef:
    seen, current = [ref.version], ref
    while alias := entries[current].get("alias"):
        if alias in seen:
            raise RegistryError(f"the aliases form a loop: {' → '.join([*seen, alias])}.")
        seen.append(alias)
        if len(seen) > MAX_ALIAS_DEPTH + 1:
            raise RegistryError(f"the aliases are chained more than {MAX_ALIAS_DEPTH} deep.")
        try:
            current = ref.with_version(alias)
        except InvalidRefError as error:
            raise RegistryError(f"alias {alias[:100]!r} is not a version name.") from error
        if current not in entries:
            raise RegistryError(f"it is an alias of {alias!r}, which is not listed.")
        if entries[current]["hash"] != entries[ref]["hash"]:
            raise RegistryError(f"it is an alias of {alias!r}, and the two name different manifests.")
    return current
