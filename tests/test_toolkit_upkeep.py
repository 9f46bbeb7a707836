"""The notebook's side of upkeep: every verb of the manager is there, and gives a handle."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from xprim_nb import Config, Handle, connect
from xprim_nb.cache.upkeep.cleanup import CleanupPolicy
from xprim_nb.errors import NotInstalledError
from xprim_nb.manager.adopting import Adopting
from xprim_nb.manager.archiving import Archiving
from xprim_nb.manager.reading import Reading
from xprim_nb.manager.upkeep import Upkeep
from xprim_nb.testing.registries import make_registry, random_bytes
from xprim_nb.toolkit.upkeep import UpkeepVerbs

_REF = "group/model v1"


def _verbs(*owners: type) -> set[str]:
    return {
        name for owner in owners for name, each in vars(owner).items() if name[0] != "_" and callable(each)
    }


def test_every_verb_of_the_manager_has_its_handle() -> None:
    """No verb is missing in the toolkit, and each takes the same arguments."""
    names = _verbs(Upkeep, Archiving, Adopting)
    assert names == _verbs(UpkeepVerbs)
    assert names.isdisjoint(_verbs(Reading))
    for name in names:
        owner = next(each for each in (Upkeep, Archiving, Adopting) if name in vars(each))
        theirs = inspect.signature(getattr(UpkeepVerbs, name)).parameters
        ours = inspect.signature(getattr(owner, name)).parameters
        assert [(each.name, each.kind, each.default) for each in theirs.values()] == [
            (each.name, each.kind, each.default) for each in ours.values()
        ]


def test_a_notebook_keeps_its_cache_in_bounds(tmp_path: Path) -> None:
    """One model through every verb: measured, pinned, opened, planned, archived, restored, freed."""
    make_registry(tmp_path / "registry", {_REF: {"w.bin": random_bytes(1, 9000)}})
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x.gguf").write_bytes(b"x")
    config = Config(registry_url=str(tmp_path / "registry"), data_dir=tmp_path / "models")
    with connect(config) as kit:
        kit.pull(_REF).result()
        assert kit.accounts().result().of(_REF).total_bytes > 9000
        assert kit.pin(_REF, "mine").result().reason == "mine"
        with kit.open_file(_REF, "w.bin").result() as opened:
            assert opened.size_bytes == 9000
        with kit.lease(_REF).result() as lease:
            assert lease.held
        assert kit.usage().result()[_REF].uses == 2
        assert "mine" in str(kit.why(tmp_path / "models/group/model/v1/w.bin").result())
        assert [each.guard for each in kit.plan_free("1 GB").result().spared] == ["pinned"]
        assert len(kit.pins().result()) == 1
        assert kit.unpin(_REF).result()
        assert kit.plan_cleanup(CleanupPolicy(max_cache_size_gb=0)).result().spared[0].guard == "young"
        assert kit.plan_dedupe().result().shares == ()
        assert kit.dedupe().result().done == ()
        assert kit.plan_archive(_REF).result().fits
        assert kit.archive(_REF).result().model_bytes == 9000
        assert kit.plan_restore(_REF).result().pull.bytes_network == 0
        assert len(kit.archived().result()) == 1
        assert kit.restore(_REF).result().path.is_dir()
        kit.archive(_REF).result()
        assert kit.remove_archive(_REF).result() is None
        assert kit.scan(folder).result().kind == "folder"
        assert kit.adopt(folder, install_as="mine/x v1").result().model is not None
        assert len(kit.adopted().result()) == 1
        assert kit.forget_adopted().result() == [str(folder)]
        freed = kit.free("1 B", CleanupPolicy(min_age_hours=0)).result()
        assert freed.removed_models == ("mine/x v1",)
        assert kit.cleanup().result().done == ()
        missing = kit.pin(_REF)
        assert isinstance(missing, Handle)
        with pytest.raises(NotInstalledError):
            missing.result()
