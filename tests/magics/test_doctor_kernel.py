"""What the doctor knows of front ends, kernels and loops."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Mapping

import pytest

from xprim_nb.magics import doctor_kernel


@pytest.mark.parametrize(
    ("environ", "in_kernel", "said"),
    [
        ({}, False, "a terminal"),
        ({}, True, "a program (nbclient, nbconvert, papermill)"),
        ({"JPY_SESSION_NAME": "/a.ipynb"}, True, "a Jupyter server"),
        ({"JPY_SESSION_NAME": "/a.ipynb", "VSCODE_PID": "1"}, True, "VS Code"),
        ({"COLAB_RELEASE_TAG": "x", "JPY_SESSION_NAME": "x"}, True, "Colab"),
        ({"XPRIM_NB_STATIC": "1"}, True, "XPRIM_NB_STATIC publishes HTML and text only"),
    ],
)
def test_front_end_is_known_by_its_traces(environ: Mapping[str, str], in_kernel: bool, said: str) -> None:
    """Each starter of kernels leaves variables, and is named after them."""
    assert said in doctor_kernel.front_end(environ, in_kernel)


@pytest.mark.parametrize(
    ("version", "routes_replies", "named", "verdict", "buttons"),
    [
        (
            "6.31.0",
            False,
            "6.x, no subshells",
            "look at this",
            "until the cell has ended, also one that awaits",
        ),
        ("7.3.0", False, "7.0 to 7.3", "ok", "work while a cell runs, in JupyterLab 4.4"),
        ("7.4.0", True, "7.4", "ok", "a cell awaits, and wait for the end of one that blocks"),
    ],
)
def test_routing_says_when_buttons_are_heard(
    version: str, routes_replies: bool, named: str, verdict: str, buttons: str
) -> None:
    """Each generation of kernels hears buttons at other times."""
    told, said = doctor_kernel.routing(version, routes_replies)
    assert named in told
    assert said[0] == verdict
    assert buttons in said[1]


def test_loop_without_a_patch() -> None:
    """Nothing runs in a plain thread, and nobody has patched anything."""
    assert doctor_kernel.event_loop() == ("ok", "none runs here, not patched", "")


async def test_loop_that_somebody_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patched process is worth a look, and the loop that runs here is named."""
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
    verdict, text, advice = doctor_kernel.event_loop()
    assert verdict == "look at this"
    assert text.startswith("asyncio's ")
    assert "patched by" in text
    assert advice


def test_foreign_loop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's loop cannot be nested, and the line says so."""
    loop = type("Loop", (), {"__module__": "uvloop"})()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    verdict, text, _ = doctor_kernel.event_loop()
    assert (verdict, text) == ("look at this", "uvloop's Loop runs here; it cannot be nested")


def test_missing_widgets_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no window can be loaded the kernel's line is broken, and says what to install."""
    monkeypatch.setattr("xprim_nb.magics.views.maker_of", lambda name: None)

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    verdict, text, advice = doctor_kernel._windows(in_kernel=True)
    assert verdict == "broken"
    assert "anywidget is missing here" in text
    assert "pip install" in advice
