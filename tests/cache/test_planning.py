"""The plan of a pull, decided purely: every byte has one source, and the sums agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.cache.planning import already_installed, check_space, plan_pull
from xprim_nb.cache.values import InstalledModel, PullPlan
from xprim_nb.errors import InsufficientSpaceError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import VerifiedManifest, parse_manifest

_REF = ModelRef.parse("group/model v1")


def _digest(number: int) -> str:
    return f"{number:064x}"


def _verified(numbers: list[int], chunk_size: int = 10, tail: int = 10) -> VerifiedManifest:
    """Chunks by number, the last one `tail` bytes long, in two files."""
    total = max(len(numbers) - 1, 0) * chunk_size + (tail if numbers else 0)
    files = [{"path": "a", "size": total // 3}, {"path": "b", "size": total - total // 3}]
    chunks = [_digest(number) for number in numbers]
    document = {"total_size": total, "chunk_size": chunk_size, "chunks": chunks, "files": files}
    return parse_manifest(json.dumps(document).encode(), ".xprim")


def _installed(verified: VerifiedManifest) -> InstalledModel:
    return InstalledModel(_REF, verified.digest, 1, 2, datetime.now(UTC), Path("/m"))


def _plan(verified: VerifiedManifest, **changes: Any) -> PullPlan:
    known: dict[str, Any] = {
        "installed": None,
        "present": set(),
        "local": {},
        "allocated": 0,
        "disk_free": 1 << 40,
    }
    return plan_pull(_REF, verified, **{**known, **changes})


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=20),
    st.sets(st.integers(0, 8)),
    st.sets(st.integers(0, 8)),
    st.integers(0, 300),
)
def test_every_byte_has_one_source(
    numbers: list[int], present: set[int], local: set[int], allocated: int
) -> None:
    """Whatever is where: present, local, network and repeated bytes are the model, and chunks are counted once."""
    verified = _verified(numbers)
    plan = _plan(
        verified,
        present={_digest(number) for number in present},
        local={_digest(number): f"group/m{number % 2} v1" for number in local},
        allocated=allocated,
    )
    assert (
        plan.bytes_present + plan.bytes_local + plan.bytes_network + plan.bytes_repeated
        == plan.total_size
        == verified.manifest.total_size
    )
    assert (
        plan.chunks_present + plan.chunks_local + plan.chunks_network
        == plan.chunks_total
        == len(set(numbers))
    )
    assert plan.chunks_present == len(set(numbers) & present)
    assert plan.chunks_network == len(set(numbers) - present - local)
    assert sum(plan.local_models.values()) == plan.bytes_local
    assert plan.disk_needed == max(0, plan.total_size - allocated)


def test_a_repeated_chunk_is_fetched_once() -> None:
    """Its further places are written, not fetched."""
    plan = _plan(_verified([1, 2, 1, 1]))
    assert (plan.bytes_network, plan.bytes_repeated, plan.chunks_network) == (20, 20, 2)


def test_a_short_last_chunk_counts_its_own_length() -> None:
    """The last chunk may be shorter than the others."""
    plan = _plan(_verified([1, 2], tail=3), present={_digest(2)})
    assert (plan.bytes_network, plan.bytes_present, plan.total_size) == (10, 3, 13)


@pytest.mark.parametrize(
    ("installed", "expected"), [(None, "install"), ("other", "update"), ("same", "install")]
)
def test_the_status_tells_what_would_happen(installed: str | None, expected: str) -> None:
    """Nothing there: install; another manifest: update; the same one, forced: it is put in place anew."""
    verified, other = _verified([1]), _verified([2])
    known = {"other": _installed(other), "same": _installed(verified), None: None}[installed]
    plan = _plan(verified, installed=known)
    assert plan.status == expected
    assert plan.installed_hash == (known.manifest_hash if known else None)


def test_nothing_to_do_is_a_plan_too() -> None:
    """An installed model's plan has everything present and needs no disk."""
    verified = _verified([1, 2, 1])
    plan = already_installed(_installed(verified), verified, disk_free=0)
    assert (plan.status, plan.bytes_present, plan.bytes_network, plan.disk_needed) == (
        "already_installed",
        30,
        0,
        0,
    )
    assert (plan.chunks_present, plan.chunks_total, plan.fits) == (2, 2, True)


def test_the_disk_must_hold_what_is_still_to_be_written() -> None:
    """To the byte: just enough is enough, one less is refused with the sum."""
    verified = _verified([1, 2, 3])
    check_space(_plan(verified, disk_free=30), "/base")
    check_space(_plan(verified, disk_free=10, allocated=20), "/base")
    with pytest.raises(InsufficientSpaceError, match=r"needs 30 B more.*29 B free: 1 B short") as caught:
        check_space(_plan(verified, disk_free=29), "/base")
    assert caught.value.subject == "/base"
