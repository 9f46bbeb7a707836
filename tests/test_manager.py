"""The public face: what each verb answers, from any loop, and that nothing is left open."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import Config, Manager, ModelRef
from xprim_nb.errors import (
    ConfigError,
    HashMismatchError,
    InvalidRefError,
    ModelNotFoundError,
    NotInstalledError,
    StorageError,
    VersionNotFoundError,
)
from xprim_nb.testing.faults import Corrupt
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

_TINY = random_bytes("tiny", 2500)
_MODELS = {
    "fast-whisper/tiny fp16": {"model.safetensors": _TINY, "config.json": b"{}"},
    "fast-whisper/tiny int8": {"model.safetensors": _TINY[:1300]},
    "fast-whisper/base fp16": {"model.safetensors": _TINY[::-1]},
    "another/model v1": {"a": b"1"},
}


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """A registry of two groups, four versions and an alias."""
    alias = {"fast-whisper/tiny latest": "fp16"}
    return make_registry(tmp_path / "registry", _MODELS, alias=alias, metadata={"licence": "MIT"})


@pytest.fixture
def config(made: MadeRegistry, tmp_path: Path) -> Config:
    """Settings that lead there."""
    return Config(registry_url=str(made.root), data_dir=tmp_path / "models", backoff_s=0.0)


async def test_the_remote_is_listed_sorted(config: Config) -> None:
    """Every version once, in the order of names, with size, metadata and what an alias stands for."""
    async with Manager(config) as manager:
        listed = await manager.list_remote()
        group = await manager.list_remote_group("fast-whisper")
        nothing = await manager.list_remote_group("nobody")
    refs = ["another/model v1", "fast-whisper/base fp16", "fast-whisper/tiny fp16", "fast-whisper/tiny int8"]
    assert [str(each.ref) for each in listed] == [*refs, "fast-whisper/tiny latest"]
    assert [str(each.ref) for each in group] == [*refs[1:], "fast-whisper/tiny latest"]
    assert list(nothing) == []
    latest = list(listed)[-1]
    assert (latest.alias_of, latest.total_size, dict(latest.metadata)) == ("fp16", 2502, {"licence": "MIT"})


async def test_the_versions_of_one_model(config: Config) -> None:
    """Exactly its versions and aliases; a model that is not there is an error, not an empty list."""
    async with Manager(config) as manager:
        versions = await manager.list_remote_versions("fast-whisper", "tiny")
        with pytest.raises(ModelNotFoundError, match="fast-whisper/huge"):
            await manager.list_remote_versions("fast-whisper", "huge")
    assert [each.ref.version for each in versions] == ["fp16", "int8", "latest"]


@pytest.mark.parametrize("bad", ["..", "a/b", "", "con"])
async def test_a_name_that_is_none_is_refused_before_anybody_is_asked(tmp_path: Path, bad: str) -> None:
    """Every verb that looks says what is wrong with the name, also where no registry answers and no disk is there."""
    nowhere = Config(registry_url=str(tmp_path / "none"), data_dir=tmp_path / "models", tries=1)
    async with Manager(nowhere) as manager:
        for look in (
            lambda: manager.list_remote_group(bad),
            lambda: manager.list_remote_versions(bad, "tiny"),
            lambda: manager.list_remote_versions("fast-whisper", bad),
            lambda: manager.get_remote(f"{bad}/tiny v1"),
            lambda: manager.get_remote_detail(f"fast-whisper/{bad} v1"),
            lambda: manager.check_updates(f"{bad}/tiny"),
        ):
            with pytest.raises(InvalidRefError):
                await look()
        with pytest.raises(InvalidRefError, match="no version"):
            await manager.get_remote("fast-whisper/tiny")
    assert not (tmp_path / "models").exists()


async def test_one_version_in_detail(config: Config, made: MadeRegistry) -> None:
    """The index entry, and what the manifest says; an alias is told as one."""
    async with Manager(config) as manager:
        remote = await manager.get_remote("fast-whisper/tiny@latest")
        detail = await manager.get_remote_detail(ModelRef.parse("fast-whisper/tiny latest"))
        with pytest.raises(VersionNotFoundError) as caught:
            await manager.get_remote("fast-whisper/tiny fp64")
    assert (remote.manifest_hash, remote.alias_of) == (made.manifest_hash("fast-whisper/tiny fp16"), "fp16")
    assert (detail.total_size, detail.chunk_size, detail.chunk_count) == (2502, 1000, 3)
    assert [(file.path, file.size) for file in detail.files] == [
        ("model.safetensors", 2500),
        ("config.json", 2),
    ]
    assert "fp16, int8, latest" in caught.value.hint


async def test_the_life_of_a_model(config: Config) -> None:
    """Planned, pulled, found, listed with its files, checked, removed."""
    ref = "fast-whisper/tiny fp16"
    async with Manager(config) as manager:
        assert (await manager.plan_pull(ref)).status == "install"
        pulled = await manager.pull(ref)
        assert await manager.get_installed(ref) == pulled.model
        assert await manager.path(ref) == pulled.path
        assert (pulled.path / "model.safetensors").read_bytes() == _TINY
        assert [file.path for file in await manager.list_files(ref)] == ["model.safetensors", "config.json"]
        assert [str(each.ref) for each in await manager.list_installed()] == [ref]
        assert not (await manager.check_update(ref)).available
        assert (await manager.remove(ref)).bytes_freed == 2502
        for verb in (manager.get_installed, manager.path, manager.list_files, manager.remove):
            with pytest.raises(NotInstalledError):
                await verb(ref)


async def test_a_closed_manager_says_so(config: Config) -> None:
    """Before it was entered and after it was left every verb is a RuntimeError that tells how to use it."""
    manager = Manager(config)
    with pytest.raises(RuntimeError, match="async with"):
        await manager.list_installed()
    async with manager:
        assert await manager.list_installed() == []
    with pytest.raises(RuntimeError, match="async with"):
        await manager.pull("fast-whisper/tiny fp16")


async def test_it_can_be_entered_again(config: Config) -> None:
    """Left and entered once more, it works as before."""
    manager = Manager(config)
    for _ in range(2):
        async with manager:
            await manager.pull("another/model v1")
            assert len(await manager.list_installed()) == 1


async def test_many_tasks_and_threads_at_once(config: Config) -> None:
    """Tasks of its own loop and loops in other threads use it together; each gets its own answer."""
    async with Manager(config) as manager:
        refs = [*_MODELS, "fast-whisper/tiny latest"]
        here = [manager.pull(ref) for ref in refs]
        there = [asyncio.to_thread(lambda name: asyncio.run(manager.pull(name)), ref) for ref in refs]
        pulled = await asyncio.gather(*here, *there)
        assert [str(each.ref) for each in pulled] == refs * 2
        assert sorted(each.status for each in pulled) == ["already_installed"] * 5 + ["installed"] * 5
        assert [str(each.ref) for each in await manager.list_installed()] == sorted(refs)


async def test_a_cancelled_call_from_another_thread_is_cancelled_here(
    config: Config, made: MadeRegistry
) -> None:
    """Another loop gives up waiting: the pull on the manager's own loop ends too."""
    with FaultyRegistry(made.root) as server:
        async with Manager(Config(registry_url=server.url, data_dir=config.data_dir)) as manager:
            gate = server.hold("chunk")

            async def impatient() -> None:
                pulling = asyncio.ensure_future(manager.pull("another/model v1"))
                await asyncio.to_thread(gate.wait_reached)
                pulling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pulling

            await asyncio.to_thread(lambda: asyncio.run(impatient()))
            server.heal()
            assert (await asyncio.wait_for(manager.pull("another/model v1"), 10)).status == "installed"


async def test_two_managers_on_one_directory(config: Config) -> None:
    """What one installs the other lists, removes, and the first one notices."""
    async with Manager(config) as one, Manager(config) as two:
        await one.pull("another/model v1")
        assert [str(each.ref) for each in await two.list_installed()] == ["another/model v1"]
        await two.remove("another/model v1")
        assert await one.list_installed() == []
        assert (await one.pull("another/model v1")).status == "installed"


async def test_the_embedded_registry_answers_when_none_is_configured(tmp_path: Path) -> None:
    """Without a registry URL the demo answers, and the manager says that it does."""
    async with Manager(Config(data_dir=tmp_path / "models", offline=True)) as manager:
        assert manager.uses_demo_registry
        assert list(await manager.list_remote()) != []
    configured = Manager(Config(registry_url="https://user:secret@models.example.org"))
    assert not configured.uses_demo_registry
    assert "secret" not in configured.registry_url


async def test_the_environment_wins_over_the_data_directory(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`<APPNAME>_MODELS_DIR` is where models go, as with the original."""
    monkeypatch.setenv("XPRIM_MODELS_DIR", str(tmp_path / "from the environment"))
    async with Manager(config) as manager:
        pulled = await manager.pull("another/model v1")
    assert pulled.path == tmp_path / "from the environment" / "another" / "model" / "v1"


async def test_an_injected_logger_hears_everything(config: Config) -> None:
    """Diagnostics go to it while the manager is open, with what they are about, and no longer."""

    class Heard:
        """Takes notes."""

        def __init__(self) -> None:
            self.lines: list[tuple[str, str, dict[str, Any]]] = []

        def __getattr__(self, level: str) -> Any:
            return lambda message, **extra: self.lines.append((level, message, extra))

    heard = Heard()
    config.base_dir.mkdir(parents=True)
    (config.base_dir / "registry.json").write_text("{")
    async with Manager(config, logger=heard) as manager:
        await manager.list_installed()
    assert any("damaged" in message for _, message, _ in heard.lines)
    count = len(heard.lines)
    async with Manager(config) as manager:
        await manager.list_installed()
    assert len(heard.lines) == count


@pytest.mark.parametrize("url", ["ftp://models.example.org", "https://"])
async def test_a_setting_that_cannot_work_leaves_nothing_open(tmp_path: Path, url: str) -> None:
    """Entering fails with a ConfigError; the manager is closed, and no thread was left behind."""
    before = threading.active_count()
    manager = Manager(Config(registry_url=url, data_dir=tmp_path / "models"))
    with pytest.raises(ConfigError):
        async with manager:
            pass
    with pytest.raises(RuntimeError, match="async with"):
        await manager.list_installed()
    assert threading.active_count() <= before + 1


async def test_mirrors_stand_in_for_each_other(made: MadeRegistry, tmp_path: Path) -> None:
    """The first source serves altered chunks: they come from the second, and the model is right."""
    with FaultyRegistry(made.root) as bad, FaultyRegistry(made.root) as good:
        bad.inject(Corrupt(0), on="chunk", times=None)
        config = Config(
            registry_url=bad.url, mirrors=(good.url,), data_dir=tmp_path / "models", backoff_s=0.0
        )
        async with Manager(config) as manager:
            pulled = await manager.pull("fast-whisper/tiny fp16")
        assert (pulled.path / "model.safetensors").read_bytes() == _TINY
        assert good.count("chunk") == 3
        alone = Config(registry_url=bad.url, data_dir=tmp_path / "alone", backoff_s=0.0, tries=2)
        async with Manager(alone) as manager:
            with pytest.raises(HashMismatchError):
                await manager.pull("fast-whisper/tiny fp16")


async def test_prune_says_what_it_could_not_do(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses is an error of `prune`, and of `prune` only."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise StorageError("pruning failed, permission denied")

    async with Manager(config) as manager:
        monkeypatch.setattr("xprim_nb.manager.prune_leftovers", refuse)
        assert (await manager.pull("another/model v1")).status == "installed"
        with pytest.raises(StorageError, match="permission denied"):
            await manager.prune()
