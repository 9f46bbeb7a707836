"""What backends over installed files share: asking, installing, opening, and holding on to a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from xprim_nb.errors import (
    ConfigError,
    InvalidRefError,
    LoadFailedError,
    ModelNotFoundError,
    NotInstalledError,
    OfflineError,
    UnsupportedModelError,
)
from xprim_nb.testing.models import StaticLibrary
from xprim_nb.workers.backends.local import LocalModels, check_settings
from xprim_nb.workers.backends.modelfiles import ModelFiles
from xprim_nb.workers.contract import BackendContext, Runner
from xprim_nb.workers.values import CrashReport, InstallProgress, Recommended

_MODEL, _LAYER = "demo/tiny-llama v2", "demo/lora-json v1"


def _local(library: StaticLibrary, refuses: Callable[[ModelFiles], str] = lambda _: "") -> LocalModels:
    return LocalModels(BackendContext(library=library), "some", refuses)


async def test_models_are_missing_until_they_are_installed(tmp_path: Path) -> None:
    """What is not there is told in its order; installing it shows how far it is, up to the end."""
    local = _local(StaticLibrary(tmp_path))
    assert await local.check_model_availability([_MODEL, _LAYER]) == [_MODEL, _LAYER]
    told: list[InstallProgress] = []
    await local.install_model(_MODEL, told.append)
    assert await local.check_model_availability([_LAYER, _MODEL]) == [_LAYER]
    assert told[-1].fraction == 1.0
    with pytest.raises(ModelNotFoundError):
        await local.install_model("demo/nobody v1", told.append)
    with pytest.raises(InvalidRefError):
        await local.check_model_availability(["not a name at all"])


async def test_what_is_recommended_are_models(tmp_path: Path) -> None:
    """The registry's models, no layers; nothing, where nobody can be asked."""
    library = StaticLibrary(tmp_path)
    found = await _local(library).get_recommended_models()
    assert [each.name for each in found] == ["demo/tiny-llama v1", _MODEL]

    class Away(StaticLibrary):
        async def recommended(self) -> list[Recommended]:
            raise OfflineError("Nobody is there.")

    assert await _local(Away(tmp_path)).get_recommended_models() == []


async def test_an_opened_model_is_its_files(tmp_path: Path) -> None:
    """A model by name, and the same directory by its path, which then has no manifest."""
    library = StaticLibrary(tmp_path)
    with pytest.raises(NotInstalledError, match=_MODEL):
        await _local(library).open(_MODEL)
    path = (await library.install(_MODEL, lambda _: None)).path
    named, own = await _local(library).open(_MODEL), await _local(library).open(str(path))
    assert named.files == own.files
    assert len(named.files.tensors) == 39
    assert (bool(named.model.manifest_hash), own.model.manifest_hash) == (True, "")


async def test_a_backend_refuses_what_it_cannot_run(tmp_path: Path) -> None:
    """The sentence names the backend, the model and the reason."""
    library = StaticLibrary(tmp_path)
    await library.install(_MODEL, lambda _: None)
    local = _local(library, lambda files: f"it has {len(files.tensors)} tensors.")
    with pytest.raises(UnsupportedModelError, match=f"some backend cannot run {_MODEL}: it has 39 tensors"):
        await local.open(_MODEL)


async def test_a_layer_is_not_opened_as_a_model(tmp_path: Path) -> None:
    """Asking a LoRA layer for an answer is told as what it is."""
    library = StaticLibrary(tmp_path)
    await library.install(_LAYER, lambda _: None)
    with pytest.raises(UnsupportedModelError, match="LoRA layer"):
        await _local(library).open(_LAYER)


class _Ends:
    """A runner of which only the end is looked at."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[CrashReport | None] = asyncio.get_running_loop().create_future()


async def test_a_model_is_held_as_long_as_it_runs(tmp_path: Path) -> None:
    """It is held before it is loaded, and let go when its runner has ended, whoever ended it."""
    library = StaticLibrary(tmp_path)
    runner = _Ends()

    async def start() -> Runner:
        assert library.holds[_MODEL] == 1
        return cast("Runner", runner)

    assert await _local(library).held(_MODEL, start) is cast("Runner", runner)
    assert library.holds[_MODEL] == 1
    runner.ended.set_result(None)
    await asyncio.sleep(0)
    assert library.holds[_MODEL] == 0


@pytest.mark.parametrize("error", [LoadFailedError("no"), asyncio.CancelledError(), MemoryError()])
async def test_a_model_that_did_not_load_is_let_go(tmp_path: Path, error: BaseException) -> None:
    """Whatever ends the loading, cancellation too."""
    library = StaticLibrary(tmp_path)

    async def start() -> Runner:
        raise error

    with pytest.raises(type(error)):
        await _local(library).held(_MODEL, start)
    assert library.holds[_MODEL] == 0


@pytest.mark.parametrize(("known", "told"), [(("b", "a"), "it has a, b"), ((), "it has none")])
def test_unknown_settings_are_refused_by_name(known: tuple[str, ...], told: str) -> None:
    """The message names the setting and those that there are."""
    check_settings(dict.fromkeys(known, 1), known, "some")
    with pytest.raises(ConfigError, match=f"some backend has no setting 'x'; {told}") as caught:
        check_settings({"x": 1, "y": 2, **dict.fromkeys(known, 1)}, known, "some")
    assert caught.value.subject == "x"
