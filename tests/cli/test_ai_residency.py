"""`xprim ai ps|load|evict|pin|plan|timeline|models`: what is awake, and what is asked of whoever holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import Result

from xprim_nb.cli import ai_residency
from xprim_nb.cli.session import Session
from xprim_nb.errors import EngineError
from xprim_nb.events import ResidencyChanged, WorkerFailed
from xprim_nb.scheduling.values import ModelView
from xprim_nb.workers.values import Recommended

from ..fake_engine import AWAKE, MODEL, FakeEngine, row

Ai = Callable[..., Result]


def _told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_ps(ai: Ai, engine: FakeEngine) -> None:
    """A row for each model that is awake, of all kernels; `--json` has every fact of each."""
    engine.views = [
        AWAKE,
        replace(AWAKE, key="ollama:llama3", status="elsewhere"),
        replace(
            AWAKE,
            key="numpy:b v1",
            status="loading",
            idle_s=0.0,
            worker_pid=None,
            context_tokens=0,
            pinned=True,
        ),
    ]
    shown = ai("ps").stdout.splitlines()
    assert shown[0].split() == "MODEL STATE DEVICE SIZE CONTEXT IDLE PINNED WORKER KERNEL".split()
    assert shown[1].removeprefix(MODEL).split() == "resident cpu 64.0 MB 4,096 1 min - 4242 4000".split()
    assert shown[2].removeprefix("numpy:b v1").split() == "loading cpu 64.0 MB - - yes - 4000".split()
    assert len(shown) == 3
    first, _ = _told(ai("ps", "--json"))["models"]
    assert (first["key"], first["size_bytes"], first["worker_pid"], first["kernel_pid"]) == (
        MODEL, 64 << 20, 4242, 4000,
    )  # fmt: skip


def test_ps_of_nothing(ai: Ai) -> None:
    """Where nothing is awake a note says so, and the document has an empty list."""
    assert "no model is awake; `xprim ai load MODEL --hold`" in ai("ps").stderr
    assert _told(ai("ps", "--json"))["models"] == []


def test_load_says_what_it_takes(ai: Ai, engine: FakeEngine) -> None:
    """The model is loaded with the options, what was measured is told, and the command ends."""
    done = ai("load", "demo/tiny-llama@v2", "--context-tokens", "512", "--dtype", "float32")
    assert done.exit_code == 0
    assert done.stdout == (
        f"Loaded: {MODEL}, 64.0 MB on cpu (measured), room for 4,096 tokens, in 1.2 s, worker 4242\n"
    )
    assert engine.asked("load") == {
        "model": "demo/tiny-llama v2", "note": "xprim ai load", "context_tokens": 512, "dtype": "float32",
    }  # fmt: skip
    assert _told(ai("load", "demo/tiny-llama v2", "--json"))["loaded"]["size_bytes"] == 64 << 20


def _hold_hears(monkeypatch: pytest.MonkeyPatch, *events: object) -> None:
    """Once the command holds the model it hears these; an interrupt when there are none."""
    hold = ai_residency._hold

    def held(session: Session, view: ModelView, heard: Any) -> None:
        for event in events:
            heard.put(event)
        hold(session, view, heard if events else cast("Any", _Interrupted()))

    monkeypatch.setattr(ai_residency, "_hold", held)


class _Interrupted:
    def get(self, timeout: float) -> None:
        """What waiting is when Ctrl-C is pressed."""
        raise KeyboardInterrupt


def test_hold_ends_with_an_interrupt(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is how a held model is let go: the command ends well, its document was printed before."""
    _hold_hears(monkeypatch)
    done = ai("load", "demo/tiny-llama v2", "--hold")
    assert (done.exit_code, done.stderr.splitlines()) == (0, ["Ctrl-C unloads it", "unloading"])
    assert _told(ai("load", "demo/tiny-llama v2", "--hold", "--json"))["loaded"]["key"] == MODEL


def test_hold_ends_when_the_model_has_left(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's wish ends the wait, and is told; news of other models does not."""
    _hold_hears(
        monkeypatch,
        ResidencyChanged("numpy:other v1", "absent", "", "unloaded"),
        ResidencyChanged(MODEL, "leaving", "", "asked for by another process"),
        ResidencyChanged(MODEL, "absent", "", "unloaded"),
    )
    done = ai("load", "demo/tiny-llama v2", "--hold")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (0, f"{MODEL} has left: unloaded")


def test_hold_fails_when_the_worker_died(ai: Ai, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the held model's worker is an error with the engine's exit code."""
    _hold_hears(monkeypatch, WorkerFailed(MODEL, "It was killed by SIGKILL."))
    done = ai("load", "demo/tiny-llama v2", "--hold")
    assert done.exit_code == 8
    assert "error: It was killed by SIGKILL." in done.stderr


class _Obeying(FakeEngine):
    """Its other kernels do what they are asked when they look for the second time."""

    looks = 0

    async def ps(self) -> list[ModelView]:
        """What is awake then."""
        self.looks += 1
        verbs = {name for name, _ in self.calls}
        if self.looks == 2 and "evict" in verbs:
            self.views = []
        if self.looks == 2 and "pin" in verbs:
            self.views = [replace(each, pinned=True) for each in self.views]
        return await super().ps()


def test_evict_waits_until_it_has_left(ai: Ai, engine: FakeEngine) -> None:
    """The kernel that holds the model is asked, and the command says so when it is gone."""
    engine.views = [AWAKE]
    engine.__class__ = _Obeying
    done = ai("evict", "demo/tiny-llama v2")
    assert (done.exit_code, done.stdout) == (0, f"Evicted: {MODEL} (64.0 MB on cpu)\n")
    assert engine.asked("evict") == {"model": "demo/tiny-llama v2"}


def test_evict_of_what_is_busy(ai: Ai, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not left in time was asked to, with the reason why it stays."""
    monkeypatch.setattr(ai_residency, "_PATIENCE_S", 0.0)
    engine.views = [replace(AWAKE, why_not_evict="Another kernel uses it.")]
    assert ai("evict", MODEL).stdout == f"Asked process 4000 to let {MODEL} go. Another kernel uses it.\n"
    assert _told(ai("evict", MODEL, "--json"))["evicted"]["has_left"] is False


def test_evict_of_what_is_not_awake(ai: Ai) -> None:
    """A model that nobody holds is exit code 4, in the words of whoever mounted the commands."""
    done = ai("evict", "demo/tiny-llama v2")
    assert done.exit_code == 4
    assert "demo/tiny-llama v2 is not awake." in done.stderr
    assert "`xprim ai ps`" in done.stderr


def test_pin_and_unpin(ai: Ai, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ask the kernel that holds the model, and say whether it has done so."""
    engine.views = [AWAKE]
    engine.__class__ = _Obeying
    assert ai("pin", MODEL).stdout == f"Pinned: {MODEL}\n"
    assert _told(ai("pin", MODEL, "--json"))["pinned"]["is_done"] is True
    monkeypatch.setattr(ai_residency, "_PATIENCE_S", 0.0)
    assert ai("unpin", MODEL).stdout == "Asked process 4000 to do so; it has not yet.\n"
    assert engine.asked("unpin") == {"model": MODEL}


@dataclass(frozen=True, slots=True)
class _Plan:
    freed_bytes: int

    def __str__(self) -> str:
        return "numpy:other v1 would leave.\n`xprim ai evict` does it now."


def test_plan(ai: Ai, engine: FakeEngine) -> None:
    """A plan is printed as it says itself, and is a document."""
    engine.plan_value = _Plan(5)
    assert ai("plan", "demo/tiny-llama v2", "--context-tokens", "99").stdout.splitlines() == [
        "numpy:other v1 would leave.",
        "`xprim ai evict` does it now.",
    ]
    assert engine.asked("plan") == {"model": "demo/tiny-llama v2", "context_tokens": 99}
    assert _told(ai("plan", "demo/tiny-llama v2", "--json"))["plan"] == {"freed_bytes": 5}


def test_timeline(ai: Ai, engine: FakeEngine) -> None:
    """Changes oldest first, with the cell that caused each; the latest are shown, a document has all."""
    engine.rows = [row(0.0, "loading"), row(60.0, "resident"), row(90.5, "gone", note="")]
    shown = ai("timeline", "--last", "2")
    assert [line.split()[1] for line in shown.stdout.splitlines()[1:]] == ["00:01:00", "00:01:30"]
    assert "In [12]" in shown.stdout.splitlines()[1]
    assert "1 earlier change not shown; --last 3 shows all" in shown.stderr
    found = _told(ai("timeline", "--last", "2", "--json"))["timeline"]
    assert [each["at"] for each in found] == [
        "1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z", "1970-01-01T00:01:30.500000Z",
    ]  # fmt: skip
    assert found[1]["note"] == "In [12]"


def _backend(name: str, *models: Recommended, is_remote: bool) -> Any:
    async def asked() -> list[Recommended]:
        return list(models)

    return SimpleNamespace(
        name=name, capabilities=SimpleNamespace(is_remote=is_remote), get_recommended_models=asked
    )


def test_models(ai: Ai, engine: FakeEngine) -> None:
    """The registry's models stand first and once; a server's have its name; one that lacks its SDK is left out."""
    mine = Recommended("demo/tiny-llama v2", "a llama model", 12 << 20)
    engine.offered = {
        "numpy": _backend("numpy", mine, is_remote=False),
        "transformers": _backend("transformers", mine, is_remote=False),
        "ollama": _backend("ollama", Recommended("llama3.2:3b", "It is here."), is_remote=True),
        "openai": EngineError("The backend openai cannot be loaded."),
    }
    found = _told(ai("models", "--json"))["models"]
    assert [(each["name"], each["backend"]) for each in found] == [
        ("demo/tiny-llama v2", "registry"),
        ("ollama:llama3.2:3b", "ollama"),
    ]
    assert ai("models").stdout.splitlines()[1].split()[:3] == ["demo/tiny-llama", "v2", "12.0"]
