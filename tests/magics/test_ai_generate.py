"""`%%generate`: the cell is the prompt, and the answer is shown while it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import NoCapacityError
from xprim_nb.scheduling.values import Reply

from ..fake_engine import MODEL, REPLY, FakeEngine
from .conftest import value_of
from .kernels import Kernel

Cell = Callable[..., Any]
# As a kernel has it: the same script, behind every toolkit that is made there.
_SCRIPT = """
import pytest
from tests.fake_engine import FakeEngine, engine_for_toolkits
script = engine_for_toolkits(pytest.MonkeyPatch(), FakeEngine({options}))
engine = script.__enter__()
"""


@pytest.fixture
def cell(shell: InteractiveShell, engine: FakeEngine) -> Cell:
    """What a cell that begins with `%%generate` returns, on the engine of this test."""
    return lambda first, text="Once": value_of(
        shell.run_cell(f"%%generate {first}\n{text}\n", store_history=True)
    )


def test_the_cell_is_the_prompt(
    cell: Cell, engine: FakeEngine, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a terminal the text is printed and the line of where the time went is the value's face; the value is a Reply."""
    reply = cell("demo/tiny-llama v2 --max-tokens 5", "Once {upon} $a\n\ntime")
    assert isinstance(reply, Reply)
    assert engine.asked("generate")["prompt"] == "Once {upon} $a\n\ntime"
    assert engine.asked("generate")["note"] == "In [1]"
    shown = capsys.readouterr().out
    assert shown.startswith("Once upon a time.\n")
    assert shown.count("Once upon") == 1
    assert f"[{MODEL} on cpu · 3 tokens · {REPLY.stamp}]" in shown
    assert value_of(shell.run_cell("Out[1]", store_history=True)) is reply
    assert capsys.readouterr().out.count("Once upon a time.") == 1


def test_variables_stand_in_the_first_line(cell: Cell, engine: FakeEngine, shell: InteractiveShell) -> None:
    """`$name` and `{name}` are expanded where the model and the options are."""
    shell.user_ns.update(model="demo/tiny-llama v2", most=7)
    cell("$model --max-tokens {most}", "{model}")
    assert engine.asked("generate")["model"] == "demo/tiny-llama v2"
    assert (engine.asked("generate")["max_tokens"], engine.asked("generate")["prompt"]) == (7, "{model}")


def test_options_reach_the_engine(cell: Cell, engine: FakeEngine, shell: InteractiveShell) -> None:
    """Options and the backend's settings are passed on; `--as` keeps the answer."""
    cell(
        "demo/tiny-llama v2 --temperature 0.5 --seed 3 --stop END --lora 'demo/x v1*0.5' --timeout 2"
        " --priority batch --no-install --set threads=2 --as kept"
    )
    asked = engine.asked("generate")
    assert (asked["temperature"], asked["seed"], asked["stop"]) == (0.5, 3, ["END"])
    assert (asked["loras"], asked["timeout"], asked["priority"]) == (["demo/x v1*0.5"], 2.0, "batch")
    assert (asked["install"], asked["threads"]) == (False, 2)
    assert shell.user_ns["kept"].text == "Once upon a time."
    cell("demo/tiny-llama v2 --timeout none")
    assert engine.asked("generate")["timeout"] is None
    cell("demo/tiny-llama v2")
    assert "timeout" not in engine.asked("generate")


def test_messages(cell: Cell, engine: FakeEngine, shell: InteractiveShell) -> None:
    """A conversation is what a variable holds, the system's message before it, the cell behind; it is not changed."""
    before = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    shell.user_ns["talk"] = before
    cell("demo/tiny-llama v2 --messages talk --system 'Be brief.'", "And now?")
    assert engine.asked("generate")["messages"] == [
        {"role": "system", "content": "Be brief."},
        *before,
        {"role": "user", "content": "And now?"},
    ]
    assert len(before) == 2
    cell("demo/tiny-llama v2 --messages talk", " ")
    assert engine.asked("generate")["messages"] == before
    cell("demo/tiny-llama v2 --chat", "Hello")
    assert engine.asked("generate")["messages"] == [{"role": "user", "content": "Hello"}]
    assert engine.asked("generate")["prompt"] is None


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("a/b --as 1st", "no name of a variable"),
        ("a/b --as class", "no name of a variable"),
        ("a/b --messages nothing", "there is no variable of that name"),
        ("a/b --messages text", "no list of messages, but str"),
        ("a/b --nope", "unrecognized arguments: --nope"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    cell: Cell, engine: FakeEngine, shell: InteractiveShell, first: str, said: str
) -> None:
    """What cannot work is a usage error, and no model is asked."""
    shell.user_ns["text"] = "Hello"
    with pytest.raises(UsageError, match=said):
        cell(first)
    assert engine.calls == []


def test_control_characters_are_shown(
    cell: Cell, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a model writes drives no terminal."""
    engine.pieces = ("\x1b[31mred", "\x07")
    cell("demo/tiny-llama v2")
    assert "\\x1b[31mred\\x07\n" in capsys.readouterr().out


def test_a_failure_is_the_engines(cell: Cell, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """What keeps a model from answering is raised, after a line that says so."""
    engine.fails["generate"] = NoCapacityError("It needs 20.0 GB.", subject=MODEL)
    with pytest.raises(NoCapacityError):
        cell("demo/tiny-llama v2")
    assert "[demo/tiny-llama v2: no answer]" in capsys.readouterr().out


def test_help(shell: InteractiveShell, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` in the first line shows the options and asks nobody."""
    assert value_of(shell.run_cell("%%generate --help\nx\n")) is None
    assert capsys.readouterr().out.startswith("usage: %%generate")
    assert engine.calls == []


@pytest.fixture
def scripted(kernel: Kernel) -> Iterator[Callable[..., None]]:
    """Gives the kernel an engine with a script."""

    def give(options: str = "") -> None:
        begun = kernel.run(_SCRIPT.format(options=options))
        assert begun.reply["status"] == "ok", begun

    yield give
    kernel.run("%unload_ext xprim_nb\nscript.__exit__(None, None, None)\n%load_ext xprim_nb")


def test_one_output_follows_the_answer(kernel: Kernel, scripted: Callable[..., None], tmp_path: Path) -> None:
    """In a notebook one output says what is waited for, then the text as it comes, then where the time went."""
    release = tmp_path / "go on"
    scripted(f"before=[('loading', 0.4, 0, 'reading tensors')], hold_after=0, released_by={str(release)!r}")
    cell = kernel.start("%%generate demo/tiny-llama v2 --as reply --max-tokens 3\nOnce\n")
    so_far = kernel.watch(cell, r"loading 40 %: reading tensors")
    waits = [*so_far.of("display_data"), *so_far.of("update_display_data")][-1]["data"]["text/html"]
    assert 'role="progressbar"' in waits
    release.touch()
    outcome = kernel.finish(cell, so_far)
    assert outcome.reply["status"] == "ok"
    assert len(outcome.of("display_data")) == 1
    shown = [*outcome.of("display_data"), *outcome.of("update_display_data")]
    assert len({each["transient"]["display_id"] for each in shown}) == 1
    last = shown[-1]["data"]
    assert last["text/plain"].startswith("Once upon a time.\n\n[numpy:demo/tiny-llama v2 on cpu")
    assert "Once upon a time." in last["text/html"]
    assert last["text/markdown"].startswith("```text\nOnce upon a time.")
    assert outcome.of("execute_result") == []
    assert outcome.text() + outcome.text("stderr") == ""
    assert kernel.run("print(reply.tokens, _ is reply)").text() == "3 True\n"
    later = kernel.run("reply")
    assert "Once upon a time." in later.of("execute_result")[0]["data"]["text/plain"]


def test_updates_are_coalesced(kernel: Kernel, scripted: Callable[..., None]) -> None:
    """A model that writes a thousand pieces at once does not flood the notebook."""
    scripted("pieces=['x'] * 1000")
    outcome = kernel.run("%%generate demo/tiny-llama v2\nOnce\n")
    shown = [*outcome.of("display_data"), *outcome.of("update_display_data")]
    assert 1 <= len(shown) <= 5
    assert "x" * 1000 in shown[-1]["data"]["text/plain"]


def test_an_interrupt_keeps_what_came(kernel: Kernel, scripted: Callable[..., None]) -> None:
    """The stop button ends the answer in one line; what came is shown and kept, and the next cell is answered."""
    scripted("hold_after=2")
    cell = kernel.start("%%generate demo/tiny-llama v2 --as reply\nOnce\n")
    so_far = kernel.watch(cell, r"(?s)Once upon .*2 tokens")
    kernel.interrupt()
    outcome = kernel.finish(cell, so_far)
    (error,) = outcome.of("error")
    line = "generate with demo/tiny-llama v2: stopped after 2 tokens"
    assert (error["ename"], error["traceback"]) == ("KeyboardInterrupt", [line])
    last = outcome.of("update_display_data")[-1]["data"]
    assert last["text/plain"].startswith("Once upon \n\n[numpy:demo/tiny-llama v2: stopped after 2 tokens]")
    told = kernel.run("print(repr(reply.text), reply.finish_reason, engine.cancelled.is_set())").text()
    assert told == "'Once upon ' cancelled True\n"
    kernel.run("engine.hold_after = None")
    assert kernel.run("%%generate demo/tiny-llama v2\nOnce\n").reply["status"] == "ok"
