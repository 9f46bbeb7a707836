"""What a repair has to do, decided from what was found.

Source: spec 2 §Repair ("plan first").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from xprim_nb._hashing import Digest
from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.health.examine import REGISTRY_FILE, Examined, Examiner, damaged_digests
from xprim_nb.cache.health.repaired import RepairAction, RepairKind, RepairPlan
from xprim_nb.cache.health.report import FileFinding
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["action_of", "left_alone", "plan_of", "to_mend"]


def to_mend(
    manifest: Manifest, findings: Iterable[FileFinding], *, overwrite_modified: bool
) -> dict[int, FileFinding]:
    """The files that are written anew, by their number in the manifest.

    What cannot be read is not among them: its permissions are mended, and then it is looked at.
    """
    numbers = {file.path: number for number, file in enumerate(manifest.files)}
    wanted = {"corrupted", "missing", "replaced"} | ({"modified"} if overwrite_modified else set())
    return {
        numbers[finding.path]: finding
        for finding in findings
        if finding.status in wanted and finding.path in numbers
    }


def left_alone(findings: Iterable[FileFinding]) -> tuple[str, ...]:
    """Files that somebody changed or added, and that a repair does not touch."""
    return tuple(finding.path for finding in findings if not finding.is_damage)


def action_of(finding: FileFinding, network: int = 0, local: int = 0) -> RepairAction:
    """What mending one finding means."""
    kind: RepairKind = "rewrite"
    keeps_old = finding.status in ("modified", "replaced") or not finding.certain
    size = format_bytes(finding.bytes_wrong)
    sentence = f"{len(finding.chunks)} chunks ({size}) are written anew."
    if len(finding.chunks) == 1:
        sentence = f"1 chunk ({size}) is written anew."
    if finding.holds is not None:
        sentence = f"gets its own bytes back instead of those of {finding.holds}."
    match finding.status:
        case "missing" | "replaced":
            kind, sentence = "rebuild", f"is built anew ({size})."
        case "unreadable":
            kind, sentence = "permissions", "can be read again."
        case "modified":
            kind, sentence = "put_back", "is put back as it was installed."
    if finding.path == REGISTRY_FILE:
        kind, sentence = "listing", "is written anew."
    elif finding.path.endswith("/manifest.json") and finding.path.startswith("."):
        kind, sentence = "manifest", "is put back."
    if keeps_old:
        sentence += " What lies there is put aside."
    return RepairAction(
        path=finding.path,
        kind=kind,
        chunks_network=network,
        chunks_local=local,
        keeps_old=keeps_old,
        sentence=sentence,
    )


def plan_of(
    ref: ModelRef, found: Examined, examiner: Examiner, *, may_ask: bool, overwrite_modified: bool
) -> RepairPlan:
    """What a repair would do about what was found.

    Args:
        ref: The model.
        found: What was found of it.
        examiner: Knows what this machine holds.
        may_ask: Whether the registry may be asked.
        overwrite_modified: Whether files that somebody changed are put back too.
    """
    findings = found.report.findings
    wanted = [
        each for each in findings if each.is_damage or (overwrite_modified and each.status == "modified")
    ]
    stays = tuple(each.path for each in findings if each not in wanted)
    if found.manifest is None:
        return _plan_blind(ref, found, wanted, stays, may_ask=may_ask)
    actions: list[RepairAction] = []
    issues: list[str] = []
    manifest = found.manifest.manifest
    digests = damaged_digests(manifest, found.inspection.wrong, wanted, modified=True)
    sources = examiner.sources(ref, manifest, found.inspection.wrong, digests) if digests else {}
    for each in wanted:
        own = damaged_digests(manifest, found.inspection.wrong, [each], modified=True)
        own = [digest for digest in own if digest in sources]
        network = sum(1 for digest in own if sources[digest] is None)
        if network and not may_ask:
            are = "is" if network == 1 else "are"
            issues.append(
                f"{each.path}: {format_count(network, 'chunk')} {are} not on this machine, and nobody may be asked."
            )
        else:
            actions.append(action_of(each, network, len(own) - network))
    fetched = [digest for digest in digests if sources[digest] is None]
    copied = [digest for digest in digests if sources[digest] is not None]
    return RepairPlan(
        model_id=str(ref),
        manifest_hash=found.model.manifest_hash,
        repairable=not issues,
        actions=tuple(actions),
        chunks_total=len(manifest.distinct),
        chunks_network=len(fetched) if may_ask else 0,
        chunks_local=len(copied),
        bytes_network=_bytes(manifest, fetched) if may_ask else 0,
        bytes_local=_bytes(manifest, copied),
        local_sources=dict(sorted(Counter(sources[digest] or "" for digest in copied).items())),
        left_alone=stays,
        remaining_issues=tuple(issues),
    )


def _plan_blind(
    ref: ModelRef, found: Examined, wanted: list[FileFinding], stays: tuple[str, ...], *, may_ask: bool
) -> RepairPlan:
    """The plan where no copy of the manifest is here: that comes first, and what else is wrong is seen then."""
    possible = [each for each in wanted if may_ask or each.path == REGISTRY_FILE]
    issues = tuple(str(each) for each in wanted if each not in possible)
    return RepairPlan(
        model_id=str(ref),
        manifest_hash=found.model.manifest_hash,
        repairable=not issues,
        actions=tuple(action_of(each) for each in possible),
        left_alone=stays,
        remaining_issues=issues,
    )


def _bytes(manifest: Manifest, digests: Iterable[Digest]) -> int:
    return sum(manifest.sizes[manifest.distinct[digest][0]] for digest in digests)
