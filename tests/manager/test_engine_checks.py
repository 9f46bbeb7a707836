"""What models run on here, part by part: what works, what is missing, what to do; no key is ever told."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.manager import engine_checks
from xprim_nb.manager.probing import Said
from xprim_nb.scheduling.devices import Found, SimulatedDevice
from xprim_nb.scheduling.leases import KernelId
from xprim_nb.scheduling.ledger import Ledger
from xprim_nb.scheduling.state import DeviceState

_KEY = "sk-very-secret"
_MB = 1 << 20


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers has the time that a busy machine takes."""
    for name in ("_SERVER_PATIENCE_S", "_PYTHON_PATIENCE_S"):
        monkeypatch.setattr(engine_checks, name, 20.0)


def _said(part: str, tmp_path: Path, *, offline: bool = False, **settings: Any) -> Said:
    ai = AICapabilities(ledger_dir=tmp_path / "ledger", **settings)
    said = engine_checks.probes(Config(data_dir=tmp_path / "models", offline=offline, ai=ai))[part]()
    assert _KEY not in str(said)
    return said


@contextmanager
def _server(answer: Mapping[str, Any], status: int = 200) -> Iterator[str]:
    """A server that gives the same answer to everything."""

    class _Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The answer."""
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:  # house: silent
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_part_has_a_probe(tmp_path: Path) -> None:
    """Devices, ledger, limits and each backend have one, named servers too."""
    ai = AICapabilities(endpoints={"mine": "http://127.0.0.1:1"})
    parts = list(engine_checks.probes(Config(data_dir=tmp_path, ai=ai)))
    assert parts[:4] == ["devices", "GPU", "ledger", "limits"]
    assert {"backend numpy", "backend ollama", "backend openai", "backend mine"} <= set(parts)


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device is told with its memory, and so is what keeps one from being used."""
    told = _said("devices", tmp_path)
    assert told[0] == "ok"
    assert "for models" in told[1]
    monkeypatch.setattr(
        engine_checks,
        "find_probes",
        lambda **_: Found((SimulatedDevice("sim:8gb", total_bytes=8 << 30),), ("The driver is silent.",)),
    )
    assert "sim:8gb (simulated GPU): 8.0 GB" in _said("devices", tmp_path)[1]
    assert "The driver is silent." in _said("devices", tmp_path)[1]


def test_ledger(tmp_path: Path) -> None:
    """Who holds what is counted; what a dead kernel left behind is taken back, and that is told."""
    assert _said("ledger", tmp_path) == (
        "ok", f"{tmp_path / 'ledger'}{_name(tmp_path)}: 0 models held", ""
    )  # fmt: skip
    devices, charges = (DeviceState("cpu", 10 * _MB),), (("cpu", _MB),)
    dead = Ledger(tmp_path / "ledger", kernel=KernelId(999_999_999, 1.0, "another boot"))
    dead.reserve("numpy:left/behind v1", charges, devices)
    dead.close()
    verdict, told, _ = _said("ledger", tmp_path)
    assert verdict == "ok"
    assert "0 models held; what dead kernels had left behind was taken back: numpy:left/behind v1" in told
    mine = Ledger(tmp_path / "ledger")
    mine.reserve("numpy:mine v1", charges, devices)
    assert "1 model held by one process" in _said("ledger", tmp_path)[1]
    mine.close()


def _name(tmp_path: Path) -> str:
    ledger = Ledger(tmp_path / "ledger")
    try:
        return f"/{ledger.path.name}"
    finally:
        ledger.close()


def test_limits(tmp_path: Path) -> None:
    """What models may use is told with units; an interpreter that is not there is broken."""
    assert "max_vram: 8GB" in _said("limits", tmp_path, max_vram_bytes=8 << 30)[1]
    verdict, told, _ = _said("limits", tmp_path, worker_python=tmp_path / "no-python")
    assert verdict == "broken"
    assert "which is not there" in told


def test_a_backend_whose_packages_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named with the command that installs it, here and in the workers' own interpreter."""
    monkeypatch.setattr(engine_checks, "_PACKAGES", {"numpy": ("transformers", ("json", "no_such_package"))})
    for python in (None, Path(sys.executable)):
        verdict, told, advice = _said("backend numpy", tmp_path, worker_python=python)
        assert (verdict, told) == ("ok", "not installed: no_such_package")
        assert advice == 'pip install "xprim-nb[transformers]"'


def test_a_backend_that_runs_here(tmp_path: Path) -> None:
    """The backend of the base install is ready, and says in which interpreter."""
    assert _said("backend numpy", tmp_path) == ("ok", f"ready, in processes of {sys.executable}", "")


@pytest.mark.parametrize(
    ("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
)
def test_without_a_key_nobody_is_asked(tmp_path: Path, name: str, variable: str) -> None:
    """What wants a key and has none is told with the variable that it is read from."""
    verdict, told, advice = _said(f"backend {name}", tmp_path)
    assert (verdict, told) == ("ok", "no key is set")
    assert variable in advice


def test_a_server_that_answers(tmp_path: Path) -> None:
    """It is told with the number of its models, and whether a key is set; never the key itself."""
    with _server({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}) as url:
        endpoints, keys = {"mine": f"{url}/v1"}, {"mine": _KEY}
        assert _said("backend mine", tmp_path, endpoints=endpoints) == ("ok", "answers, 2 models, no key", "")
        told = _said("backend mine", tmp_path, endpoints=endpoints, keys=keys)
        assert told == ("ok", "answers, 2 models, a key is set", "")


def test_a_server_that_refuses_the_key(tmp_path: Path) -> None:
    """That is broken, with what to do."""
    with _server({"error": {"message": f"bad key {_KEY}"}}, 401) as url:
        verdict, told, advice = _said(
            "backend mine", tmp_path, endpoints={"mine": f"{url}/v1"}, keys={"mine": _KEY}
        )
    assert verdict == "broken"
    assert "a key is set" in told
    assert "environment" in advice


def test_a_server_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that accepts and says nothing is broken within the patience."""
    monkeypatch.setattr(engine_checks, "_SERVER_PATIENCE_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        verdict, told, _ = _said("backend mine", tmp_path, endpoints={"mine": url})
    assert (verdict, told) == ("broken", "no answer within 1 s, no key")


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """One that somebody has named is broken; one that nobody has named is only not running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    assert _said("backend ollama", tmp_path, endpoints={"ollama": url})[0] == "broken"
    verdict, told, _ = _said("backend openai_compatible", tmp_path)
    assert (verdict, told) == ("ok", "no server is named")


def test_offline_asks_nobody_elsewhere(tmp_path: Path) -> None:
    """Offline, a server that is not on this machine is not asked, and that is no fault."""
    said = _said("backend mine", tmp_path, offline=True, endpoints={"mine": "http://models.example.org/v1"})
    assert said[0] == "ok"
    assert said[1].startswith("not asked: ")
