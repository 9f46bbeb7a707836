"""How a bundle is: what is wrong with which document, and what follows by the room's rules. Reads; changes nothing.

What a document's bytes tell when they are not what was written:

    1. Nothing lies there: `missing`. Something that is no plain file: `replaced`. Closed to us: `unreadable`.
    2. Size and time are as they were written: nobody wrote to it, so it is `corrupted`.
    3. It is empty, or JSON that does not parse, or a PDF that is none: `corrupted` too. Nobody edits a document into
       that, but since it cannot be known, a repair puts the old bytes aside.
    4. Otherwise it is somebody's work: `modified`.

Source: spec 2 §Validation; seeds/000 §ValidationReport.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

import orjson

from xprim_nb._files import read_plain
from xprim_nb.cache.bundles.manifest import BundleStatus
from xprim_nb.cache.bundles.naming import UPSTREAM, matching
from xprim_nb.cache.bundles.store import Shelf, hash_document
from xprim_nb.cache.health.report import Depth, FileFinding, ValidationReport
from xprim_nb.cache.health.rules import Facts, HealthPolicy, judge
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef

__all__ = ["bundle_status", "examine", "find_all"]

_DAY_S = 86_400.0
_READABLE = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def examine(
    shelf: Shelf, installed: Sequence[InstalledModel], dependencies: Sequence[str], depth: Depth = "full"
) -> ValidationReport:
    """The bundle's report.

    Args:
        shelf: The bundle.
        installed: Every installed model.
        dependencies: The models that this one needs.
        depth: `quick` leaves checksums alone where the request said so.
    """
    request, outdated = shelf.sources.request, _is_outdated(shelf, installed)
    hashing = depth == "full" or request is None or request.validation_rules.checksum_validation
    findings = tuple(find_all(shelf, hashing=hashing))
    facts = Facts(
        ref=shelf.bundle.ref.name,
        findings=findings,
        file_count=len(shelf.sources.documents),
        mendable_here=all(_is_derivable(shelf, each.path, installed) for each in findings if each.is_damage),
        age_days=_age_days(shelf),
        offers_other=outdated,
        is_expired=_is_expired(shelf),
        missing_components=_missing(shelf, findings),
        unresolved=_unresolved(dependencies, installed),
    )
    allowed = request.validation_rules.max_age_days if request else None
    rule, overall, checks, advice, verdict = judge(
        facts, HealthPolicy(max_age_days=allowed, unused_days=None)
    )
    if rule == 4 and outdated:
        verdict = f"{facts.ref} is stale: {shelf.sources.derived_from} is another now. {advice.details}"
    failures = shelf.sources.failures
    if failures and advice.action != "none":
        advice = advice.model_copy(update={"details": " ".join([advice.details, *failures.values()])})
    return ValidationReport(
        model_id=facts.ref,
        validation_timestamp=shelf.now,
        overall_status=overall,
        checks=checks,
        recommendations=advice,
        depth="full" if hashing else "quick",
        findings=findings,
        notes=tuple(_notes(shelf, installed)),
        verdict=f"The bundle of {verdict}",
    )


def bundle_status(report: ValidationReport) -> BundleStatus:
    """The one word of the manifest for what was found."""
    checks = report.checks
    if checks.file_integrity.corrupted_files:
        return "corrupted"
    if checks.file_integrity.missing_files or checks.completeness.status != "complete":
        return "incomplete"
    return "valid" if checks.freshness.status == "fresh" else "stale"


def find_all(shelf: Shelf, *, hashing: bool = True) -> list[FileFinding]:
    """What is wrong with which document, sorted by path.

    Args:
        shelf: The bundle.
        hashing: Compare checksums; otherwise only what can be told without reading.
    """
    found = [_find(shelf, path, hashing=hashing) for path in sorted(shelf.sources.documents)]
    added = [
        FileFinding(path=path, status="extra", sentence="It was added here.")
        for path in shelf.bundle.documents()
        if path not in shelf.sources.documents
    ]
    return sorted([each for each in found if each is not None] + added, key=lambda each: each.path)


def notes_on(shelf: Shelf, installed: Sequence[InstalledModel]) -> list[str]:
    """What else a reader should know, as sentences."""
    notes = [*shelf.mended, *shelf.sources.failures.values()]
    for path in shelf.sources.documents:
        if (shelf.bundle.path / f"{path}{UPSTREAM}").exists():
            notes.append(f"{path} was edited here and changed upstream: compare it with {path}{UPSTREAM}.")
    origin = shelf.sources.derived_from
    if origin and not any(str(each.ref) == origin for each in installed):
        notes.append(f"It was derived from {origin}, which is not installed any more.")
    return notes


def _find(shelf: Shelf, path: str, *, hashing: bool) -> FileFinding | None:
    source, place = shelf.sources.documents[path], shelf.bundle.path / path
    try:
        facts = place.lstat()
    except OSError:
        return FileFinding(path=path, status="missing", sentence="It is not there.")
    if not stat.S_ISREG(facts.st_mode):
        return FileFinding(path=path, status="replaced", sentence="Something else lies where it should.")
    if os.name != "nt" and not facts.st_mode & _READABLE:  # 1; by its mode, since root may read all the same
        return FileFinding(path=path, status="unreadable", sentence="Nobody may read it.")
    if not hashing and source.size_bytes == facts.st_size:
        return None
    found = hash_document(place)
    if found == source.sha256:
        return None
    if found is None:
        return FileFinding(path=path, status="unreadable", sentence="It cannot be read.")
    if (source.size_bytes, source.mtime_ns) == (facts.st_size, facts.st_mtime_ns):  # 2
        return FileFinding(
            path=path, status="corrupted", sentence="Its bytes changed, and nobody wrote to it."
        )
    if _is_broken(place):  # 3
        return FileFinding(
            path=path, status="corrupted", sentence="It is cut short or broken.", certain=False
        )
    return FileFinding(path=path, status="modified", sentence="It was edited here.")  # 4


def _is_broken(path: Path) -> bool:
    raw = read_plain(path)
    if not raw:
        return True
    if path.suffix == ".pdf":
        return not raw.startswith(b"%PDF-")
    if path.suffix in (".json", ".ipynb"):
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            return True
    return False


def _notes(shelf: Shelf, installed: Sequence[InstalledModel]) -> list[str]:
    notes = [*shelf.mended, *shelf.sources.failures.values()]
    for path in shelf.sources.documents:
        if (shelf.bundle.path / f"{path}{UPSTREAM}").exists():
            notes.append(f"{path} was edited here and changed upstream: compare it with {path}{UPSTREAM}.")
    origin = shelf.sources.derived_from
    if origin and not any(str(each.ref) == origin for each in installed):
        notes.append(f"It was derived from {origin}, which is not installed any more.")
    return notes


def _age_days(shelf: Shelf) -> float:
    if shelf.manifest is None:
        return 0.0
    return max(0.0, (shelf.now - shelf.manifest.last_updated).total_seconds() / _DAY_S)


def _is_expired(shelf: Shelf) -> bool:
    expiry = shelf.manifest.expiry_date if shelf.manifest is not None else None
    return expiry is not None and shelf.now > expiry


def _is_outdated(shelf: Shelf, installed: Sequence[InstalledModel]) -> bool:
    """True when the model it was derived from is another now."""
    origin = shelf.sources.derived_from
    return any(
        str(each.ref) == origin and each.manifest_hash != shelf.sources.derived_hash for each in installed
    )


def _is_derivable(shelf: Shelf, path: str, installed: Sequence[InstalledModel]) -> bool:
    origin = shelf.sources.derived_from
    return shelf.sources.documents[path].origin == "derived" and any(
        str(each.ref) == origin for each in installed
    )


def _missing(shelf: Shelf, findings: Sequence[FileFinding]) -> tuple[str, ...]:
    """Required documents that never came; those that went missing are findings."""
    request = shelf.sources.request
    if request is None:
        return ()
    gone = {each.path for each in findings if each.status in ("missing", "replaced")}
    known = frozenset(shelf.bundle.documents()) | gone
    return tuple(path for path in request.validation_rules.required_files if not matching(path, known))


def _unresolved(dependencies: Sequence[str], installed: Sequence[InstalledModel]) -> tuple[str, ...]:
    known = {str(each.ref) for each in installed} | {each.ref.name for each in installed}
    unresolved = []
    for name in dependencies:
        try:
            there = str(ModelRef.parse(name)) in known
        except InvalidRefError:  # a name elsewhere: nothing here can satisfy it
            there = False
        if not there:
            unresolved.append(name)
    return tuple(unresolved)
