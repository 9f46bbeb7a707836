"""The engine's view of the models on this machine: names, aliases, directories, installation on first use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from xprim_nb.config import Config
from xprim_nb.errors import InvalidRefError, ModelNotFoundError, NotInstalledError
from xprim_nb.manager import Manager
from xprim_nb.manager.library import ManagerLibrary
from xprim_nb.workers.values import InstallProgress


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    """A manager of an empty models directory, with the embedded registry."""
    async with Manager(Config(data_dir=tmp_path / "models")) as manager:
        yield manager


async def test_a_model_is_installed_once(manager: Manager) -> None:
    """The first request installs and tells how far it is; the second finds it."""
    library = ManagerLibrary(manager)
    heard: list[InstallProgress] = []
    assert await library.find("demo/tiny-llama v2") is None
    made = await library.install("demo/tiny-llama v2", heard.append)
    assert (made.path / "model.safetensors").is_file()
    assert heard[-1].fraction == 1.0
    assert await library.find("demo/tiny-llama v2") == made
    heard.clear()
    assert await library.install("demo/tiny-llama v2", heard.append) == made
    assert heard == []


@pytest.mark.parametrize("name", ["demo/tiny-llama", "demo/tiny-llama latest", "demo/tiny-llama@latest"])
async def test_no_version_and_an_alias_mean_a_real_one(manager: Manager, name: str) -> None:
    """What `latest` stands for is installed under its own name, so that both names find one model."""
    library = ManagerLibrary(manager)
    made = await library.install(name, lambda _: None)
    assert made.name == "demo/tiny-llama v2"
    found = await library.find(name)
    assert found is not None
    assert found.name == "demo/tiny-llama v2"
    assert found.metadata["architecture"] == "llama"


async def test_the_only_installed_version_is_meant(manager: Manager) -> None:
    """A name without a version means the one that is here, when it is the only one."""
    library = ManagerLibrary(manager)
    await library.install("demo/tiny-llama v1", lambda _: None)
    found = await library.find("demo/tiny-llama")
    assert found is not None
    assert found.name == "demo/tiny-llama v1"


async def test_a_directory_is_a_model_too(manager: Manager, tmp_path: Path) -> None:
    """A path is taken as it is; one that is not there is told."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.json").write_bytes(b"{}")
    library = ManagerLibrary(manager)
    found = await library.find(str(own))
    assert found is not None
    assert (found.path, found.size_bytes, found.manifest_hash) == (own, 2, "")
    (await library.hold(str(own)))()
    with pytest.raises(NotInstalledError, match="no directory"):
        await library.find(str(tmp_path / "missing"))


async def test_names_that_mean_nothing_are_told(manager: Manager) -> None:
    """A text that is no name, and a model that nobody has, are two different errors."""
    library = ManagerLibrary(manager)
    with pytest.raises(InvalidRefError):
        await library.find("not a name at all")
    with pytest.raises(ModelNotFoundError):
        await library.install("demo/nothing", lambda _: None)


async def test_a_held_model_is_spared(manager: Manager) -> None:
    """While it is held no clean-up takes it; given back it may go."""
    library = ManagerLibrary(manager)
    await library.install("demo/tiny-llama v2", lambda _: None)
    give_back = await library.hold("demo/tiny-llama v2")
    assert (await manager.free("1 GB")).removed_models == ()
    give_back()
    plan = await manager.plan_free("1 GB")
    assert plan.policy.min_age_hours == 1.0  # spared for its age only, no longer for its lease
    assert not any("use" in each.reason and "lease" in each.reason for each in plan.spared)


async def test_the_cache_is_kept_in_bounds(manager: Manager) -> None:
    """Above the limit a clean-up runs after an installation, and never takes the model that was asked for."""
    library = ManagerLibrary(manager, max_cache_bytes=1)
    made = await library.install("demo/tiny-llama v2", lambda _: None)
    assert made.path.is_dir()


async def test_what_can_answer_is_recommended(manager: Manager) -> None:
    """Models come smallest first; LoRA layers and aliases are none."""
    names = [each.name for each in await ManagerLibrary(manager).recommended()]
    assert names == ["demo/tiny-llama v1", "demo/tiny-llama v2"]


async def test_nobody_recommends_offline(tmp_path: Path) -> None:
    """A registry that cannot be asked recommends nothing, and says nothing worse."""
    config = Config(data_dir=tmp_path, registry_url="http://127.0.0.1:9/models", offline=True)
    async with Manager(config) as manager:
        assert await ManagerLibrary(manager).recommended() == []
