"""Make a bundle from URLs: directories → documents → checksums → manifest → completeness.

What could be fetched is kept, whatever else failed or whoever was killed: the same request asks again only for what is
not there, and with the validators of what is.

    1. A document that lies there as it was written is asked for conditionally; 304 leaves it.
    2. One that is missing is fetched.
    3. One that somebody edited stays; what upstream has is written beside it when that changed.
    4. What could not be had is remembered as a sentence; the others go on.

Source: spec 2 §Information bundle, §Refresh (three-way); seeds/000 §Cache Initialization & Download.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import orjson
from pydantic import BaseModel, ConfigDict

from xprim_nb._hashing import sha256_hex
from xprim_nb._text import format_count
from xprim_nb._threads import settled
from xprim_nb.cache.bundles.derive import card_of_readme, json_bytes
from xprim_nb.cache.bundles.fetch import Fetcher
from xprim_nb.cache.bundles.manifest import CacheInitRequest, CacheManifest, DocumentSource
from xprim_nb.cache.bundles.naming import PlannedDocument, plan_documents
from xprim_nb.cache.bundles.store import Bundle, Shelf
from xprim_nb.cache.health.report import ValidationReport
from xprim_nb.errors import NetworkError, RegistryError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.sources.answers import shown_url
from xprim_nb.registry.sources.contract import Document

__all__ = ["BundlePlan", "FetchStep", "Initialized", "fetch_documents", "plan_initialize"]

StepAction: TypeAlias = Literal["fetch", "check", "keep"]

# A paper with figures has some tens of MB; texts are smaller by far. What is larger is not what was meant.
_LIMIT_BYTES = {"model_card": 8 << 20, "documentation": 16 << 20, "examples": 32 << 20, "papers": 64 << 20}
# Documents are small, and their servers are strangers: polite, and fast enough.
_AT_ONCE = 4


class Initialized(BaseModel):
    """What became of a request: the seed's result, and what changed.

    Attributes:
        success: The bundle is valid.
        cache_path: Its directory.
        manifest: What it says of itself now.
        validation_report: How it is, and what is missing.
        updated: Documents that were written.
        conflicts: Documents edited here and changed upstream; upstream's is beside them, as `<name>.upstream`.
        problems: What could not be had, as sentences.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    success: bool
    cache_path: str
    manifest: CacheManifest
    validation_report: ValidationReport
    updated: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        whole = f"bundle of {self.manifest.model_id}: {self.manifest.validation_status}, {self.cache_path}"
        return "\n".join([whole, *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True, slots=True)
class FetchStep:
    """One document and what would be done with it.

    Attributes:
        path: Where it lies or goes.
        url: Where it comes from; empty for a document that is derived.
        action: `fetch`, `check` (ask whether it changed) or `keep` (edited here; asked for, written beside).
    """

    path: str
    url: str
    action: StepAction

    def __str__(self) -> str:
        return f"{self.action:<6} {self.path} ← {shown_url(self.url) if self.url else 'derived'}"


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What making or refreshing a bundle would do.

    Attributes:
        ref: The model.
        steps: By document.
        offline: Only `file://` URLs would be asked.
    """

    ref: ModelRef
    steps: tuple[FetchStep, ...]
    offline: bool = False

    def __str__(self) -> str:
        head = f"bundle of {self.ref.name}: {format_count(len(self.steps), 'document')}"
        head += "; offline, so http(s) documents stay as they are" if self.offline else ""
        return "\n".join([head, *(f"  {step}" for step in self.steps)])


@dataclass
class Outcome:
    """What a round of fetching did. Filled as it happens.

    Attributes:
        updated: Paths written.
        conflicts: Paths whose upstream version was written beside.
        failures: Sentences by URL.
        answered: URLs whose server said something, be it "unchanged".
    """

    updated: list[str]
    conflicts: list[str]
    failures: dict[str, str]
    answered: set[str]


def plan_initialize(
    bundle: Bundle, request: CacheInitRequest, shelf: Shelf | None, *, offline: bool
) -> BundlePlan:
    """What `fetch_documents` would do. Reads what is there; asks nobody.

    Raises:
        ConfigError: A URL cannot be used.
    """
    actions: Mapping[str, StepAction] = {"ours": "check", "edited": "keep", "missing": "fetch"}
    steps = []
    for planned in plan_documents(request):
        path = _path_of(shelf, planned) if shelf is not None else planned.path
        state = shelf.state_of(path) if shelf is not None else "missing"
        steps.append(FetchStep(path, planned.url, actions[state]))
    return BundlePlan(bundle.ref, tuple(steps), offline)


async def fetch_documents(
    shelf: Shelf,
    documents: tuple[PlannedDocument, ...],
    fetcher: Fetcher,
    *,
    damaged: Mapping[str, Path] | None = None,
) -> Outcome:
    """Bring documents, a few at once; each is on disk, and known, as soon as it is here.

    Args:
        shelf: The bundle; its lock is held.
        documents: Which.
        fetcher: How.
        damaged: Where what lies at these paths is put aside; they are asked for without validators.

    Raises:
        StorageError: The disk refused.
    """
    outcome, damaged = Outcome([], [], dict[str, str](), set()), damaged or {}
    turns, writing = asyncio.Semaphore(_AT_ONCE), asyncio.Lock()

    async def bring(planned: PlannedDocument) -> None:
        async with turns:
            path = await settled(_path_of, shelf, planned)
            state = "missing" if path in damaged else await settled(shelf.state_of, path)
            known = shelf.sources.documents.get(path)
            asks = known is not None and known.url == planned.url and state != "missing"
            try:
                found = await fetcher.fetch(
                    planned.url,
                    known.etag if asks and known is not None else "",
                    known.last_modified if asks and known is not None else "",
                    limit_bytes=_LIMIT_BYTES[planned.kind],
                )
                if found.raw is not None:
                    path, data = _shaped(shelf.bundle.ref, planned, path, found.raw)
            except (NetworkError, RegistryError, _NotADocumentError) as error:  # 4
                outcome.failures[planned.url] = error.message
                return
            outcome.answered.add(planned.url)
            if found.raw is not None:
                async with writing:  # one writer of the records
                    if path in damaged:
                        await settled(shelf.put_aside, path, damaged[path])
                    await settled(_keep, shelf, planned, path, data, found, state, outcome)

    tasks = [asyncio.create_task(bring(planned)) for planned in documents]
    try:
        await asyncio.gather(*tasks)
    finally:  # a full disk ends the others too, and nobody writes any more when this has returned
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    failures = {url: text for url, text in shelf.sources.failures.items() if url not in outcome.answered}
    await settled(shelf.note, failures={**failures, **outcome.failures})
    return outcome


def _keep(
    shelf: Shelf,
    planned: PlannedDocument,
    path: str,
    data: bytes,
    found: Document,
    state: str,
    outcome: Outcome,
) -> None:
    """Write one document that came: in its place, or beside what somebody edited."""
    digest = sha256_hex(data)
    source = DocumentSource(
        origin="fetched", url=planned.url, etag=found.etag, last_modified=found.last_modified, sha256=digest
    )
    known = shelf.sources.documents.get(path)
    if state == "edited":  # 3
        if known is None or known.sha256 != digest:
            shelf.put_beside(path, data)
            outcome.conflicts.append(path)
        return
    if known is not None and known.sha256 == digest and state == "ours":  # the server has no validators
        shelf.note(documents={**shelf.sources.documents, path: source})
        return
    shelf.put({path: (data, source)})
    outcome.updated.append(path)


class _NotADocumentError(XprimError):
    """What came is not what was asked for."""


def _shaped(ref: ModelRef, planned: PlannedDocument, path: str, raw: bytes) -> tuple[str, bytes]:
    """Where the bytes go, and the bytes: a card becomes JSON, a paper gets the suffix of what it is."""
    shown = shown_url(planned.url)
    if planned.kind == "model_card":
        try:
            if isinstance(orjson.loads(raw), dict):
                return path, raw
        except orjson.JSONDecodeError:
            pass
        try:
            return path, json_bytes(card_of_readme(ref.name, raw.decode()))
        except UnicodeDecodeError as error:
            raise _NotADocumentError(f"{shown} is no model card: neither JSON nor text.") from error
    if planned.kind == "papers":
        stem = re.sub(r"\.(pdf|md)\Z", "", path, flags=re.IGNORECASE)
        if raw.startswith(b"%PDF-"):
            return f"{stem}.pdf", raw
        if b"\0" in raw or re.match(rb"\s*<(!doctype|html)", raw, re.IGNORECASE):
            raise _NotADocumentError(f"{shown} is neither a PDF nor Markdown.")
        return f"{stem}.md", raw
    if path.endswith((".json", ".ipynb")):
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _NotADocumentError(f"{shown} is no JSON.") from error
    return path, raw


def _path_of(shelf: Shelf, planned: PlannedDocument) -> str:
    """Where this URL's document lies already; where it would go otherwise."""
    for path, source in shelf.sources.documents.items():
        if source.url == planned.url and path.partition("/")[0] == planned.path.partition("/")[0]:
            return path
    return planned.path
