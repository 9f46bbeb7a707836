"""What a pull would do, decided purely.

    1. A chunk in the unfinished pull stays where it is.
    2. A chunk on this machine is copied from the nearest place that holds it.
    3. Every other chunk is fetched, once, however often it occurs.
    4. The files need room for every byte that is not allocated yet, while the old version also exists.

Source: spec 1 §Pull; research pull §5 ("plan before pull").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from xprim_nb._text import format_bytes
from xprim_nb.cache.values import InstalledModel, PlanStatus, PullPlan
from xprim_nb.errors import InsufficientSpaceError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import VerifiedManifest

__all__ = ["already_installed", "check_space", "plan_pull"]


def plan_pull(
    ref: ModelRef,
    verified: VerifiedManifest,
    *,
    installed: InstalledModel | None,
    present: Collection[str],
    local: Mapping[str, str],
    allocated: int,
    disk_free: int,
    without: Collection[str] = (),
) -> PullPlan:
    """The plan for a pull that has work to do.

    Args:
        ref: What is pulled.
        verified: The manifest to install.
        installed: What is installed under `ref` now.
        present: Chunks verified in the unfinished pull.
        local: For each chunk on this machine, the name of the place that holds it.
        allocated: Bytes on disk that the unfinished pull has already.
        disk_free: Bytes free on the disk.
        without: Chunks that are not gathered.
    """
    manifest, counts, sums, models = verified.manifest, Counter[str](), Counter[str](), Counter[str]()
    for digest, indices in manifest.distinct.items():
        if digest in without:
            continue
        size, whole = manifest.sizes[indices[0]], manifest.sizes[indices[0]] * len(indices)
        if digest in present:  # 1
            kind = "present"
        elif digest in local:  # 2
            kind = "local"
            models[local[digest]] += whole
        else:  # 3
            kind, whole = "network", size
            sums["repeated"] += size * (len(indices) - 1)
        counts[kind] += 1
        sums[kind] += whole
    status: PlanStatus = (
        "install" if installed is None or installed.manifest_hash == verified.digest else "update"
    )
    return PullPlan(
        ref=ref,
        manifest_hash=verified.digest,
        status=status,
        installed_hash=installed.manifest_hash if installed else None,
        files=manifest.files,
        total_size=manifest.total_size,
        bytes_present=sums["present"],
        bytes_local=sums["local"],
        bytes_network=sums["network"],
        bytes_repeated=sums["repeated"],
        chunks_total=len(manifest.distinct),
        chunks_present=counts["present"],
        chunks_local=counts["local"],
        chunks_network=counts["network"],
        local_models=dict(sorted(models.items())),
        disk_needed=max(0, manifest.total_size - allocated),  # 4
        disk_free=disk_free,
    )


def already_installed(model: InstalledModel, verified: VerifiedManifest, disk_free: int) -> PullPlan:
    """The plan for a pull that has nothing to do."""
    manifest = verified.manifest
    return PullPlan(
        ref=model.ref,
        manifest_hash=model.manifest_hash,
        status="already_installed",
        installed_hash=model.manifest_hash,
        files=manifest.files,
        total_size=manifest.total_size,
        bytes_present=manifest.total_size,
        bytes_local=0,
        bytes_network=0,
        bytes_repeated=0,
        chunks_total=len(manifest.distinct),
        chunks_present=len(manifest.distinct),
        chunks_local=0,
        chunks_network=0,
        local_models={},
        disk_needed=0,
        disk_free=disk_free,
    )


def check_space(plan: PullPlan, base: object) -> None:
    """Return when the disk can hold what the plan writes.

    Raises:
        InsufficientSpaceError: It cannot; the message shows the sum.
    """
    if not plan.fits:
        raise InsufficientSpaceError(
            f"{plan.ref} needs {format_bytes(plan.disk_needed)} more, and the disk of {base} has "
            f"{format_bytes(plan.disk_free)} free: {format_bytes(plan.disk_needed - plan.disk_free)} short.",
            subject=str(base),
        )
