"""A real kernel with a client: what a cell publishes, and what the panels in its outputs say, message by message."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).resolve().parents[2]
VIEW = "application/vnd.jupyter.widget-view+json"
# A kernel starts in a second; on a loaded machine it may take many.
DEADLINE_S = 60.0
_NOTHING_SHOWN = ("status", "execute_input")
# Knocks once the cell's own thread waits inside a handle's `result`.
_KNOCK = """
import socket, sys, threading, time
def knock(cell=threading.main_thread().ident):
    names = set()
    while not {{"result", "wait"}} <= names:
        time.sleep(0.001)
        frame, names = sys._current_frames()[cell], set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
    socket.create_connection({address}).close()
threading.Thread(target=knock).start()
"""


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

    @property
    def shown(self) -> list[str]:
        """The windows it displayed, by their comm; one that is only brought up to date does not count again."""
        found = [each["data"] for kind in ("display_data", "execute_result") for each in self.of(kind)]
        return [data[VIEW]["model_id"] for data in found if VIEW in data]


@dataclass
class Panel:
    """A window as a front end has it.

    Attributes:
        state: Its traits now.
        updates: When the kernel sent a change of them, in seconds.
        lines: "state: line" of each row of a pull panel, each one that was shown, in order.
        closed: Its comm is.
    """

    state: dict[str, Any]
    updates: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    closed: bool = False

    def take(self, change: Mapping[str, Any]) -> None:
        """What the kernel said."""
        self.state.update(change)
        rows = change.get("rows")
        self.lines += [f"{row['state']}: {row['line']}" for row in rows or () if "line" in row]


class Kernel:
    """A real kernel with a client. Ends with its `with` block.

    Attributes:
        panels: Every window that was opened, by its comm.
        client: Its client.
        manager: Who started it.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        specs = KernelSpecManager()
        specs.kernel_dirs = []  # this interpreter's own kernel, whatever else is registered
        self.panels: dict[str, Panel] = {}
        self._begun: set[str] = set()
        self.manager = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
        self.manager.start_kernel(env=dict(environment))
        self.client: BlockingKernelClient = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=DEADLINE_S)

    def run(self, code: str) -> Outcome:
        """Run a cell to its end."""
        return self.finish(self.start(code))

    def start(self, code: str) -> str:
        """Begin a cell; the result names it."""
        cell = str(self.client.execute(code))
        self._begun.add(cell)
        return cell

    def start_waiting(self, code: str) -> str:
        """The same for a cell that waits for a handle: returns when it does, so that an interrupt ends the wait.

        What a cell shows before does not say that: one that is interrupted between the two has nothing to pause.
        """
        with socket.create_server(("127.0.0.1", 0)) as signal:
            signal.settimeout(DEADLINE_S)
            cell = self.start(_KNOCK.format(address=signal.getsockname()) + code)
            signal.accept()[0].close()
        return cell

    @property
    def is_idle(self) -> bool:
        """Every cell that was begun has been seen to end, and the kernel lives."""
        return not self._begun and bool(self.manager.is_alive())

    def watch(self, cell: str, pattern: str) -> Outcome:
        """What a cell has published when what it shows matches for the first time: a text, or a row of a window."""
        outcome = Outcome()
        while not self._says(outcome, pattern):
            message = self._next(DEADLINE_S)  # what a thread publishes may name another cell as its parent
            assert message is not None, f"nothing shows {pattern!r}: {outcome} {self.panels}"
            if message["parent_header"].get("msg_id") != cell:
                continue
            if _is_end(message):
                raise AssertionError(f"the cell ended without showing {pattern!r}: {outcome} {self.panels}")
            if message["msg_type"] not in _NOTHING_SHOWN:
                outcome.outputs.append((message["msg_type"], message["content"]))
        return outcome

    def finish(self, cell: str, so_far: Outcome | None = None) -> Outcome:
        """Everything a cell did, once it has ended."""
        outcome = so_far or Outcome()
        outcome.outputs.extend(self._messages(cell))
        deadline = time.monotonic() + DEADLINE_S
        while not outcome.reply:
            message = self.client.get_shell_msg(timeout=deadline - time.monotonic())
            if message["parent_header"].get("msg_id") == cell:
                outcome.reply = message["content"]
        self._begun.discard(cell)
        return outcome

    def panel(self, outcome: Outcome) -> Panel:
        """The one window that a cell shows."""
        (only,) = outcome.shown
        return self.panels[only]

    def new_subshell(self) -> str:
        """A subshell, as JupyterLab asks for one for each window; the result names it."""
        session = self.client.session
        asked = session.msg("create_subshell_request")
        self.client.control_channel.send(asked)
        while True:
            message = self.client.get_control_msg(timeout=DEADLINE_S)
            if message["parent_header"].get("msg_id") == asked["header"]["msg_id"]:
                return str(message["content"]["subshell_id"])

    def send(self, panel: Panel, op: str, *, subshell: str = "", **values: object) -> None:
        """Press a button of a window: a word to the kernel, as the front end sends it."""
        (comm_id,) = [name for name, each in self.panels.items() if each is panel]
        said = {"method": "custom", "content": {"op": op, **values}}
        session = self.client.session
        message = session.msg("comm_msg", {"comm_id": comm_id, "data": said})
        if subshell:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)

    def until(self, holds: Callable[[], bool], timeout_s: float = DEADLINE_S) -> float:
        """Read what the kernel publishes until something holds; the result is how many seconds that took.

        Raises:
            TimeoutError: It did not, within `timeout_s` seconds.
        """
        begun = time.monotonic()
        while not holds():
            left = begun + timeout_s - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"not within {timeout_s} s: {self.panels}")
            self._next(min(left, 0.5))
        return time.monotonic() - begun

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """A cell blocks the kernel inside, and has ended after."""
        with socket.create_server(("127.0.0.1", 0)) as signal:
            cell = self.start(
                f"import socket\nprint(socket.create_connection({signal.getsockname()}).recv(1))"
            )
            connection, _ = signal.accept()
            with connection:
                yield
                connection.sendall(b"x")
                assert self.finish(cell).text() == "b'x'\n"

    def interrupt(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()

    def complete(self, code: str) -> dict[str, Any]:
        """What Tab offers at the end of `code`."""
        asked = self.client.complete(code, len(code))
        while True:
            message = self.client.get_shell_msg(timeout=DEADLINE_S)
            if message["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = message["content"]
                return content

    def _says(self, outcome: Outcome, pattern: str) -> bool:
        texts = [str(each.get("data", {}).get("text/plain", "")) for _, each in outcome.outputs]
        lines = [line for each in outcome.shown for line in self.panels[each].lines]
        return any(re.search(pattern, line) for line in texts + lines)

    def _next(self, timeout_s: float) -> Mapping[str, Any] | None:
        try:
            message: Mapping[str, Any] = self.client.get_iopub_msg(timeout=timeout_s)
        except Empty:
            return None
        content = message["content"]
        match message["msg_type"]:
            case "comm_open" if "_anywidget_id" in content["data"].get("state", {}):
                panel = self.panels[content["comm_id"]] = Panel({})
                panel.take(content["data"]["state"])
            case "comm_msg" if (
                content["comm_id"] in self.panels and content["data"].get("method") == "update"
            ):
                panel = self.panels[content["comm_id"]]
                panel.updates.append(message["header"]["date"].timestamp())
                panel.take(content["data"]["state"])
            case "comm_close" if content["comm_id"] in self.panels:
                self.panels[content["comm_id"]].closed = True
        return message

    def _messages(self, cell: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        while True:
            message = self._next(DEADLINE_S)
            if message is None:
                raise TimeoutError("the kernel fell silent")
            if message["parent_header"].get("msg_id") != cell:
                continue
            if _is_end(message):
                return
            if message["msg_type"] not in _NOTHING_SHOWN:
                yield message["msg_type"], message["content"]

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def _is_end(message: Mapping[str, Any]) -> bool:
    return bool(message["msg_type"] == "status" and message["content"]["execution_state"] == "idle")
