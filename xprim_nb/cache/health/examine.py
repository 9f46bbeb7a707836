"""Everything that is to be known of one model, gathered without changing anything.

Source: spec 2 §Validation; seeds/000 §Cache Validation & Integrity Checks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from xprim_nb._files import read_plain
from xprim_nb._hashing import Digest
from xprim_nb.cache.chunkindex import ChunkIndex
from xprim_nb.cache.health.findings import chunks_of
from xprim_nb.cache.health.inspect import Inspection, inspect_files, recorded_in
from xprim_nb.cache.health.needs import missing_components, unresolved_dependencies
from xprim_nb.cache.health.report import Depth, FileFinding, FindingStatus, ValidationReport
from xprim_nb.cache.health.rules import Facts, HealthPolicy, judge
from xprim_nb.cache.health.verdicts import Verdicts
from xprim_nb.cache.layout import Layout
from xprim_nb.cache.local import LocalChunks
from xprim_nb.cache.store import Store, read_manifest
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import NotInstalledError, StorageError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import IndexAnswer
from xprim_nb.registry.manifest import Manifest, VerifiedManifest, parse_manifest

__all__ = ["REGISTRY_FILE", "Examined", "Examiner", "damaged_digests"]

# How a finding about our own list of models calls it.
REGISTRY_FILE = "registry.json"
_DAY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Examined:
    """One model, looked at.

    Attributes:
        model: What is installed.
        manifest: What its files were compared with; None when no copy of it is on this machine.
        inspection: What was found of its files.
        report: What follows.
        token: Of the installation that was looked at.
        is_plain: True when the report says nothing but that all is well.
    """

    model: InstalledModel
    manifest: VerifiedManifest | None
    inspection: Inspection
    report: ValidationReport
    token: str
    is_plain: bool


class Examiner:
    """Looks at installed models. Changes nothing, holds nothing open.

    Args:
        layout: Where things lie.
        store: What is installed.
        index: Where chunks lie.
        verdicts: What was found before.
        registry_url: The registry whose index is given to `examine`.
    """

    def __init__(
        self, layout: Layout, store: Store, index: ChunkIndex, verdicts: Verdicts, registry_url: str
    ) -> None:
        self._layout, self._store, self._index, self._verdicts = layout, store, index, verdicts
        self._url = registry_url

    def examine(
        self,
        ref: ModelRef,
        depth: Depth,
        answer: IndexAnswer | None,
        policy: HealthPolicy,
        *,
        model: InstalledModel | None = None,
        suspects: Collection[int] = (),
        told: Callable[[int, int], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Examined:
        """Look at one model.

        Args:
            ref: Which version.
            depth: How closely.
            answer: What the registry said when it was last asked; None when it never was.
            policy: What counts as old.
            model: As `registry.json` lists it, where that was read already.
            suspects: Chunks to be hashed whatever was recorded.
            told: Called with the bytes hashed so far and those to be hashed.
            stop: Ends it when set.

        Raises:
            StoppedCheckError: `stop` was set.
            NotInstalledError: It is neither listed nor there.
            StorageError: The disk cannot be read.
        """
        began, now = time.monotonic(), datetime.now(UTC)
        problems: list[FileFinding] = []
        if model is None:
            model, problems = self.require(ref)
        manifest, problem = self._manifest(model)
        found, recorded = Inspection(), recorded_in(self._layout, model.path)
        if manifest is not None:
            checked = self._verdicts.files(ref, model.manifest_hash)
            found = inspect_files(
                self._layout,
                model.path,
                manifest.manifest,
                depth=depth,
                checked=checked,
                suspects=suspects,
                told=told,
                stop=stop,
            )
        findings = [*problems, *([problem] if problem else []), *found.findings]
        facts, notes = self._facts(model, manifest, found, findings, answer, now)
        report = _report(facts, policy, now, tuple(notes))
        report = report.model_copy(
            update={
                "depth": depth,
                "manifest_hash": model.manifest_hash,
                "bytes_hashed": found.bytes_hashed,
                "seconds": time.monotonic() - began,
            }
        )
        return Examined(model, manifest, found, report, recorded.token, _is_plain(report))

    def token_of(self, ref: ModelRef) -> str:
        """Which installation of a version lies in its place now; empty when none of ours does."""
        return recorded_in(self._layout, self._layout.model_dir(ref)).token

    def manifest_of(self, model: InstalledModel) -> VerifiedManifest | None:
        """What an installed model should be; None when its own copy is damaged and there is no other."""
        return self._manifest(model)[0]

    def manifest_problem(self, model: InstalledModel) -> FileFinding | None:
        """What is wrong with an installed model's own manifest."""
        return self._manifest(model)[1]

    def is_unnamed(self, ref: ModelRef) -> bool:
        """True when `registry.json` does not name a version, or not in a way that can be read."""
        try:
            self._store.get_entry(ref)
        except NotInstalledError:
            return True
        return False

    # --- what is there ----------------------------------------------------------------------------

    def require(self, ref: ModelRef) -> tuple[InstalledModel, list[FileFinding]]:
        """The model, and what is wrong with its name; a directory that lost its name is found all the same.

        Raises:
            NotInstalledError: It is neither listed nor there.
            StorageError: `registry.json` cannot be read.
        """
        problems = []
        if self._store.document()[1]:
            problems.append(_listing("is damaged: it was read from the models' own directories."))
        try:
            return self._store.get_entry(ref), problems
        except NotInstalledError:
            directory = self._layout.model_dir(ref)
            try:
                manifest = read_manifest(self._layout, directory)
                written = self._layout.manifest_file(directory).stat().st_mtime
            except (StorageError, OSError):
                manifest = None
            if manifest is None:
                raise
            problems.append(_listing("does not name this model, which is there."))
            total, count = manifest.manifest.total_size, len(manifest.manifest.files)
            when = datetime.fromtimestamp(written, UTC)
            return InstalledModel(ref, manifest.digest, total, count, when, self._layout.base), problems

    def _manifest(self, model: InstalledModel) -> tuple[VerifiedManifest | None, FileFinding | None]:
        """What the model should be, and what is wrong with its own copy of that."""
        path = f"{self._layout.metadata_name}/manifest.json"
        recorded = recorded_in(self._layout, model.path)
        try:
            own = read_manifest(self._layout, model.path)
            if own.digest in (model.manifest_hash, recorded.manifest_hash) or self._says_the_same(
                own, model.manifest_hash, is_ours=bool(recorded.token)
            ):
                return own, None
            why = "is not the one that was installed."
        except StorageError:
            why = "is damaged." if self._layout.manifest_file(model.path).exists() else "is missing."
        status: FindingStatus = "missing" if why == "is missing." else "corrupted"
        copy = self.kept_manifest(model.manifest_hash)
        if copy is None:
            why = f"{why[:-1]}, and this machine has no copy: its files cannot be judged."
        return copy, FileFinding(path=path, status=status, sentence=why)

    def _says_the_same(self, own: VerifiedManifest, digest: str, *, is_ours: bool) -> bool:
        """True when a manifest was only encoded anew, as the original client does, which leaves no receipt."""
        copy = None if is_ours else self.kept_manifest(digest)
        if is_ours or copy is None:
            return not is_ours
        one, other = own.manifest, copy.manifest
        return (one.files, one.chunks, one.sizes) == (other.files, other.chunks, other.sizes)

    def kept_manifest(self, digest: str) -> VerifiedManifest | None:
        """The copy of a manifest among those that were fetched; None when there is none."""
        try:
            raw = read_plain(self._layout.manifests / digest)
            return parse_manifest(raw, self._layout.metadata_name, expected=digest)
        except (OSError, XprimError):  # absent or damaged: no copy
            return None

    # --- what follows -----------------------------------------------------------------------------

    def _facts(
        self,
        model: InstalledModel,
        manifest: VerifiedManifest | None,
        found: Inspection,
        findings: list[FileFinding],
        answer: IndexAnswer | None,
        now: datetime,
    ) -> tuple[Facts, list[str]]:
        age_days = max(0.0, (now - model.installed_at).total_seconds() / _DAY_S)
        entry, notes, offers_other = None, [], False
        if model.extra.get("registry", self._url) != self._url:
            notes.append(f"It came from another registry ({model.extra['registry']}), which was not asked.")
        elif answer is not None:
            entry = answer.index.models.get(model.ref)
            if entry is None:
                notes.append("The registry no longer lists it.")
            elif entry.manifest_hash == model.manifest_hash:
                age_days = min(age_days, answer.age_s / _DAY_S)
            else:
                offers_other = True
        metadata = dict(entry.metadata) if entry is not None else {}
        used = self._verdicts.last_used(model.ref)
        content = manifest.manifest if manifest is not None else None
        facts = Facts(
            ref=str(model.ref),
            findings=tuple(findings),
            file_count=model.file_count,
            mendable_here=any(each.is_damage for each in findings)
            and self._is_mendable(model.ref, content, found, findings),
            age_days=age_days,
            offers_other=offers_other,
            is_expired=_is_past(metadata.get("expiry_date") or model.extra.get("expiry_date"), now),
            missing_components=missing_components(model.path, content) if content else (),
            unresolved=unresolved_dependencies(model.path, content, metadata, self._store),
            unused_days=None if used is None else max(0.0, (now.timestamp() - used) / _DAY_S),
            is_pinned="pinned" in model.extra,
        )
        return facts, notes

    def _is_mendable(
        self, ref: ModelRef, manifest: Manifest | None, found: Inspection, findings: list[FileFinding]
    ) -> bool:
        """True when no byte that is damaged has to be fetched."""
        if manifest is None:
            return False
        wanted = damaged_digests(manifest, found.wrong, findings)
        return not wanted or all(
            source for source in self.sources(ref, manifest, found.wrong, wanted).values()
        )

    def sources(
        self, ref: ModelRef, manifest: Manifest, wrong: Collection[int], wanted: Collection[Digest]
    ) -> dict[Digest, str | None]:
        """For each chunk the place on this machine that should hold it; None when only the registry can.

        Args:
            ref: The damaged model: its own wrong chunks are no place.
            manifest: What it should be.
            wrong: Its chunks that are wrong.
            wanted: The chunks to be found.
        """
        self._index.reconcile(self._store.list())
        local = LocalChunks(self._layout, self._index, "", list(wanted), manifest=manifest)
        for digest, places in local.places.items():
            local.places[digest] = [place for place in places if place.ref != ref]
        found: dict[Digest, str | None] = {}
        for digest in wanted:
            own = any(index not in wrong for index in manifest.distinct[digest])
            found[digest] = str(ref) if own else local.source_of(digest)
        return found


def damaged_digests(
    manifest: Manifest, wrong: Collection[int], findings: Collection[FileFinding], *, modified: bool = False
) -> list[Digest]:
    """The distinct chunks that it takes to mend these findings, in stream order.

    Files that hold another's bytes need none where that other file holds theirs.

    Args:
        manifest: What should be there.
        wrong: The chunks that are wrong.
        findings: What was found.
        modified: Whether files that somebody changed are to be put back too.
    """
    held = {finding.holds for finding in findings if finding.holds}
    numbers = {file.path: number for number, file in enumerate(manifest.files)}
    indices = set()
    for finding in findings:
        # What cannot be read may be right: its permissions are mended first.
        damage = (modified or finding.status != "modified") and finding.status not in ("unreadable", "extra")
        if damage and finding.path in numbers and finding.path not in held:
            indices |= set(chunks_of(manifest, numbers[finding.path])) & set(wrong)
    return list(dict.fromkeys(Digest(manifest.chunks[index]) for index in sorted(indices)))


def _report(facts: Facts, policy: HealthPolicy, now: datetime, notes: tuple[str, ...]) -> ValidationReport:
    judgement = judge(facts, policy)
    return ValidationReport(
        model_id=facts.ref,
        validation_timestamp=now,
        overall_status=judgement.overall_status,
        checks=judgement.checks,
        recommendations=judgement.recommendation,
        findings=facts.findings,
        notes=notes,
        verdict=judgement.verdict,
    )


def _is_plain(report: ValidationReport) -> bool:
    """True when the report says nothing but that all is well."""
    told = report.findings or report.notes or report.recommendations.action != "none"
    return report.overall_status == "healthy" and not told


def _listing(sentence: str) -> FileFinding:
    return FileFinding(path=REGISTRY_FILE, status="corrupted", sentence=sentence)


def _is_past(text: object, now: datetime) -> bool:
    if not isinstance(text, str):
        return False
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return False
    return (when if when.tzinfo else when.replace(tzinfo=UTC)) <= now
