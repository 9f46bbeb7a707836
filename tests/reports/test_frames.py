"""Core values as frames: the documented columns and dtypes, whatever the rows, and through files and back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xprim_nb.cache.planning import plan_pull
from xprim_nb.cache.values import InstalledModel, PullPlan
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import RemoteModel
from xprim_nb.registry.manifest import Manifest, VerifiedManifest, parse_manifest
from xprim_nb.reports import chunk_frame, installed_frame, plan_frame, remote_frame, usage_frame
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_A, _B = ModelRef.parse("group/a v1"), ModelRef.parse("group/b v2")
_HASH = "a" * 64


def _installed(ref: ModelRef = _A, **extra: Any) -> InstalledModel:
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return InstalledModel(ref, _HASH, 1 << 40, 3, when, Path("/base"), extra)


def _remote(ref: ModelRef, size: int | None = 5, alias_of: str | None = None) -> RemoteModel:
    return RemoteModel(ref, _HASH, size, alias_of, {"note": "é"})  # type: ignore[arg-type]  # a digest in a test


def _verified(made: MadeRegistry, ref: ModelRef) -> VerifiedManifest:
    return parse_manifest(made.object_path(made.manifest_hash(str(ref))).read_bytes(), ".xprim")


@pytest.fixture
def manifests(tmp_path: Path) -> dict[ModelRef, Manifest]:
    """Two models of three and two chunks, of which they share one."""
    own, shared = random_bytes("own", 200), random_bytes("shared", 100)
    made = make_registry(
        tmp_path / "r", {str(_A): {"w": own + shared}, str(_B): {"w": shared + b"x" * 50}}, chunk_size=100
    )
    return {ref: _verified(made, ref).manifest for ref in (_A, _B)}


def _plan(tmp_path: Path) -> PullPlan:
    data = b"".join(random_bytes(f"{number}", 100) for number in (1, 2, 3, 3))
    made = make_registry(tmp_path / "p", {str(_A): {"w": data}}, chunk_size=100)
    verified = _verified(made, _A)
    first, second, _ = verified.manifest.distinct
    return plan_pull(
        _A, verified, installed=None, present=[first], local={second: str(_B)}, allocated=0, disk_free=1
    )


def _frames(tmp_path: Path, manifests: dict[ModelRef, Manifest]) -> dict[Callable[..., Any], pd.DataFrame]:
    return {
        installed_frame: installed_frame(
            [_installed(registry="https://r"), _installed(_B, pinned={"at": 1})]
        ),
        remote_frame: remote_frame([_remote(_A), _remote(_B, None, "v1")], [_installed()]),
        chunk_frame: chunk_frame(manifests),
        plan_frame: plan_frame(_plan(tmp_path)),
        usage_frame: usage_frame([(_A, 1.5, 3)]),
    }


def _promised(of: Callable[..., Any]) -> list[str]:
    """The columns that a docstring lists: names in backticks, before the dtype of each group."""
    text = (of.__doc__ or "").split("Columns:")[1].split("\n\n")[0].split(". On a model")[0]
    without_values = re.sub(r"\([^)]*\)", "", text)
    return [name.strip() for group in re.findall(r"`([^`]+)`", without_values) for name in group.split(",")]


def test_the_columns_are_those_of_the_docstring(tmp_path: Path, manifests: dict[ModelRef, Manifest]) -> None:
    """Names and order are a contract: notebooks select by them."""
    for of, frame in _frames(tmp_path, manifests).items():
        assert list(frame.columns) == _promised(of), of.__name__


def test_a_frame_without_rows_has_the_same_dtypes(
    tmp_path: Path, manifests: dict[ModelRef, Manifest]
) -> None:
    """An empty cache must not change what a cell below computes with."""
    full = _frames(tmp_path, manifests)
    empty: dict[Callable[..., Any], pd.DataFrame] = {
        installed_frame: installed_frame([]),
        remote_frame: remote_frame([]),
        chunk_frame: chunk_frame({}),
        usage_frame: usage_frame([]),
    }
    for of, frame in empty.items():
        assert len(frame) == 0
        assert frame.dtypes.to_dict() == full[of].dtypes.to_dict(), of.__name__


def test_sizes_are_int64_and_times_are_utc() -> None:
    """A terabyte does not wrap, and a time knows its zone."""
    frame = installed_frame([_installed()])
    assert frame["size_bytes"].dtype == "int64"
    assert frame.loc[0, "size_bytes"] == 1 << 40
    assert str(frame["installed_at"].dtype) == "datetime64[ns, UTC]"
    assert frame.loc[0, "installed_at"] == pd.Timestamp("2026-01-02T03:04:05Z")
    assert frame["pinned"].tolist() == [False]


def test_files_and_back(tmp_path: Path, manifests: dict[ModelRef, Manifest]) -> None:
    """Each frame survives parquet and JSON: values and dtypes."""
    for of, frame in _frames(tmp_path, manifests).items():
        path = tmp_path / f"{of.__name__}.parquet"
        frame.to_parquet(path)
        pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
        text = frame.to_json(orient="records", date_format="iso", date_unit="ns")
        back = pd.read_json(io.StringIO(text), orient="records", dtype=False)
        pd.testing.assert_frame_equal(back.astype(frame.dtypes.to_dict()), frame)


def test_what_is_not_known_is_na() -> None:
    """A size that the index does not give, and a registry that nobody recorded, are missing, not 0 or empty."""
    frame = remote_frame([_remote(_A, None), _remote(_B, None, "v1")])
    assert frame["size_bytes"].isna().all()
    assert frame["alias_of"].isna().tolist() == [True, False]
    assert installed_frame([_installed()])["registry"].isna().all()


def test_the_status_of_a_remote_model_tells_what_is_here() -> None:
    """The same manifest is installed, another one is an update, none is available."""
    other = replace(_installed(_B), manifest_hash="b" * 64)
    frame = remote_frame([_remote(_A), _remote(_B), _remote(_A.with_version("v9"))], [_installed(), other])
    assert frame["status"].tolist() == ["installed", "update_available", "available"]
    assert frame.loc[0, "metadata"] == '{"note":"é"}'


def test_reuse_between_two_models_is_counted_once(manifests: dict[ModelRef, Manifest]) -> None:
    """A pair tells what both have, a model's own row what only it has."""
    rows = {(row[0], row[1]): row[2:] for row in chunk_frame(manifests).itertuples(index=False, name=None)}
    assert rows[str(_A), str(_B)] == (1, 100, pytest.approx(100 / 300), pytest.approx(100 / 150))
    assert rows[str(_A), str(_A)][:2] == (2, 200)


def test_a_plan_sums_to_the_model(tmp_path: Path) -> None:
    """Every byte of the model has one source."""
    plan = _plan(tmp_path)
    frame = plan_frame(plan)
    assert frame["size_bytes"].sum() == plan.total_size
    assert dict(zip(frame["source"], frame["size_bytes"], strict=True)) == {
        "unfinished pull": 100,
        "this machine": 100,
        "network": 100,
        "repeats": 100,
    }
    assert frame.loc[frame["source"] == "this machine", "place"].tolist() == [str(_B)]
