"""Where things lie: a contract with the original client, and names that every file system takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from xprim_nb.cache.layout import Layout
from xprim_nb.config import Config
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import RESERVED_GROUPS, ModelRef

_REF = ModelRef.parse("fast-whisper/tiny fp16")


@pytest.fixture
def layout() -> Layout:
    """The layout below `/base`."""
    return Layout(Path("/base"), ".xprim")


def test_the_names_of_the_contract(layout: Layout) -> None:
    """Each name is where the contract puts it."""
    model = layout.model_dir(_REF)
    assert model == Path("/base/fast-whisper/tiny/fp16")
    assert layout.manifest_file(model) == model / ".xprim" / "manifest.json"
    assert layout.registry_file == Path("/base/registry.json")
    assert layout.registry_lock == Path("/base/registry.json.lock")
    assert layout.chunks == Path("/base/cache/chunks")
    assert layout.manifests == Path("/base/cache/manifests")
    assert layout.partials == Path("/base/cache/partial")
    assert layout.state_file == Path("/base/state.sqlite")


def test_the_metadata_directory_is_named_after_the_application() -> None:
    """Another application's models have another hidden directory inside."""
    layout = Layout.of(Config(app_name="mytool", data_dir=Path("/base")))
    assert layout.manifest_file(Path("/m")) == Path("/m/.mytool/manifest.json")


def test_a_layout_touches_no_disk(tmp_path: Path) -> None:
    """Every path can be asked for without anything coming into being."""
    layout = Layout.of(Config(data_dir=tmp_path / "base"))
    for path in (layout.model_dir(_REF), layout.kept_dir(_REF), layout.new_trash(), layout.ref_lock(_REF)):
        assert path.is_relative_to(tmp_path / "base")
    assert list(tmp_path.iterdir()) == []


def test_no_lock_lies_in_what_is_deleted(layout: Layout) -> None:
    """Locks lie outside model directories, unfinished pulls and the trash."""
    locks = [
        layout.ref_lock(_REF),
        layout.partial_lock("a" * 64),
        layout.chunk_lock("a" * 64),
        layout.registry_lock,
    ]
    deleted = [layout.model_dir(_REF), layout.partials, layout.trash, layout.chunks, layout.intents]
    assert not [lock for lock in locks for path in deleted if lock.is_relative_to(path)]


def test_a_whole_model_has_no_directory(layout: Layout) -> None:
    """Without a version there is no path: the group's or model's directory is never taken for a version's."""
    with pytest.raises(InvalidRefError):
        layout.model_dir(ModelRef.parse("group/model"))


def test_our_own_names_are_no_groups(layout: Layout) -> None:
    """Whatever lies beside the groups in the base cannot be the name of one."""
    own = {layout.registry_file, layout.registry_lock, layout.cache, layout.state_file}
    assert {path.name for path in own} <= RESERVED_GROUPS


def test_lock_names_fit_and_tell_versions_apart(layout: Layout) -> None:
    """The longest references have locks of their own under names that a file system takes."""
    long = [ModelRef("g" * 128, "m" * 128, "v" * 127 + last) for last in "xyz"]
    locks = [layout.ref_lock(ref) for ref in (*long, _REF, ModelRef("fast-whisper", "tiny", "int8"))]
    assert len(set(locks)) == 5
    assert max(len(lock.name) for lock in locks) <= 255
    assert layout.ref_lock(_REF).name == "ref-fast-whisper~tiny~fp16.lock"


def test_two_spellings_of_a_long_name_are_one_lock_where_they_are_one_directory(layout: Layout) -> None:
    """On a case-insensitive file system the lock of a long name differs from another spelling's by case alone."""
    upper, lower = ModelRef("G" * 128, "M" * 128, "V" * 128), ModelRef("g" * 128, "m" * 128, "v" * 128)
    assert layout.ref_lock(upper).name.lower() == layout.ref_lock(lower).name.lower()


def test_fresh_names_are_fresh(layout: Layout) -> None:
    """Trash and kept directories never meet an older one."""
    assert len({layout.new_trash() for _ in range(100)}) == 100
    assert len({layout.kept_dir(_REF) for _ in range(100)}) == 100
