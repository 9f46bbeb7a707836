"""A hermetic JupyterLab and a headless Chromium that drives it, as two context managers.

`jupyterlab(root)` starts a server on loopback with settings, runtime files and IPython profile in a folder of
its own, waits until it answers, and ends its process group afterwards. `chromium(...)` opens a page in the
system's Chromium. A `Notebook` is the document opened in it: run it, read its outputs, look for errors.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    # Opens a fresh page of a `width` and a `height`.
    Pages = Callable[..., AbstractContextManager[Page]]

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))

# A loaded machine with two cores needs a few seconds for each; beyond these, waiting has no sense.
_SERVER_DEADLINE_S = 60
_OPEN_DEADLINE_MS = 60_000
_START_DEADLINE_MS = 5_000
_STOP_DEADLINE_S = 10
# Below those of every system's own choice.
_PORTS = range(20_000, 32_000)

_CHROMIUM_ARGS = (
    "--no-sandbox",  # CI containers run as root
    "--disable-dev-shm-usage",  # and have a /dev/shm of 64 MB
    "--disable-gpu",
    "--force-color-profile=srgb",  # the same screenshots everywhere
    "--hide-scrollbars",
)
_LAB_ARGS = (
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--ServerApp.terminals_enabled=False",
    "--LabApp.expose_app_in_browser=True",  # gives the page `window.jupyterapp`
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--FileContentsManager.delete_to_trash=False",
    "--MappingKernelManager.shutdown_wait_time=2",
)
# Without these a toast about news covers the corner of every screenshot.
_NOTIFICATION = "@jupyterlab/apputils-extension:notification"
# The first is the one that pages begin in.
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")

_KERNEL_IS_IDLE = """() => {
  const kernel = window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel;
  return !!kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
_KERNEL_IS_CONNECTED = """() =>
  window.jupyterapp?.shell?.currentWidget?.context?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"""
_CODE_CELLS = """const panel = window.jupyterapp.shell.currentWidget;
  const isCode = c => c.model.type === 'code' && c.model.sharedModel.source.trim();
  const cells = panel.content.widgets.filter(isCode);
  const outputs = c => c.model.outputs.toJSON();
  const failed = c => outputs(c).some(o => o.output_type === 'error');"""
_EXECUTE = "command => { window.jupyterapp.commands.execute(command); }"
_CHANGE_THEME = "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})"
_A_CELL_RUNS = f"() => {{ {_CODE_CELLS} return cells.some(c => c.model.executionState === 'running'); }}"
_HAS_STARTED = f"""() => {{ {_CODE_CELLS}
  return cells.some(c => c.model.executionCount !== null || c.model.executionState === 'running');
}}"""
# An error stops the cells after it, which then never get a count: that is an end too.
_HAS_ENDED = f"""() => {{ {_CODE_CELLS}
  if (panel.context.sessionContext.session.kernel.status !== 'idle') return false;
  const done = c => c.model.executionCount !== null && c.model.executionState !== 'running';
  return cells.some(failed) || cells.every(done);
}}"""
_OUTPUTS = f"() => {{ {_CODE_CELLS} return cells.map(outputs); }}"


class LabError(RuntimeError):
    """JupyterLab did not start; the message is its log."""


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        url: Its base URL on loopback.
        token: What its requests must carry.
        root: The directory whose notebooks it shows.
        home: The directory of its own files, its settings among them.
    """

    url: str
    token: str
    root: Path
    home: Path

    def set(self, plugin: str, **values: Any) -> None:
        """Settings of a plug-in, such as `@jupyterlab/apputils-extension:themes`, for pages loaded from now on."""
        extension, _, name = plugin.rpartition(":")
        path = self.home / "settings" / extension / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


def free_port() -> int:
    """A loopback port that nobody listens on.

    The server takes it seconds later: it is none of those that a system gives to whoever asks for any, as the kernels and
    servers of other tests do meanwhile.
    """
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LabError("a hundred ports were taken")


def _environment(home: Path, token: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    return kept | {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_TOKEN": token,
    }


def _wait_until_it_answers(server: subprocess.Popen[bytes], lab: Lab, log: Path) -> None:
    request = urllib.request.Request(f"{lab.url}/api/status", headers={"Authorization": f"token {lab.token}"})
    deadline = time.monotonic() + _SERVER_DEADLINE_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(request, timeout=2).close()
        except OSError:
            time.sleep(0.1)  # another process's start-up can only be polled
        else:
            return
    raise LabError(log.read_text(encoding="utf-8", errors="replace"))


def _end(server: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is not None:
            return
        os.killpg(server.pid, sent)
        try:
            server.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def jupyterlab(root: Path) -> Iterator[Lab]:
    """A JupyterLab that shows `root`, alive inside the block.

    Args:
        root: The directory with the notebooks.

    Raises:
        LabError: It did not answer within a minute; the message is its log.
    """
    with tempfile.TemporaryDirectory(prefix="xprim-lab-", ignore_cleanup_errors=True) as folder:
        home, token, port = Path(folder), secrets.token_hex(16), free_port()
        lab = Lab(url=f"http://127.0.0.1:{port}", token=token, root=root, home=home)
        lab.set(_NOTIFICATION, fetchNews="false", checkForUpdates=False)
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            *_LAB_ARGS,
            f"--port={port}",
            f"--ServerApp.root_dir={root}",
        ]
        log_path = home / "server.log"
        with log_path.open("wb") as log:
            server = subprocess.Popen(
                command,
                env=_environment(home, token),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its kernels end with it
            )
            try:
                _wait_until_it_answers(server, lab, log_path)
                yield lab
            finally:
                _end(server)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), headless=True, args=list(_CHROMIUM_ARGS)
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def fresh_page(browser: Browser, *, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """A page of `width` by `height` CSS pixels, without animations and without a memory of earlier pages."""
    with browser.new_context(viewport={"width": width, "height": height}, reduced_motion="reduce") as context:
        yield context.new_page()


@dataclass(frozen=True)
class Notebook:
    """A notebook opened in a page, with its kernel idle."""

    page: Page

    @classmethod
    def open(cls, lab: Lab, page: Page, name: str) -> Notebook:
        """The notebook `name` below the Lab's root, as a single document."""
        page.goto(f"{lab.url}/doc/tree/{name}?token={lab.token}&reset")
        page.locator(".jp-NotebookPanel .jp-Notebook").wait_for(timeout=_OPEN_DEADLINE_MS)
        page.wait_for_function(_KERNEL_IS_IDLE, timeout=_OPEN_DEADLINE_MS)
        return cls(page)

    def run_all(self, deadline_s: float = 120) -> None:
        """Run every cell and return when all have ended, or one has failed, within `deadline_s` seconds."""
        self.start_all()
        self.wait_ended(deadline_s)

    def start_all(self) -> None:
        """Run every cell; return when the first has begun."""
        self._start("notebook:run-all-cells")

    def start_first(self) -> None:
        """Run the first cell, and return when it has begun; `start_next` runs the one after it."""
        self._start("notebook:run-cell-and-select-next")

    def start_next(self) -> None:
        """Run the cell after the one that was started last; do not wait."""
        self.page.evaluate(_EXECUTE, "notebook:run-cell-and-select-next")

    def _start(self, command: str) -> None:
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        # The command's promise ends with the last cell, so nobody awaits it; on a loaded machine one in some
        # dozens of starts was lost, hence the second try. A start that is not lost shows at once.
        for deadline_ms in (_START_DEADLINE_MS, _OPEN_DEADLINE_MS):
            self.page.evaluate(_EXECUTE, command)
            try:
                self.page.wait_for_function(_HAS_STARTED, timeout=deadline_ms)
                break
            except PlaywrightTimeout:
                if deadline_ms == _OPEN_DEADLINE_MS:
                    raise

    def wait_ended(self, deadline_s: float = 120) -> None:
        """Return when every cell has ended, or one has failed."""
        self.page.wait_for_function(_HAS_ENDED, timeout=deadline_s * 1000)

    def is_busy(self) -> bool:
        """Whether a cell is running; the kernel's own status also tells of the clicks that it hears meanwhile."""
        busy: bool = self.page.evaluate(_A_CELL_RUNS)
        return busy

    def wait_busy(self) -> None:
        """Return when a cell runs."""
        self.page.wait_for_function(_A_CELL_RUNS, timeout=_OPEN_DEADLINE_MS)

    def interrupt(self) -> None:
        """Press the stop button."""
        self.page.evaluate(_EXECUTE, "notebook:interrupt-kernel")

    def reload(self) -> None:
        """Load the page anew, and return when its kernel is connected again."""
        self.page.reload()
        self.page.locator(".jp-NotebookPanel .jp-Notebook").wait_for(timeout=_OPEN_DEADLINE_MS)
        self.page.wait_for_function(_KERNEL_IS_CONNECTED, timeout=_OPEN_DEADLINE_MS)

    def show_in(self, theme: str) -> None:
        """Change Lab's theme, for every later page too; return when the page is drawn in it."""
        self.page.evaluate(_CHANGE_THEME, theme)
        self.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)

    def in_every_theme(self) -> Iterator[str]:
        """Draw the page in each theme in turn, and at last in the first again; a word for each, for files' names."""
        try:
            for theme in THEMES:
                self.show_in(theme)
                yield theme.split()[-1].lower()
        finally:
            self.show_in(THEMES[0])

    def save(self) -> None:
        """Save the document, and return when that is done."""
        self.page.evaluate("async () => { await window.jupyterapp.commands.execute('docmanager:save'); }")

    def outputs(self) -> list[list[dict[str, Any]]]:
        """What each non-empty code cell shows, in nbformat's words."""
        found: list[list[dict[str, Any]]] = self.page.evaluate(_OUTPUTS)
        return found

    def errors(self) -> list[str]:
        """The errors its cells show, as `name: message`; empty when all went well."""
        shown = [output for cell in self.outputs() for output in cell if output["output_type"] == "error"]
        return [f"{output['ename']}: {output['evalue']}" for output in shown]
