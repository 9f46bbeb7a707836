"""What the values of upkeep have to tell: clean-ups, pins, archives, adopted places, bundles, maintenance.

Source: spec 2 §Clean-up, §Access, §Adopt, §Maintenance; spec 3 §Magics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from xprim_nb._text import format_bytes, format_count, format_seconds
from xprim_nb.magics.cache_facts import present, shown, when
from xprim_nb.magics.sheets import Facts

if TYPE_CHECKING:
    from xprim_nb.cache.adopt.installing import Adopted
    from xprim_nb.cache.adopt.scanning import AdoptedPlace, FoundModel
    from xprim_nb.cache.bundles.initialize import BundlePlan, Initialized
    from xprim_nb.cache.bundles.keeper import BundleRepaired
    from xprim_nb.cache.bundles.manifest import CacheManifest
    from xprim_nb.cache.bundles.store import Bundle
    from xprim_nb.cache.upkeep.accounting import Account, CacheAccounts
    from xprim_nb.cache.upkeep.archive import ArchivePlan
    from xprim_nb.cache.upkeep.archived import Archived
    from xprim_nb.cache.upkeep.cleanup import Candidate, CleanupPlan, Spared
    from xprim_nb.cache.upkeep.dedupe import DedupePlan, Deduplicated
    from xprim_nb.cache.upkeep.execute import CleanupResult, Done
    from xprim_nb.cache.upkeep.pins import Pin
    from xprim_nb.cache.upkeep.restoring import Restored, RestorePlan
    from xprim_nb.cache.upkeep.usage import Used
    from xprim_nb.cache.upkeep.why import Why
    from xprim_nb.manager.due import MaintenanceRecord
    from xprim_nb.manager.steward import MaintenancePlan, MaintenanceReport

__all__ = ["FACTS"]


def _account_facts(account: Account) -> Facts:
    return present(
        Name=account.name,
        Kind=account.kind,
        Size=format_bytes(account.total_bytes),
        Shared=format_bytes(account.shared_bytes) if account.shared_bytes else "",
        Frees=format_bytes(account.reclaimable_bytes),
    )


def _accounts_facts(accounts: CacheAccounts) -> Facts:
    largest = sorted(accounts.accounts, key=lambda each: -each.total_bytes)
    return present(
        Cache=str(accounts),
        Holds=shown((f"{each.kind} {each.name}", format_bytes(each.total_bytes)) for each in largest),
    )


def _candidate_facts(candidate: Candidate) -> Facts:
    return present(
        Name=candidate.name,
        Kind=candidate.kind,
        Plan=candidate.action,
        Frees=format_bytes(candidate.freed_bytes),
        Why=candidate.reason,
    )


def _spared_facts(spared: Spared) -> Facts:
    return present(Name=spared.name, Kind=spared.kind, Plan="keep", Why=spared.reason)


def _cleanup_plan_facts(plan: CleanupPlan) -> Facts:
    sizes = f"frees {format_bytes(plan.freed_bytes)} of {format_bytes(plan.total_bytes)}"
    target = plan.target_bytes
    return present(
        Plan=f"{format_count(len(plan.candidates), 'thing')} would go, which {sizes}",
        Goes=shown(
            (
                f"{each.action} {each.kind} {each.name}",
                f"{format_bytes(each.freed_bytes)}. {each.reason}",
            )
            for each in plan.candidates
        ),
        Stays=shown((f"{each.kind} {each.name}", each.reason) for each in plan.spared),
        Asked_for="" if target is None else format_bytes(target),
        Short=f"{format_bytes(plan.short_bytes)}: nothing else may go" if plan.short_bytes else "",
    )


def _done_facts(done: Done) -> Facts:
    return present(
        Name=done.candidate.name,
        Kind=done.candidate.kind,
        Status=f"{done.candidate.action}d",
        Freed=format_bytes(done.freed_bytes),
        Put_aside="" if done.kept is None else str(done.kept),
    )


def _cleaned_facts(result: CleanupResult) -> Facts:
    return present(
        Freed=format_bytes(result.freed_bytes),
        Gone=shown(
            (f"{each.candidate.kind} {each.candidate.name}", format_bytes(each.freed_bytes))
            for each in result.done
        ),
        Stayed=shown((f"{each.kind} {each.name}", each.reason) for each in result.spared),
        Failed="\n".join(result.failed),
    )


def _pin_facts(pin: Pin) -> Facts:
    return present(Model=str(pin.ref), Status="pinned", Since=when(pin.at) if pin.at else "", Why=pin.reason)


def _why_facts(why: Why) -> Facts:
    seen = "" if why.verified_at is None else f", verified {when(why.verified_at)}"
    first = why.chunks[0].digest[:12] if why.chunks else ""
    return present(
        Path=str(why.path),
        Kind=why.kind,
        Model="" if why.ref is None else str(why.ref),
        File=why.file,
        From=f"{why.registry}, manifest {why.manifest_hash[:12]}" if why.registry else "",
        Installed="" if why.installed_at is None else when(why.installed_at) + seen,
        Used="" if why.used_at is None else when(why.used_at),
        Chunks=f"{len(why.chunks):,}, the first {first}" if why.chunks else "",
        Kept_because="\n".join(why.kept_because),
        Goes_when="\n".join(why.removed_by),
    )


def _dedupe_plan_facts(plan: DedupePlan) -> Facts:
    share = "shares" if len(plan.shares) == 1 else "share"
    return present(
        Plan=f"{format_count(len(plan.shares), 'file')} {share} {format_bytes(plan.size_bytes)} by {plan.method}",
        Files="\n".join(map(str, plan.shares[:30])),
    )


def _deduplicated_facts(done: Deduplicated) -> Facts:
    return present(
        Shared=f"{format_bytes(done.size_bytes)} in {format_count(len(done.done), 'file')}, by {done.method}",
        Skipped="\n".join(done.skipped[:30]),
    )


def _archive_plan_facts(plan: ArchivePlan) -> Facts:
    fits = "" if plan.fits else f": {format_bytes(plan.disk_needed - plan.disk_free)} short"
    return present(
        Model=str(plan.ref),
        Plan=f"compress {format_bytes(plan.model_bytes)} in {format_count(plan.chunks, 'chunk')}",
        As_it_is="\n".join(plan.local_files),
        Disk=f"{format_bytes(plan.disk_needed)} needed at most, {format_bytes(plan.disk_free)} free{fits}",
    )


def _archived_facts(archived: Archived) -> Facts:
    return present(
        Model=str(archived.ref),
        Status="archived",
        Size=f"{format_bytes(archived.model_bytes)} stored in {format_bytes(archived.stored_bytes)}",
        Since=when(archived.archived_at),
        As_it_was="\n".join(archived.local_files),
        Back=f"`%xprim restore {archived.ref}`",
        Path=str(archived.path),
    )


def _restore_plan_facts(plan: RestorePlan) -> Facts:
    return present(
        Model=str(plan.archived.ref),
        Plan=f"restore {format_bytes(plan.archived.model_bytes)}",
        To_fetch=format_bytes(plan.pull.bytes_network),
        Laid_over="\n".join(plan.local_files),
    )


def _restored_facts(done: Restored) -> Facts:
    return present(
        Model=str(done.ref),
        Status="restored",
        Size=f"{format_bytes(done.model.total_size)} in {format_seconds(done.receipt.seconds)}",
        Fetched=format_bytes(done.receipt.bytes_network),
        As_it_was="\n".join(done.local_files),
        Path=str(done.path),
    )


def _used_facts(used: Used) -> Facts:
    return present(Model=used.ref, Used=f"{format_count(used.uses, 'time')}, last {when(used.when)}")


def _place_facts(place: AdoptedPlace) -> Facts:
    return present(
        Place=place.root,
        Kind=place.kind,
        Files=f"{format_bytes(place.size_bytes)} in {format_count(len(place.files), 'file')}",
        Models=shown((each.name, format_bytes(each.size)) for each in place.models),
    )


def _found_facts(found: FoundModel) -> Facts:
    return present(
        Name=found.name, Size=f"{format_bytes(found.size)} in {format_count(len(found.files), 'file')}"
    )


def _adopted_facts(adopted: Adopted) -> Facts:
    model = adopted.model
    return {
        **_place_facts(adopted.place),
        **present(
            Installed="" if model is None else f"{model.ref}, {format_bytes(model.total_size)}",
            Path="" if model is None else str(model.path),
        ),
    }


def _bundle_facts(bundle: Bundle) -> Facts:
    return present(
        Bundle=bundle.ref.name,
        Status="here" if bundle.exists else "not made yet",
        Documents="\n".join(bundle.documents()),
        Path=str(bundle.path),
    )


def _bundle_plan_facts(plan: BundlePlan) -> Facts:
    return present(
        Bundle=plan.ref.name,
        Plan=format_count(len(plan.steps), "document"),
        Steps="\n".join(map(str, plan.steps)),
        Offline="http(s) documents stay as they are" if plan.offline else "",
    )


def _initialized_facts(done: Initialized) -> Facts:
    return present(
        Bundle=done.manifest.model_id,
        Status=done.manifest.validation_status,
        Written="\n".join(done.updated),
        Both_sides="\n".join(done.conflicts),
        Problems="\n".join(done.problems),
        Path=done.cache_path,
    )


def _bundle_repaired_facts(done: BundleRepaired) -> Facts:
    return present(
        Status="whole" if done.success else "not whole",
        Mended="\n".join(done.repair_actions),
        Not_mended="\n".join(done.remaining_issues),
        Put_aside=done.kept,
    )


def _manifest_facts(manifest: CacheManifest) -> Facts:
    return present(
        Bundle=manifest.model_id,
        Of=manifest.version,
        Status=manifest.validation_status,
        Size=f"{format_bytes(manifest.size_bytes)} in {format_count(len(manifest.file_checksums), 'document')}",
        Checked=when(manifest.last_validated),
        Needs=", ".join(manifest.dependencies),
    )


def _maintenance_plan_facts(plan: MaintenancePlan) -> Facts:
    due = "no schedule" if plan.next_due is None else when(plan.next_due)
    return present(
        Due=f"{due}{' (now)' if plan.is_due else ''}",
        Plan=f"check {format_count(plan.models, 'model')}",
        To_repair="\n".join(plan.to_repair),
        Clean_up=plan.cleanup,
        Frees=format_bytes(plan.freed_bytes),
    )


def _maintained_facts(report: MaintenanceReport) -> Facts:
    return present(
        Status=report.verdict,
        Damaged="\n".join(report.damaged),
        Repaired="\n".join(report.repaired),
        Rolled_back="\n".join(report.rolled_back),
        To_do="\n".join(map(str, report.unresolved)),
        Clean_up=report.cleanup,
        Scrubbed=report.scrubbed,
        Shared=report.optimisation,
        Problems="\n".join(report.problems),
        Next="" if report.next_due is None else when(report.next_due),
    )


def _record_facts(record: MaintenanceRecord) -> Facts:
    return present(
        Schedule=record.schedule or "none",
        Last_run="never" if record.ended_at is None else when(record.ended_at),
        Found=record.outcome,
    )


_ADOPT, _BUNDLES, _UPKEEP = "xprim_nb.cache.adopt.", "xprim_nb.cache.bundles.", "xprim_nb.cache.upkeep."

FACTS: Mapping[tuple[str, str], Callable[[Any], Facts]] = {
    (f"{_ADOPT}installing", "Adopted"): _adopted_facts,
    (f"{_ADOPT}scanning", "AdoptedPlace"): _place_facts,
    (f"{_ADOPT}scanning", "FoundModel"): _found_facts,
    (f"{_BUNDLES}initialize", "BundlePlan"): _bundle_plan_facts,
    (f"{_BUNDLES}initialize", "Initialized"): _initialized_facts,
    (f"{_BUNDLES}keeper", "BundleRepaired"): _bundle_repaired_facts,
    (f"{_BUNDLES}manifest", "CacheManifest"): _manifest_facts,
    (f"{_BUNDLES}store", "Bundle"): _bundle_facts,
    (f"{_UPKEEP}accounting", "Account"): _account_facts,
    (f"{_UPKEEP}accounting", "CacheAccounts"): _accounts_facts,
    (f"{_UPKEEP}archive", "ArchivePlan"): _archive_plan_facts,
    (f"{_UPKEEP}archived", "Archived"): _archived_facts,
    (f"{_UPKEEP}cleanup", "Candidate"): _candidate_facts,
    (f"{_UPKEEP}cleanup", "CleanupPlan"): _cleanup_plan_facts,
    (f"{_UPKEEP}cleanup", "Spared"): _spared_facts,
    (f"{_UPKEEP}dedupe", "DedupePlan"): _dedupe_plan_facts,
    (f"{_UPKEEP}dedupe", "Deduplicated"): _deduplicated_facts,
    (f"{_UPKEEP}execute", "CleanupResult"): _cleaned_facts,
    (f"{_UPKEEP}execute", "Done"): _done_facts,
    (f"{_UPKEEP}pins", "Pin"): _pin_facts,
    (f"{_UPKEEP}restoring", "RestorePlan"): _restore_plan_facts,
    (f"{_UPKEEP}restoring", "Restored"): _restored_facts,
    (f"{_UPKEEP}usage", "Used"): _used_facts,
    (f"{_UPKEEP}why", "Why"): _why_facts,
    ("xprim_nb.manager.due", "MaintenanceRecord"): _record_facts,
    ("xprim_nb.manager.steward", "MaintenancePlan"): _maintenance_plan_facts,
    ("xprim_nb.manager.steward", "MaintenanceReport"): _maintained_facts,
}
