"""Core values as DataFrames. Each docstring lists the columns, in order; sizes are int64 bytes, times are UTC.

Source: spec 2 §Reports.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import pandas as pd

from xprim_nb._hashing import canonical_json
from xprim_nb.cache.values import InstalledModel, PullPlan
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.manifest import Manifest
from xprim_nb.reports.columns import (
    BYTES,
    COUNT,
    FLAG,
    MAYBE_BYTES,
    SHARE,
    TEXT,
    TIME,
    typed_frame,
)

__all__ = ["chunk_frame", "installed_frame", "plan_frame", "remote_frame", "usage_frame"]

_REF = {"ref": TEXT, "group": TEXT, "model": TEXT, "version": TEXT}


def _parts(ref: ModelRef) -> tuple[str, str, str, str]:
    return str(ref), ref.group, ref.model, ref.version


def installed_frame(models: Iterable[InstalledModel]) -> pd.DataFrame:
    """Installed models, one a row.

    Columns: `ref, group, model, version` string · `size_bytes, files` int64 · `installed_at` UTC ·
    `manifest_hash, registry, resolved_version` string (NA where not recorded) · `pinned` bool · `path` string.
    """
    columns = {
        **_REF,
        "size_bytes": BYTES,
        "files": COUNT,
        "installed_at": TIME,
        "manifest_hash": TEXT,
        "registry": TEXT,
        "resolved_version": TEXT,
        "pinned": FLAG,
        "path": TEXT,
    }
    return typed_frame(
        columns,
        (
            (
                *_parts(each.ref),
                each.total_size,
                each.file_count,
                each.installed_at,
                each.manifest_hash,
                _text(each.extra.get("registry")),
                _text(each.extra.get("resolved_version")),
                bool(each.extra.get("pinned")),
                str(each.path),
            )
            for each in models
        ),
    )


def remote_frame(listing: Iterable[RemoteModel], installed: Iterable[InstalledModel] = ()) -> pd.DataFrame:
    """What a registry lists, one version a row, with what of it is here.

    Columns: `ref, group, model, version` string · `size_bytes` Int64 (NA where the index does not say) ·
    `alias_of` string (NA for a real version) · `status` string (`available`, `installed`, `update_available`) ·
    `manifest_hash, metadata` string (JSON).
    """
    columns = {
        **_REF,
        "size_bytes": MAYBE_BYTES,
        "alias_of": TEXT,
        "status": TEXT,
        "manifest_hash": TEXT,
        "metadata": TEXT,
    }
    here = {each.ref: each.manifest_hash for each in installed}

    def status(model: RemoteModel) -> str:
        if model.ref not in here:
            return "available"
        return "installed" if here[model.ref] == model.manifest_hash else "update_available"

    return typed_frame(
        columns,
        (
            (
                *_parts(each.ref),
                each.total_size,
                each.alias_of,
                status(each),
                each.manifest_hash,
                canonical_json(dict(each.metadata)).decode(),
            )
            for each in listing
        ),
    )


def chunk_frame(manifests: Mapping[ModelRef, Manifest]) -> pd.DataFrame:
    """How much each two models share, and (`ref` equal to `other`) how much each has of its own.

    Columns: `ref, other` string · `chunks_shared` int64 (distinct) · `bytes_shared` int64 ·
    `share_of_ref, share_of_other` float64 (0 to 1, of each one's distinct bytes). On a model's own row, what is
    counted are the chunks that no other model of the frame has.
    """
    columns = {
        "ref": TEXT,
        "other": TEXT,
        "chunks_shared": COUNT,
        "bytes_shared": BYTES,
        "share_of_ref": SHARE,
        "share_of_other": SHARE,
    }
    sizes = {
        ref: {digest: manifest.sizes[indices[0]] for digest, indices in manifest.distinct.items()}
        for ref, manifest in manifests.items()
    }
    owners: dict[str, int] = {}
    for chunks in sizes.values():
        for digest in chunks:
            owners[digest] = owners.get(digest, 0) + 1
    rows: list[tuple[str, str, int, int, float, float]] = []
    for ref, chunks in sorted(sizes.items()):
        own = [size for digest, size in chunks.items() if owners[digest] == 1]
        share = _ratio(sum(own), sum(chunks.values()))
        rows.append((str(ref), str(ref), len(own), sum(own), share, share))
    for one, other in combinations(sorted(sizes), 2):
        shared = sizes[one].keys() & sizes[other].keys()
        size = sum(sizes[one][digest] for digest in shared)
        of_one, of_other = (_ratio(size, sum(sizes[each].values())) for each in (one, other))
        rows.append((str(one), str(other), len(shared), size, of_one, of_other))
    return typed_frame(columns, sorted(rows))


def plan_frame(plan: PullPlan) -> pd.DataFrame:
    """Where the bytes of a pull would come from.

    Columns: `source` string (`unfinished pull`, `this machine`, `network`, `repeats`) · `place` string (the model
    they are copied from; NA elsewhere) · `chunks` Int64 (NA where several sources share them) · `size_bytes` int64.
    """
    columns = {"source": TEXT, "place": TEXT, "chunks": MAYBE_BYTES, "size_bytes": BYTES}
    chunks_local = plan.chunks_local if len(plan.local_models) == 1 else None
    local = [("this machine", place, chunks_local, size) for place, size in plan.local_models.items()]
    rows: list[tuple[str, str | None, int | None, int]] = [
        ("unfinished pull", None, plan.chunks_present, plan.bytes_present),
        *local,
        ("network", None, plan.chunks_network, plan.bytes_network),
        ("repeats", None, None, plan.bytes_repeated),
    ]
    return typed_frame(columns, (row for row in rows if row[3]))


def usage_frame(usage: Iterable[tuple[ModelRef, float, int]]) -> pd.DataFrame:
    """When each model was last used.

    Columns: `ref, group, model, version` string · `last_used_at` UTC · `uses` int64.

    Args:
        usage: Reference, time of the last use in unix seconds, and how often it was used.
    """
    columns = {**_REF, "last_used_at": TIME, "uses": COUNT}
    return typed_frame(
        columns,
        ((*_parts(ref), pd.Timestamp(at, unit="s", tz="UTC"), uses) for ref, at, uses in usage),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
