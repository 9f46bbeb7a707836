"""What `--json` prints: one object on stdout, whatever happened.

    every document      warnings: [sentence]
    a failure           error: {type, message, subject, hint, exit_code}, beside other keys if a part succeeded
    list                models: [MODEL + file_count, installed_at, path]
    list --remote       models: [MODEL + alias_of, metadata], source, age_s, stale
    info                model: MODEL + status "installed", file_count, installed_at, path, files: [FILE]
    info --remote       model: MODEL + status "installed" | "update_available" | "available", alias_of, metadata,
                        chunk_size, chunk_count, files: [FILE]
    pull                pulled: MODEL + status "installed" | "updated" | "already_installed", file_count, installed_at,
                        path, checked, receipt: {bytes_…, chunks_…, local_models, seconds, retries, kept}
    pull --dry-run      plan: MODEL + status "install" | "update" | "already_installed", installed_hash, files: [FILE],
                        bytes_…, chunks_…, local_models, disk_needed, disk_free, fits
    remove              removed: [REF + bytes_freed, kept]
    path                REF + path
    update              checks: [REF + installed_hash, remote_hash, installed_version, remote_version, notice,
                        available]
    update --apply      the same, and updated: [as `pulled`], failed: [REF + error]
    prune               pruned: {partials, bytes_freed, in_use}
    peek                peeked: MODEL + bytes_read, parameters, dtypes: {dtype: bytes}, tensor_files: {path: {tensors}}
    publish             published: MODEL + files, chunks_total, chunks_new, bytes_new, aliases, updated, skipped
    export              exported: {to, refs, chunks_written, bytes_written, notes}
    serve               serving: {directory, url}, printed before the first request
    config              config: {app_name, registry_url (null: the demo registry), data_dir, …}, passwords masked
    lab --execute       executed: {notebook, cells: [{type, source, outputs: [text]}]}

    Below `cache`, where `--dry-run` gives a `plan` of the same command:

    status              status: {total_models, total_size_gb, health_summary: {ref: REPORT}, recommendations, verdict,
                        offline, contact, last_contact_at, checked_at, maintenance, models: [{ref, size_bytes, status,
                        depth, checked_at, action, priority, manifest_hash}]}
    validate            validated: [REPORT]; with `error` (exit code 6) when one is damaged; of one model its report's own
                        keys too
    scrub               scrubbed: {chunks_checked, bytes_hashed, seconds, models_checked, damaged: [REPORT], verdict,
                        recent_share, recent_days, oldest_at?}
    repair              repaired: [{model_id, success, repairable, repair_actions, remaining_issues, chunks_…, bytes_…,
                        local_sources, kept?, left_alone, receipt, validation_report?}]; plans: [PLAN] with `--dry-run`;
                        failed: [REF + error] with `--all`
    refresh             refreshed: REF + status, success, model, updated_files, removed_files, kept, conflicts: [CHANGE],
                        set_aside, backup, kept_in, receipt, checked, rollback_available, validation_report, sentences
    rollback            rolled_back: REF + model, restored_from: BACKUP, backup, sentences
    backups             backups: [BACKUP]
    drop-backup         dropped: [BACKUP + kept]
    cleanup, free       cleaned: {freed_bytes, removed_models, archived_models, done: [CANDIDATE + freed_bytes, kept],
                        spared, failed}; plan: {candidates: [CANDIDATE], spared, freed_bytes, total_bytes, short_bytes, …}
    pin, unpin, pins    pinned: REF + at, reason · unpinned: REF + was_pinned · pins: [REF + at, reason]
    why                 why: {path, kind, ref, file, registry, manifest_hash, chunks, installed_at, verified_at, used_at,
                        kept_because, removed_by}
    dedupe              deduplicated: {method, done: [SHARE], skipped, size_bytes}
    archive, archived   archived: ARCHIVE · archives: [ARCHIVE]
    restore             restored: MODEL + file_count, installed_at, path, receipt, local_files, bytes_freed
    drop-archive        dropped: ARCHIVE + kept
    adopt, adopted      adopted: {place: PLACE, model, receipt} · adopted: [PLACE]
    forget              forgotten: [directory]
    bundle …            bundle · validated: [REPORT] · repaired · bundles · document: {path, text}
    maintain            maintained: {ran, reason, verdict, checked, damaged, repaired, rolled_back, unresolved, …};
                        scheduled: {schedule, …} with `--schedule never`

    Below `ai`:

    run                 text, tokens, timings_s: {install, queue, load, lora, first_token, generate, total}, worker_pid,
                        model, finish_reason, prompt_tokens, seed, device, degraded, evicted, loras, retries,
                        tokens_per_s; after Ctrl-C what came until then, with `error`
    ps                  models: [AWAKE]
    load                loaded: AWAKE, printed before the wait of `--hold`
    evict               evicted: AWAKE + has_left (false: it was asked to, and has not yet)
    pin, unpin          pinned | unpinned: AWAKE + is_done (the same)
    plan                plan: {model, verdict: "resident" | "coming" | "fits" | "evicts" | "waits" | "broken" |
                        "impossible", message, device, context_tokens, degraded, source, load_s, wakes, rooms: [{device,
                        needed_bytes, free_bytes, budget_bytes}], leaving: [{model, to, frees: [[device, bytes]], idle_s,
                        kernel_pid, waits_for}], needed_bytes, available_bytes, freed_bytes}
    timeline            timeline: [{at, lease_id, model, state, device, device_bytes, host_bytes, reason, note, kernel,
                        kernel_pid}], oldest first
    models              models: [{name, backend, why, size_bytes}]
    doctor              doctor: [{part, verdict: "ok" | "look at this" | "broken", text, advice}]

    Below `prompts`:

    ask                 text, finish, source: "cache" | "generated" | "joined", request, sample_index, provider, model,
                        usage, cost: COST, saved: COST, reason: {kind, field, part, byte, line, now, was, earlier,
                        earlier_at, also, detail, sentence}, not_kept, waited, tool_calls, timings_s, extra; with
                        `--samples` answers: [the same]
    resolve             resolved: {provider, model, format, request, scaffold, rendered, endpoint, tokens, tokens_bound,
                        estimated_cost: COST, cached, notes, segments: [{kind, label, hash, tokens, volatility, breakpoint,
                        path}], body}
    explain             explained: {provider, model, tokens, segments: [{index, kind, label, state: "cached" | "written" |
                        "breaks" | "fresh", read, written, fresh, amount}], break, advice, cost, unpriced, rule_checked,
                        answer_kept, answer_missed}
    lint                findings: [{rule, segment, label, line, column, excerpt, found, message, fix}]; mended with `--fix`
    analyze             analysis: [{key, calls, failed, hits, …_tokens, billed, estimated, median_s, p95_s, …_share}],
                        advice: [{provider, model, move, after, saved_tokens, calls, sentence}], totals, limits with `--ci`
    checkpoint, branch, restore
                        checkpoint: {id, scaffold, name, label, parent, state, metadata, nodes, branches, payload,
                        is_erased, at}
    delete, compact     deleted: {checkpoint} · compacted: {bytes}
    list                checkpoints: [{id, parent, scaffold, name, label, at, branches, is_tip}]
    cache status        prompts_cache: {answers, scaffolds, sent, damaged, size_bytes, moved_aside}
    cache rotate        rotated, or plan with `--dry-run`: {idle, surplus, kept, kept_bytes}
    cache erase, clear  erased: {request, rows} · cleared: {rows}

    COST   null, or {amount "0.0012", currency, kind: "estimated" | "billed", price_date, source}
    REF    ref "group/model version", group, model, version
    MODEL  REF + manifest_hash, total_size (bytes; null when the index does not say)
    FILE   {path, size, sha256?}
    REPORT      {model_id, validation_timestamp, overall_status, checks, recommendations, depth, findings, verdict, …}
    BACKUP      REF + id, manifest_hash, made_at, reason, replaced_by, size_bytes, file_count, path, problem
    CANDIDATE   {kind, name, path, ref, manifest_hash, action, step, reason, freed_bytes}
    ARCHIVE     REF + manifest_hash, archived_at, model_bytes, stored_bytes, local_files, path
    AWAKE       {key "backend:name", name, backend, status, device, size_bytes, source, context_tokens, in_flight, waiting,
                served, pinned, idle_s, worker_pid, kernel_pid, is_mine, why_not_evict, cause, load_s, note, fraction}
    PLACE       {kind, root, adopted_at, files, size_bytes, models: [{name, files, size}]}

Sizes are bytes, times are UTC in ISO 8601, paths are absolute. Keys are never renamed; new ones may appear.

Source: spec 1 §CLI (`--json`); seeds/002 §Public API for the names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xprim_nb.refs import ModelRef

if TYPE_CHECKING:
    from xprim_nb.cache.values import InstalledModel, Pulled

__all__ = ["installed", "plain", "pulled", "reference"]


def reference(ref: ModelRef) -> dict[str, Any]:
    """A reference, whole and in parts."""
    return {"ref": str(ref), "group": ref.group, "model": ref.model, "version": ref.version}


def plain(value: object) -> Any:  # noqa: ANN401  # JSON
    """A core value as JSON has it; a value with a `ref` gets its parts too."""
    if isinstance(value, ModelRef):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Path):
        return os.fspath(value)
    if hasattr(value, "_asdict"):  # a NamedTuple
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if is_dataclass(value):
        ref = getattr(value, "ref", None)
        named = reference(ref) if isinstance(ref, ModelRef) else {}
        # A model's own directory says it all: the models' directory it is in is not told beside it.
        names = ["path" if item.name == "base" else item.name for item in fields(value)]
        return {**{name: plain(getattr(value, name)) for name in names}, **named}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value


def installed(model: InstalledModel) -> dict[str, Any]:
    """An installed model; what else its `registry.json` entry holds is not part of the contract."""
    document: dict[str, Any] = plain(model)
    del document["extra"]
    return document


def pulled(result: Pulled) -> dict[str, Any]:
    """The result of a pull, with the model's own keys beside it."""
    return {
        **installed(result.model),
        **reference(result.ref),
        "status": result.status,
        "checked": result.checked,
        "receipt": plain(result.receipt),
    }
