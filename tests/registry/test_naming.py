"""`xprim_nb.registry.naming`: edits of `models.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb._files import PathLock
from xprim_nb._hashing import Digest
from xprim_nb.errors import (
    ConfigError,
    InvalidRefError,
    ModelNotFoundError,
    RegistryError,
    StorageError,
    VersionExistsError,
    VersionNotFoundError,
)
from xprim_nb.refs import ModelRef
from xprim_nb.registry import naming
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.naming import name_version, published_hash, set_alias

A, B, C = (Digest(letter * 64) for letter in "abc")
V1, V2, LATEST = (ModelRef("demo", "tiny", version) for version in ("v1", "v2", "latest"))


def index_of(to: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((to / "models.json").read_bytes())
    return document


def versions_of(to: Path) -> dict[str, Any]:
    versions: dict[str, Any] = index_of(to)["demo"]["tiny"]
    return versions


def test_the_first_version_makes_the_index(tmp_path: Path) -> None:
    """A new registry lists the version with hash, size and metadata, and nothing else."""
    assert name_version(tmp_path / "new", V1, A, 7, metadata={"license": "MIT"})
    assert index_of(tmp_path / "new") == {
        "demo": {"tiny": {"v1": {"hash": A, "total_size": 7, "metadata": {"license": "MIT"}}}}
    }


def test_an_alias_repeats_its_targets_hash(tmp_path: Path) -> None:
    """Clients that know no aliases find hash and size; the others find the target."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST])
    assert versions_of(tmp_path)["latest"] == {"alias": "v1", "hash": A, "total_size": 7}
    model = parse_index((tmp_path / "models.json").read_bytes()).get(LATEST)
    assert (model.alias_of, model.manifest_hash, model.total_size) == ("v1", A, 7)


def test_naming_again_writes_nothing(tmp_path: Path) -> None:
    """What the index says already is not written: the file stays the same one."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST], metadata={"a": 1})
    before = (tmp_path / "models.json").stat()
    assert not name_version(tmp_path, V1, A, 7, aliases=[LATEST], metadata={"a": 1})
    assert not name_version(tmp_path, V1, A, 7)
    assert not set_alias(tmp_path, V1, "latest")
    after = (tmp_path / "models.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_metadata_is_replaced_when_given(tmp_path: Path) -> None:
    """New metadata takes the place of the old; without any the old stays. A truth value is not a number."""
    name_version(tmp_path, V1, A, 7, metadata={"a": 1, "b": 2})
    assert not name_version(tmp_path, V1, A, 7, metadata=None)
    assert name_version(tmp_path, V1, A, 7, metadata={"a": True, "b": 2})
    assert versions_of(tmp_path)["v1"]["metadata"] == {"a": True, "b": 2}


def test_unknown_keys_are_kept(tmp_path: Path) -> None:
    """Whatever else is written in the index, at any level, is there afterwards."""
    before: dict[str, Any] = {
        "$schema": "https://example.org/x",
        "other": {"model": {"v9": {"hash": C, "size_human": "1 GB", "n": 123456789012345678901234567890}}},
        "demo": {
            "note": 5,
            "tiny": {
                "v1": {"hash": A, "total_size": 7, "signature": "sig"},
                "latest": {"alias": "v1", "hash": A, "pinned": True},
            },
        },
    }
    (tmp_path / "models.json").write_text(json.dumps(before))
    name_version(tmp_path, V2, B, 8, aliases=[LATEST])
    after = index_of(tmp_path)
    assert after["demo"]["tiny"].pop("v2") == {"hash": B, "total_size": 8}
    assert after["demo"]["tiny"].pop("latest") == {"alias": "v2", "hash": B, "total_size": 8, "pinned": True}
    del before["demo"]["tiny"]["latest"]
    assert after == before


def test_a_version_does_not_change(tmp_path: Path) -> None:
    """Other bytes under a published version are refused, and the index stays."""
    name_version(tmp_path, V1, A, 7)
    with pytest.raises(VersionExistsError, match="v1"):
        name_version(tmp_path, V1, B, 8)
    assert versions_of(tmp_path)["v1"]["hash"] == A
    assert published_hash(tmp_path, V1, [], replace=False) == A


def test_replacing_takes_the_aliases_along(tmp_path: Path) -> None:
    """With `replace`, every alias that leads to the version repeats the new hash, over any number of steps."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST])
    set_alias(tmp_path, LATEST, "stable")
    name_version(tmp_path, V2, C, 9, aliases=[ModelRef("demo", "tiny", "edge")])
    assert published_hash(tmp_path, V1, [LATEST], replace=True) is None
    assert name_version(tmp_path, V1, B, 8, replace=True)
    index = parse_index((tmp_path / "models.json").read_bytes())
    assert not index.problems
    assert {model.ref.version: (model.manifest_hash, model.total_size) for model in index} == {
        "v1": (B, 8), "latest": (B, 8), "stable": (B, 8), "v2": (C, 9), "edge": (C, 9),
    }  # fmt: skip


@pytest.mark.parametrize("replace", [False, True])
def test_an_alias_cannot_take_a_versions_name(replace: bool, tmp_path: Path) -> None:
    """A real version is never turned into an alias."""
    name_version(tmp_path, V1, A, 7)
    with pytest.raises(VersionExistsError, match="version of its own"):
        name_version(tmp_path, V2, B, 8, aliases=[V1], replace=replace)
    with pytest.raises(VersionExistsError, match="version of its own"):
        published_hash(tmp_path, V2, [V1], replace=replace)
    name_version(tmp_path, V2, B, 8)
    with pytest.raises(VersionExistsError, match="version of its own"):
        set_alias(tmp_path, V2, "v1")


def test_a_version_takes_an_aliass_name_only_with_replace(tmp_path: Path) -> None:
    """`latest` becomes a real version when that is asked for in so many words."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST])
    with pytest.raises(VersionExistsError, match="an alias of 'v1'"):
        name_version(tmp_path, LATEST, A, 7)
    assert name_version(tmp_path, LATEST, B, 8, replace=True)
    assert versions_of(tmp_path)["latest"] == {"hash": B, "total_size": 8}


def test_set_alias_moves_a_name(tmp_path: Path) -> None:
    """An alias leads to the version it was set to last, and what follows it follows."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST])
    name_version(tmp_path, V2, B, 8)
    set_alias(tmp_path, "demo/tiny latest", "stable")
    assert set_alias(tmp_path, "demo/tiny@v2", "latest")
    index = parse_index((tmp_path / "models.json").read_bytes())
    assert {model.ref.version: (model.manifest_hash, model.alias_of) for model in index} == {
        "v1": (A, None), "v2": (B, None), "latest": (B, "v2"), "stable": (B, "v2"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "alias", "error"),
    [
        ("demo/tiny v1", "../x", InvalidRefError),
        ("demo/tiny v1", "", InvalidRefError),
        ("demo/tiny", "x", InvalidRefError),
        ("demo/tiny v1", "v1", ConfigError),
        ("demo/tiny v9", "x", VersionNotFoundError),
        ("demo/other v1", "x", ModelNotFoundError),
        ("demo/tiny stable", "latest", RegistryError),
    ],
)
def test_aliases_that_cannot_be(target: str, alias: str, error: type[Exception], tmp_path: Path) -> None:
    """No name, no target, itself, or a loop: refused, and the index stays byte for byte."""
    name_version(tmp_path, V1, A, 7, aliases=[LATEST])
    set_alias(tmp_path, LATEST, "stable")
    before = (tmp_path / "models.json").read_bytes()
    with pytest.raises(error):
        set_alias(tmp_path, target, alias)
    assert (tmp_path / "models.json").read_bytes() == before


def test_a_chain_too_long_for_readers_is_not_written(tmp_path: Path) -> None:
    """The ninth alias of an alias is refused, because no client would follow it."""
    name_version(tmp_path, V1, A, 7)
    target = "v1"
    for number in range(8):
        set_alias(tmp_path, ModelRef("demo", "tiny", target), f"a{number}")
        target = f"a{number}"
    with pytest.raises(RegistryError, match="8 deep"):
        set_alias(tmp_path, ModelRef("demo", "tiny", target), "a8")
    assert "a8" not in versions_of(tmp_path)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"demo": 5}', b'{"demo": {"tiny": []}}']
)
@pytest.mark.parametrize(
    "edit",
    [lambda to: name_version(to, V1, A, 7), lambda to: published_hash(to, V1, [], replace=False)],
)
def test_an_index_that_cannot_be_used_is_left_alone(
    raw: bytes, edit: Callable[[Path], object], tmp_path: Path
) -> None:
    """A broken `models.json` may be all that is left of somebody's registry: it is not overwritten."""
    (tmp_path / "models.json").write_bytes(raw)
    with pytest.raises(RegistryError) as caught:
        edit(tmp_path)
    assert "by hand" in caught.value.hint
    assert (tmp_path / "models.json").read_bytes() == raw


def test_an_index_clients_could_not_read_is_not_written(tmp_path: Path) -> None:
    """What a reader would reject afterwards (here NaN, which is no JSON) is rejected before."""
    (tmp_path / "models.json").write_text('{"x": NaN}')
    with pytest.raises(RegistryError):
        name_version(tmp_path, V1, A, 7)
    assert (tmp_path / "models.json").read_text() == '{"x": NaN}'


def test_an_edit_waits_for_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else edits nothing is written, and who waits too long is told."""
    monkeypatch.setattr(naming, "_LOCK_TIMEOUT_S", 0.05)
    lock = PathLock(tmp_path / ".models.json.lock")
    lock.acquire(1)
    with pytest.raises(StorageError, match="another process held"):
        name_version(tmp_path, V1, A, 7)
    assert not (tmp_path / "models.json").exists()
    lock.release()
    assert name_version(tmp_path, V1, A, 7)
