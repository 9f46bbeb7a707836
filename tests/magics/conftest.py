"""A shell in this process, and a kernel in one of its own, as notebooks have it."""

from __future__ import annotations

import atexit
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any

import pytest
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from traitlets.config import Config as TraitletsConfig

from xprim_nb.magics import unload
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes

ROOT = Path(__file__).resolve().parents[2]
# A kernel starts in a second; on a loaded machine it may take many.
_DEADLINE_S = 25


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
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(bare_shell: InteractiveShell) -> InteractiveShell:
    """The same with the extension loaded."""
    bare_shell.run_line_magic("load_ext", "xprim_nb")
    return bare_shell


def value_of(result: ExecutionResult) -> Any:
    """What a cell returned.

    Raises:
        BaseException: What it raised instead.
    """
    result.raise_error()
    return result.result


@dataclass
class Outcome:
    """What one cell did.

    Attributes:
        reply: The content of the reply.
        outputs: The messages it published, as (type, content).
    """

    reply: Mapping[str, Any] = field(default_factory=dict)
    outputs: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """The contents of one type, in order."""
        return [content for name, content in self.outputs if name == kind]

    def text(self, stream: str = "stdout") -> str:
        """What was printed."""
        return "".join(each["text"] for each in self.of("stream") if each["name"] == stream)


class Kernel:
    """A real kernel with a client. Ends with its `with` block."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        specs = KernelSpecManager()
        specs.kernel_dirs = []  # this interpreter's own kernel, whatever else is registered
        self._manager = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
        self._manager.start_kernel(env=dict(environment))
        self._client: BlockingKernelClient = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_DEADLINE_S)

    def run(self, code: str) -> Outcome:
        """Run a cell to its end."""
        return self.finish(self.start(code))

    def start(self, code: str) -> str:
        """Begin a cell; the result names it."""
        return str(self._client.execute(code))

    def watch(self, cell: str, pattern: str) -> Outcome:
        """What a cell has published when its text displays match for the first time."""
        outcome = Outcome()
        for kind, content in self._messages(cell):
            outcome.outputs.append((kind, content))
            if re.search(pattern, str(content.get("data", {}).get("text/plain", ""))):
                return outcome
        raise AssertionError(f"the cell ended without showing {pattern!r}: {outcome}")

    def finish(self, cell: str, so_far: Outcome | None = None) -> Outcome:
        """Everything a cell did, once it has ended."""
        outcome = so_far or Outcome()
        outcome.outputs.extend(self._messages(cell))
        deadline = time.monotonic() + _DEADLINE_S
        while not outcome.reply:
            message = self._client.get_shell_msg(timeout=deadline - time.monotonic())
            if message["parent_header"].get("msg_id") == cell:
                outcome.reply = message["content"]
        return outcome

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def complete(self, code: str) -> dict[str, Any]:
        """What Tab offers at the end of `code`."""
        asked = self._client.complete(code, len(code))
        while True:
            message = self._client.get_shell_msg(timeout=_DEADLINE_S)
            if message["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = message["content"]
                return content

    def _messages(self, cell: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=_DEADLINE_S)
            except Empty as error:
                raise TimeoutError("the kernel fell silent") from error
            if message["parent_header"].get("msg_id") != cell:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return
            if message["msg_type"] not in ("status", "execute_input"):
                yield message["msg_type"], message["content"]

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture(scope="session")
def any_kernel() -> Iterator[Kernel]:
    """A kernel for all tests that need one: starting it takes longer than they do."""
    with Kernel({**os.environ, "PYTHONPATH": str(ROOT)}) as running:
        yield running


@pytest.fixture
def kernel(any_kernel: Kernel, registry: MadeRegistry, data_dir: Path) -> Iterator[Kernel]:
    """The kernel with the extension loaded, and with the registry and the home of this test."""
    here = {"XPRIM_MODELS_DIR": str(data_dir), "XPRIM_MODELS_REGISTRY_URL": str(registry.root)}
    loaded = any_kernel.run(f"import os\nos.environ.update({here})\n%load_ext xprim_nb")
    assert (loaded.reply["status"], loaded.outputs) == ("ok", [])
    yield any_kernel
    any_kernel.run("%unload_ext xprim_nb\n%reset -f")
