"""`%%prompt` and `%xprim prompts` with the real toolkit and the demo model, on a base of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import NotCachedError
from xprim_nb.prompts.asked import Asked
from xprim_nb.prompts.explain import Explanation
from xprim_nb.prompts.resolve import ResolvedScaffold
from xprim_nb.prompts.values import ResolveInput

from ..prompting import asking
from ..prompts.telemetry.collector import Collector
from .conftest import value_of

Cell = Callable[..., Any]
# The demo model ends this one by itself, so that its answer is kept.
_MODEL = "--model demo/tiny-llama@v2"
_ENDS = f"{_MODEL} --temperature 0.7 --seed 3 --stop . --max-tokens 200"
_TURN = "Why is the sky blue?"


@pytest.fixture
def demo(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """A shell whose registry is the embedded one."""
    monkeypatch.delenv("XPRIM_MODELS_REGISTRY_URL")
    return shell


@pytest.fixture
def cell(demo: InteractiveShell) -> Cell:
    """What a cell that begins with `%%prompt` returns."""
    return lambda first, text=_TURN: value_of(
        demo.run_cell(f"%%prompt {first}\n{text}\n", store_history=True)
    )


@pytest.fixture
def line(demo: InteractiveShell) -> Cell:
    """What a line of `%xprim prompts` returns."""
    return lambda text: value_of(demo.run_cell(f"%xprim prompts {text}", store_history=True))


def test_the_same_question_is_answered_from_the_cache(
    cell: Cell, demo: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first answer is generated and says why; the second is the same text, from the cache; `--as` keeps both."""
    first = cell(f"{_ENDS} --as first")
    assert isinstance(first, Asked)
    assert (first.source, first.asked.prompt) == ("generated", _TURN)
    shown = capsys.readouterr().out
    assert shown.count(first.answer.text) == 1
    assert "Nothing was asked of this model before." in shown
    again = cell(f"{_ENDS} --as again")
    assert (again.hit, again.answer.text) == (True, first.answer.text)
    shown = capsys.readouterr().out
    assert shown.count(first.answer.text) == 1
    assert "from the cache" in shown
    assert (demo.user_ns["first"], demo.user_ns["again"]) == (first, again)


def test_modes_and_samples(cell: Cell, line: Cell) -> None:
    """`only` never asks and says what differs; `bypass` keeps nothing; a sample that is kept is not asked for again."""
    with pytest.raises(NotCachedError):
        cell(f"{_ENDS} --cache only")
    assert cell(f"{_ENDS} --cache bypass --as passed").source == "generated"
    two = cell(f"{_ENDS} --samples 2 --as two")
    assert [each.source for each in two] == ["generated", "generated"]
    three = line("ask passed --cache use --samples 3")
    assert [each.asked.sample_index for each in three] == [0, 1, 2]
    # A sample that was cut is not kept, and so is asked for again.
    kept = [each.answer.finish == "stop" for each in two]
    assert kept[0]
    assert [each.hit for each in three] == [*kept, False]
    assert three[0].answer.text == two[0].answer.text
    with pytest.raises(NotCachedError, match="max_tokens differs"):
        line("ask passed --cache only --max-tokens 199")


def test_resolve_sends_nothing(line: Cell, demo: InteractiveShell) -> None:
    """What would be sent to a provider far away, with its tokens; no network is asked, and no answer is kept."""
    demo.user_ns["ours"] = asking()
    found = line("resolve ours")
    assert isinstance(found, ResolvedScaffold)
    assert found.provider_format == "anthropic/1"
    assert found.cache_hit is False
    assert "Be exact." in found.content


def test_explain_sends_nothing_and_says_what_the_cache_would_do(cell: Cell, line: Cell) -> None:
    """Of a model on this machine and of a provider far away; after an answer was kept it says so."""
    found = cell(f"{_ENDS} --explain --as found")
    assert isinstance(found, Explanation)
    assert (found.answer_kept, bool(found.answer_missed)) == (False, True)
    cell(_ENDS)
    assert cell(f"{_ENDS} --explain").answer_kept
    far = line("explain 'Why is it?' --provider anthropic --model claude-opus-4-8")
    assert far.cost is not None
    assert far.broken.cause == "first call"


def test_lint_finds_a_date_and_analyze_counts_calls(line: Cell, cell: Cell, demo: InteractiveShell) -> None:
    """What changes in the part to be kept is a table; so is what calls came to, with a frame; nothing asked is said."""
    demo.user_ns["ours"] = asking()
    assert [each.rule for each in line("lint ours")] == ["date"]
    assert "Nothing was asked yet." in repr(line("analyze"))
    cell(_ENDS)
    cell(_ENDS)
    rows = line("analyze --by model")
    assert [(each.calls, each.hits) for each in rows] == [(1, 1)]
    assert list(rows.frame["calls"]) == [1]
    assert "answered before" in repr(rows)
    assert line("analyze nothing") == ()
    assert [(each.calls, each.response) for each in rows.chart.days] == [(1, 0.5)]
    assert line("analyze --chart") == rows.chart


def test_what_led_to_a_checkpoint_is_told_below_the_table(
    line: Cell, cell: Cell, demo: InteractiveShell
) -> None:
    """What was resolved and asked under a checkpoint, and that it was saved, a line each, also in a page."""
    demo.user_ns.update(ours=asking(), state={"step": 1})
    saved = line("checkpoint review state")
    cell(f"{_ENDS} --checkpoint {saved.id[:12]}")
    rows = line(f"analyze {saved.id[:8]}")
    first, second = repr(rows).split("What led to it:\n")[1].splitlines()[:2]
    assert first.startswith(f"  checkpoint, under {saved.id[:12]}")
    assert second.startswith("  ask, demo/tiny-llama v2, stop")
    assert "white-space:pre-wrap" in rows._repr_html_()
    assert [each.operation for each in rows.analysis.steps] == ["checkpoint", "ask"]


def test_calls_are_told_to_a_collector_from_a_cell(line: Cell, cell: Cell) -> None:
    """One line turns it on for the kernel, one turns it off; what contradicts itself is a mistake in the line."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    with Collector() as collector:
        line(f"export {collector.url} --content")
        cell(_ENDS)
        line("export --off")
        cell(f"{_ENDS} --cache refresh")
        (span,) = collector.spans()
    assert span["name"] == "chat demo/tiny-llama v2"
    assert _TURN in span["attributes"]["gen_ai.input.messages"]
    with pytest.raises(UsageError, match="--off tells nobody"):
        line(f"export {collector.url} --off")


def test_a_prompt_is_mended_in_a_cell_below_and_nowhere_else(line: Cell, demo: InteractiveShell) -> None:
    """Without --fix a diff is all; with it the next cell makes the mended prompt, and the user's own stays as it was."""
    ours = asking()
    demo.user_ns["ours"] = ours
    shown = repr(line("lint ours"))
    assert "--- style guide\n+++ style guide\n" in shown
    assert not getattr(demo, "rl_next_input", None)
    line("lint ours --fix")
    assert demo.user_ns["ours"] is ours
    assert "ours_mended" not in demo.user_ns
    value_of(demo.run_cell(str(demo.rl_next_input)))
    mended = demo.user_ns["ours_mended"]
    assert [each.name for each in mended.blocks] == ["requirements", "volatile facts"]
    assert list(line("lint ours_mended")) == []
    line("lint ours --fix --as better")
    assert demo.user_ns["better"].blocks == mended.blocks
    with pytest.raises(UsageError, match="--as names what --fix makes"):
        line("lint ours --as better")


def test_variables_stand_in_the_first_line(cell: Cell, demo: InteractiveShell) -> None:
    """`$name` and `{name}` are expanded in the first line, and not in the cell."""
    demo.user_ns.update(most=3)
    found = cell(f"{_MODEL} --max-tokens {{most}}", "Once {upon} $a time")
    assert (found.asked.max_tokens, found.asked.prompt) == (3, "Once {upon} $a time")
    assert (found.answer.finish, bool(found.not_kept)) == ("length", True)


@pytest.mark.parametrize(
    ("first", "text", "said"),
    [
        (_MODEL, " ", "the cell is empty"),
        (f"{_MODEL} --as 1x", "Why?", "--as 1x: that is no name of a variable"),
        (f"{_MODEL} --explain --samples 2", "Why?", "--explain sends nothing"),
        (f"{_MODEL} --samples 0", "Why?", "'0' is not a whole number from 1"),
        (f"{_MODEL} --cache never", "Why?", "invalid choice: 'never'"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(cell: Cell, first: str, text: str, said: str) -> None:
    """Each in one line."""
    with pytest.raises(UsageError, match=said):
        cell(first, text)


def test_a_cell_can_go_on_with_a_conversation(cell: Cell, demo: InteractiveShell) -> None:
    """`--from` takes everything but the turn from a variable, and the request says so."""
    demo.user_ns["base"] = ResolveInput(
        prompt="-", provider="local", model="demo/tiny-llama v2", max_tokens=2, temperature=0.5, seed=1
    )
    found = cell("--from base --seed 2", "Once")
    assert (found.asked.prompt, found.asked.max_tokens, found.asked.seed) == ("Once", 2, 2)


def test_states_are_kept_as_a_tree_of_branches(line: Cell, demo: InteractiveShell) -> None:
    """A variable is kept, found again by digits or branch, and goes on under another name; the list is the tree."""
    assert repr(line("list")) == "No checkpoint is kept yet."
    demo.user_ns.update(first={"plan": ["read"]}, second={"plan": ["dare"]})
    saved = line("checkpoint review first --label plan")
    assert line(f"restore {saved.id[:8]}").state == {"plan": ["read"]}
    assert line(f"branch {saved.id[:8]} bolder").id == saved.id
    line("checkpoint review second --branch bolder --label guess")
    tree = line("list --scaffold review")
    assert {name: node.label for name, node in tree.tips.items()} == {"main": "plan", "bolder": "guess"}
    assert "2 checkpoints on 2 branches" in tree._repr_html_()
    assert demo.display_formatter is not None
    show: Any = demo.display_formatter.format
    data, _ = show(saved)
    assert "plan" in data["text/plain"]
    assert saved.id in data["text/html"]
    assert show([saved])[0]["text/plain"] == f"[<Checkpoint plan {saved.id[:8]} on main>]"
    with pytest.raises(UsageError, match="there is no variable"):
        line("checkpoint review nothing")
