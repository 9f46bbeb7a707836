"""The toolkit's verbs that hash: their handles say how far they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from xprim_nb import Config, PullProgress, connect
from xprim_nb.errors import InvalidRefError
from xprim_nb.events import CheckProgress
from xprim_nb.testing.registries import make_registry, random_bytes

_REF = "group/model v1"


def test_handles_have_the_latest_progress(tmp_path: Path) -> None:
    """A check's snapshot is a `CheckProgress` of its own model, a restore's a `PullProgress` of its own, not an old one."""
    made = make_registry(
        tmp_path / "registry", {_REF: {"a.bin": random_bytes(1, 5000)}, "group/other v1": {"b.bin": b"b"}}
    )
    config = Config(registry_url=str(made.root), data_dir=tmp_path / "models", has_environment=True)
    with connect(config) as kit:
        for ref in (_REF, "group/other v1"):
            kit.pull(ref).result()
        checked, other = kit.validate(_REF, "full"), kit.validate("group/other@v1", "full")
        checked.result()
        other.result()
        for handle, ref in ((checked, _REF), (other, "group/other v1")):
            news = handle.snapshot()
            assert isinstance(news, CheckProgress)
            assert (str(news.ref), news.finished, news.fraction) == (ref, True, 1.0)
        kit.archive(_REF).result()
        restoring = kit.restore(_REF)
        restoring.result()
        pulled = restoring.snapshot()
        assert isinstance(pulled, PullProgress)
        assert (str(pulled.ref), pulled.bytes_reused) == (_REF, 5000)


def test_an_adoption_that_installs_tells_how_far_it_is(tmp_path: Path) -> None:
    """Its snapshot is the `PullProgress` of what it installs; one that installs nothing has none, and a bad name raises."""
    place = tmp_path / "theirs"
    place.mkdir()
    (place / "x.gguf").write_bytes(random_bytes(2, 3000))
    with connect(Config(data_dir=tmp_path / "models", offline=True, has_environment=True)) as kit:
        with pytest.raises(InvalidRefError):
            kit.adopt(place, install_as="mine/x")
        adopting = kit.adopt(place, install_as="mine/x v1")
        adopting.result()
        told = adopting.snapshot()
        assert isinstance(told, PullProgress)
        assert (str(told.ref), told.bytes_completed) == ("mine/x v1", 3000)
        known = kit.adopt(place)
        known.result()
        assert known.snapshot() is None


def test_a_bad_ref_raises_at_once(tmp_path: Path) -> None:
    """Before anything is started or opened."""
    with connect(Config(data_dir=tmp_path / "models", has_environment=True)) as kit:
        for verb in (kit.validate, kit.repair, kit.restore):
            with pytest.raises(InvalidRefError):
                verb("group/model")
    assert not (tmp_path / "models").exists()
