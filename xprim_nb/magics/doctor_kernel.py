"""What `%xprim doctor` looks at in this process: front end, kernel, windows, loops.

Source: research notebook §4 (who hears a button while a cell runs), §5.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xprim_nb import __version__
from xprim_nb._bridge import Handle
from xprim_nb.magics import views
from xprim_nb.manager.probing import Probe, Said, Verdict

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension

__all__ = ["event_loop", "front_end", "probes", "routing"]


# A loop that needs longer for nothing has something that blocks it.
_SLOW_S = 0.25
_VIEWS = ("browser", "health", "pull", "pulls")


def probes(extension: Extension) -> tuple[Mapping[str, Probe], Mapping[str, Probe]]:
    """What must be asked in this thread, and what can be asked in others."""
    in_kernel = getattr(extension.shell, "kernel", None) is not None
    here: dict[str, Probe] = {
        "xprim_nb": lambda: ("ok", __version__, ""),
        "front end": lambda: ("ok", front_end(os.environ, in_kernel), ""),
        "Python": _python,
        "IPython": lambda: ("ok", importlib.metadata.version("ipython"), ""),
        "kernel": lambda: _kernel(in_kernel),
        "buttons": lambda: _buttons(in_kernel),
        "event loop": event_loop,
    }
    return here, {"our loop": _our_loop, "windows": lambda: _windows(in_kernel)}


def front_end(environ: Mapping[str, str], in_kernel: bool) -> str:
    """Who shows the outputs, as far as a kernel can know: by what those who started it left in its environment."""
    if not in_kernel:
        return "a terminal: bars are lines, and there are no windows"
    if any(name.startswith("COLAB_") for name in environ):
        found = "Colab"
    elif any(name.startswith("VSCODE_") for name in environ):
        found = "VS Code"
    elif "JPY_SESSION_NAME" in environ:
        found = "a Jupyter server (JupyterLab, Notebook): windows, and a static twin of each in the saved notebook"
    else:
        found = "a program (nbclient, nbconvert, papermill) or a console: outputs stay as they are when a cell ends"
    if environ.get("XPRIM_NB_STATIC", "") not in ("", "0"):
        found += "; XPRIM_NB_STATIC publishes HTML and text only"
    return found


def _python() -> Said:
    said = f"{platform.python_version()} ({platform.python_implementation()}, {platform.system()} {platform.machine()})"
    if sys.platform == "emscripten":
        return "broken", f"{said}: there are no threads in a browser", "Use a kernel with threads."
    return "ok", said, ""


def routing(version: str, routes_replies: bool) -> tuple[str, Said]:
    """How a kernel hands on what buttons say: its name, and what that means while a cell runs.

    Args:
        version: Of ipykernel.
        routes_replies: It sends them to the (sub)shell that published last (7.4 and newer).
    """
    if int(version.partition(".")[0]) < 7:
        return "one queue for cells and buttons (6.x, no subshells)", (
            "look at this",
            "wait until the cell has ended, also one that awaits",
            "Pull without --wait: the cell ends at once. ipykernel 7.4 hears buttons while a cell awaits.",
        )
    if not routes_replies:
        return "buttons on subshells, where the front end asks for them (7.0 to 7.3)", (
            "ok",
            "work while a cell runs, in JupyterLab 4.4 and newer; elsewhere they wait until it has ended",
            "",
        )
    return "buttons go to the (sub)shell that published (7.4)", (
        "ok",
        "work while the kernel idles or a cell awaits, and wait for the end of one that blocks",
        "",
    )


def _route() -> tuple[str, str, Said]:
    version = importlib.metadata.version("ipykernel")
    loaded = sys.modules.get("ipykernel")
    version = str(getattr(loaded, "__version__", version))  # what runs, whatever is installed beside it
    base = getattr(importlib.import_module("ipykernel.comm.comm"), "BaseComm", None)
    return version, *routing(version, hasattr(base, "_reply_subshell_for"))


def _kernel(in_kernel: bool) -> Said:
    if not in_kernel:
        return "ok", "none: this is a terminal", ""
    version, named, _ = _route()
    return "ok", f"ipykernel {version}: {named}", ""


def _buttons(in_kernel: bool) -> Said:
    if not in_kernel:
        return "ok", "none in a terminal; Ctrl-C pauses what a command waits for", ""
    return _route()[2]


def _windows(in_kernel: bool) -> Said:
    versions = []
    for name in ("anywidget", "ipywidgets", "jupyterlab_widgets"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} is missing here")
    told = ", ".join(versions)
    found = [name for name in _VIEWS if views.maker_of(name) is not None]
    if not found:
        verdict: Verdict = "broken" if in_kernel else "look at this"
        return (
            verdict,
            f"none can be loaded; {told}",
            "Reinstall it: `pip install --force-reinstall xprim-nb`.",
        )
    told = f"{', '.join(found)}; {told}"
    if in_kernel and versions[-1].endswith("here"):
        return (
            "look at this",
            told,
            "Where JupyterLab is installed, `pip install jupyterlab_widgets` into it.",
        )
    return "ok", told, ""


def event_loop() -> Said:
    """Whether somebody has patched the loops of this process, and which loop runs here."""
    try:
        running: object = asyncio.get_running_loop()
        told = f"{type(running).__module__.partition('.')[0]}'s {type(running).__name__} runs here"
    except RuntimeError:
        running, told = None, "none runs here"
    if type(running).__module__.startswith("uvloop"):
        return (
            "look at this",
            f"{told}; it cannot be nested",
            "Code that calls asyncio.run() in a cell will not work.",
        )
    if not hasattr(asyncio, "_nest_patched"):
        return "ok", f"{told}, not patched", ""
    who = " or ".join(name for name in ("nest_asyncio", "nest_asyncio2") if name in sys.modules) or "somebody"
    if who == "nest_asyncio" and sys.version_info >= (3, 14):
        return (
            "broken",
            f"{told}, patched by {who}, which breaks timeouts from Python 3.14 on",
            "Use nest_asyncio2.",
        )
    return (
        "look at this",
        f"{told}, patched by {who}",
        "Pulls need no patch; an interrupted cell may leave other people's work running.",
    )


async def _nothing() -> None:  # house: how long it takes to be called is the point
    """Nothing."""


def _our_loop() -> Said:
    begun = time.monotonic()
    try:
        Handle(_nothing(), "ask the loop").result(2.0)
    except TimeoutError:
        return (
            "broken",
            "its thread does not answer",
            "Something blocks it. Restart the kernel; pulls can be resumed.",
        )
    took_s = time.monotonic() - begun
    if took_s > _SLOW_S:
        return (
            "look at this",
            f"alive, but it took {took_s:.1f} s to answer",
            "The machine is busy; pulls are slow.",
        )
    return "ok", "its thread is alive", ""
