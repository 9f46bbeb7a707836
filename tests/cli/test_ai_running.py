"""`xprim ai run`: the text on stdout as it comes, everything else beside it."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result

from xprim_nb.cli.ai_progress import Waiting
from xprim_nb.errors import NoCapacityError, NotInstalledError
from xprim_nb.scheduling.values import GenerateProgress

from ..fake_engine import MODEL, REPLY, FakeEngine


@pytest.fixture
def asks(ai: Callable[..., Result]) -> Callable[..., Result]:
    """`xprim ai run …` in this process."""
    return lambda *args, **how: ai("run", *args, **how)


def test_text_on_stdout_and_the_time_beside_it(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Stdout has the text and one line's end; where the time went is on stderr, unless --quiet."""
    done = asks("demo/tiny-llama@v2", "Once")
    assert (done.exit_code, done.stdout) == (0, "Once upon a time.\n")
    assert done.stderr == f"{REPLY.stamp}\n"
    assert engine.asked("generate")["model"] == "demo/tiny-llama v2"
    assert engine.asked("generate")["note"] == "xprim ai run"
    assert asks("demo/tiny-llama@v2", "Once", "--quiet").stderr == ""


def test_the_document(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """`--json` prints one document with the keys that others rely on, and nothing else."""
    engine.answer = replace(
        REPLY, evicted=("numpy:other v1",), degraded="context of 2,048 tokens", seed=7, finish_reason="length"
    )
    done = asks("demo/tiny-llama v2", "Once", "--json", "--temperature", "0.5", "--seed", "7")
    found = json.loads(done.stdout)
    assert (found["text"], found["tokens"], found["worker_pid"]) == ("Once upon a time.", 3, 4242)
    assert found["timings_s"] == {
        "install": 0, "queue": 0.4, "load": 2.0, "lora": 0, "first_token": 0.1, "generate": 0.7, "total": 3.1,
    }  # fmt: skip
    assert (found["model"], found["seed"], found["finish_reason"]) == (MODEL, 7, "length")
    assert (found["device"], found["evicted"]) == ("cpu", ["numpy:other v1"])
    assert found["warnings"] == [f"{MODEL} ran with less than was asked for: context of 2,048 tokens."]
    assert done.stderr == ""


def test_what_came_about_is_told_to_people(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """A seed, a cut answer and a degraded one are told on stderr."""
    engine.answer = replace(REPLY, degraded="on the CPU", seed=7, finish_reason="length")
    told = asks("demo/tiny-llama v2", "Once").stderr
    assert "seed 7, cut at 3 tokens\n" in told
    assert "warning: " in told
    assert "on the CPU" in told


def test_options_reach_the_engine(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Each option is the engine's of the same name; the backend's own are read as numbers, switches or text."""
    asks(
        *("demo/tiny-llama v2", "Once", "--max-tokens", "5", "--temperature", "0.7", "--top-p", "0.9"),
        *("--top-k", "40", "--seed", "3", "--stop", "\n", "--stop", "END", "--priority", "batch"),
        *("--lora", "demo/lora-json v1*0.5", "--lora", "demo/lora-prose v1", "--timeout", "2.5"),
        *("--no-install", "--context-tokens", "512", "--dtype", "float32", "--set", "threads=2"),
        *("--set", "cache=false", "--set", "quantization=4bit", "--set", "scale=0.5"),
    )
    asked = engine.asked("generate")
    assert (asked["max_tokens"], asked["temperature"], asked["top_p"], asked["top_k"]) == (5, 0.7, 0.9, 40)
    assert (asked["seed"], asked["stop"], asked["priority"]) == (3, ("\n", "END"), "batch")
    assert asked["loras"] == ("demo/lora-json v1*0.5", "demo/lora-prose v1")
    assert (asked["timeout"], asked["install"]) == (2.5, False)
    assert (asked["context_tokens"], asked["dtype"], asked["threads"]) == (512, "float32", 2)
    assert (asked["cache"], asked["quantization"], asked["scale"]) == (False, "4bit", 0.5)
    asks("demo/tiny-llama v2", "Once", "--timeout", "none")
    assert engine.asked("generate")["timeout"] is None
    asks("demo/tiny-llama v2", "Once")
    assert "timeout" not in engine.asked("generate")


def test_messages(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """`--chat` makes the prompt a message, and `--system` puts one before it; plain prompts stay as they are."""
    asks("demo/tiny-llama v2", "Hello", "--chat")
    asked = engine.asked("generate")
    assert (asked["prompt"], asked["messages"]) == (None, [{"role": "user", "content": "Hello"}])
    asks("demo/tiny-llama v2", "Hello", "--system", "Be brief.")
    assert engine.asked("generate")["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
    ]
    asks("demo/tiny-llama v2", "Hello")
    assert (engine.asked("generate")["prompt"], engine.asked("generate")["messages"]) == ("Hello", None)


@pytest.mark.parametrize(
    ("given", "prompt"), [("Once upon\n", "Once upon"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("ä", "ä")]
)
def test_prompt_from_stdin(asks: Callable[..., Result], engine: FakeEngine, given: str, prompt: str) -> None:
    """`-` reads stdin, without the last line's end."""
    asks("demo/tiny-llama v2", "-", input=given)
    assert engine.asked("generate")["prompt"] == prompt


def test_stdin_that_is_no_text(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Bytes that are no UTF-8 are refused before anything is asked."""
    done = asks("demo/tiny-llama v2", "-", input=b"\xff\xfe")
    assert done.exit_code == 2
    assert "no UTF-8: invalid start byte at byte 0" in done.stderr
    assert engine.calls == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--timeout", "soon"), "is not a number of seconds above 0, or 'none'"),
        (("--timeout", "0"), "is not a number of seconds above 0"),
        (("--set", "threads"), "is no KEY=VALUE"),
        (("--top-p", "0"), "not in the range"),
        (("--priority", "urgent"), "is not one of"),
    ],
)
def test_mistakes_are_usage_errors(
    asks: Callable[..., Result], engine: FakeEngine, args: tuple[str, ...], said: str
) -> None:
    """An option that cannot be read is told before anything is started."""
    done = asks("demo/tiny-llama v2", "Once", *args)
    assert done.exit_code == 2
    assert said in done.stderr
    assert engine.calls == []


def test_errors_have_their_exit_code(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """What keeps a model from running is a sentence, a hint and 8, as a document too."""
    engine.fails["generate"] = NoCapacityError("It needs 20.0 GB and there are 8.0 GB.", subject=MODEL)
    done = asks("demo/tiny-llama v2", "Once")
    assert (done.exit_code, done.stdout) == (8, "")
    assert "error: It needs 20.0 GB" in done.stderr
    assert json.loads(asks("demo/tiny-llama v2", "Once", "--json").stdout)["error"]["exit_code"] == 8


def test_the_wait_is_told_where_nobody_watches(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Without a terminal an installation is one note on stderr, and no part of the text."""
    engine.before = [("installing", 0.0, 0, ""), ("installing", 0.5, 0, "half of it")]
    engine.hold_after = 0
    timer = threading.Timer(0.5, engine.let_go.set)
    timer.start()
    done = asks("demo/tiny-llama v2", "Once")
    timer.join()
    assert done.stdout == "Once upon a time.\n"
    assert done.stderr.count("installing ") == 1


def test_a_pipe_gets_what_the_model_wrote(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Control characters pass to a pipe as they are; a line's end of the model's own is kept beside ours."""
    engine.pieces = ("\x1b[31mred\r\n", "\x07end\n")
    assert asks("demo/tiny-llama v2", "Once").stdout_bytes == b"\x1b[31mred\r\n\x07end\n\n"


def test_not_installed_is_told(asks: Callable[..., Result], engine: FakeEngine) -> None:
    """Where installing is forbidden the command fails with 4 and asks nobody who is not there."""
    engine.fails["generate"] = NotInstalledError(
        "demo/tiny-llama v2 is not installed.", subject="demo/tiny-llama v2"
    )
    done = asks("demo/tiny-llama v2", "Once", "--no-install")
    assert done.exit_code == 4
    assert len(engine.calls) == 1


@pytest.mark.skipif(os.name == "nt", reason="signals are another thing there")
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interrupt_prints_what_came(
    asks: Callable[..., Result], engine: FakeEngine, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C cancels the answer; what came is printed, and the exit code is 130."""
    engine.hold_after = 2
    waits = threading.Event()

    def show(_: Waiting, progress: GenerateProgress) -> None:
        if progress.tokens == 2:
            waits.set()

    monkeypatch.setattr(Waiting, "show", show)

    def interrupt() -> None:
        if waits.wait(20):
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = asks("demo/tiny-llama v2", "Once", *(["--json"] if as_json else []))
    thread.join()
    assert done.exit_code == 130
    assert engine.cancelled.is_set()
    if not as_json:
        assert done.stdout == "Once upon \n"
        assert done.stderr == "stopped after 2 tokens\n"
        return
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["text"], found["tokens"], found["finish_reason"]) == ("Once upon ", 2, "cancelled")
    assert found["error"]["exit_code"] == 130
