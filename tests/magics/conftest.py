"""A shell in this process, and a kernel in one of its own, as notebooks have it."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from traitlets.config import Config as TraitletsConfig

from xprim_nb.magics import unload
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.gates import Hold
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

from ..fake_engine import FakeEngine, engine_for_toolkits
from .kernels import ROOT, Kernel


@pytest.fixture
def registry(tmp_path: Path) -> MadeRegistry:
    """Three models: one with an alias, one in two versions, one of ten chunks."""
    shared = random_bytes("shared", 2_000)
    return make_registry(
        tmp_path / "registry",
        {
            "demo/tiny-llama v1": {
                "model.bin": shared + random_bytes("v1", 1_000),
                "config.json": b"{}" * 600,
            },
            "demo/tiny-llama v2": {
                "model.bin": shared + random_bytes("v2", 1_000),
                "config.json": b"{}" * 600,
            },
            "other/base v1": {"model.bin": random_bytes("base", 500)},
            "demo/big v1": {"model.bin": random_bytes("big", 10_000)},
        },
        alias={"demo/tiny-llama latest": "v1"},
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where models are installed."""
    return tmp_path / "models"


@pytest.fixture
def bare_shell(
    registry: MadeRegistry, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[InteractiveShell]:
    """An IPython shell without the extension, with the registry and the home of this test in its environment."""
    monkeypatch.setenv("XPRIM_MODELS_REGISTRY_URL", str(registry.root))
    monkeypatch.setenv("XPRIM_MODELS_DIR", str(data_dir))
    InteractiveShell.clear_instance()
    settings = TraitletsConfig(
        {"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}
    )
    shell = InteractiveShell.instance(config=settings)
    yield shell
    unload(shell)
    with monkeypatch.context() as patch:
        # It would look through all that the process has, torch for one: for seconds, each time.
        patch.setattr(gc, "collect", lambda: 0)
        shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell) -> InteractiveShell:
    """The same with the extension loaded."""
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    return bare_shell


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """An engine with a script, which the shell's toolkit has from its first use on."""
    with engine_for_toolkits(monkeypatch, FakeEngine()) as engine:
        yield engine


def value_of(result: ExecutionResult) -> Any:
    """What a cell returned.

    Raises:
        BaseException: What it raised instead.
    """
    result.raise_error()
    return result.result


class Kernels:
    """One kernel for all tests that need one: starting it takes longer than they do. It is lent, and ends with the block."""

    def __init__(self) -> None:
        self._here: Kernel | None = None
        self._lent: Kernel | None = None

    def lend(self) -> Kernel:
        """The kernel; a fresh one where the last was not given back."""
        self._end(self._lent)
        self._lent = self._here or Kernel({**os.environ, "PYTHONPATH": str(ROOT)})
        self._here = None
        return self._lent

    def give_back(self) -> None:
        """The next test may have it."""
        self._here, self._lent = self._lent, None

    def _end(self, kernel: Kernel | None) -> None:
        if kernel is not None:
            kernel.__exit__(None, None, None)

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(self._here)
        self._end(self._lent)


@pytest.fixture(scope="session")
def kernels() -> Iterator[Kernels]:
    """What lends the kernel."""
    with Kernels() as lender:
        yield lender


@pytest.fixture
def kernel(kernels: Kernels, registry: MadeRegistry, data_dir: Path) -> Iterator[Kernel]:
    """The kernel with the extension loaded, and with the registry and the home of this test.

    One that a failed test has left in a cell, or with the extension, is of no use to the next.
    """
    lent = kernels.lend()
    here = {"XPRIM_MODELS_DIR": str(data_dir), "XPRIM_MODELS_REGISTRY_URL": str(registry.root)}
    loaded = lent.run(f"import os\nos.environ.update({here})\n%load_ext xprim_nb")
    assert (loaded.reply["status"], loaded.outputs) == ("ok", [])
    yield lent
    if lent.is_idle:
        lent.run("%unload_ext xprim_nb\n%reset -f")
        kernels.give_back()


@pytest.fixture
def server(registry: MadeRegistry, kernel: Kernel) -> Iterator[FaultyRegistry]:
    """The registry over HTTP, known to the kernel; one chunk at a time."""
    with FaultyRegistry(registry.root) as running:
        configured = kernel.run(f"config = %xprim config registry_url={running.url} concurrency=1")
        assert configured.reply["status"] == "ok"
        yield running


@pytest.fixture
def gate(server: FaultyRegistry) -> Iterator[Hold]:
    """Whoever asks for a fifth of the ten chunks of demo/big waits."""
    with server.hold(on=lambda request: request.kind == "chunk" and server.count("chunk") > 4) as gate:
        yield gate
