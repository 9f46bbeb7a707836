"""`xprim prompts analyze`: figures of calls that were really kept, and limits that CI is held to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.prompts.caches.helpers import RULES, Answerer
from tests.prompts.telemetry.collector import Collector
from xprim_nb.cli.main import xprim
from xprim_nb.errors import ProviderError
from xprim_nb.prompts.answers import Answer, Usage
from xprim_nb.prompts.desk import Prompts

from .conftest import Runner

_WHOM: dict[str, Any] = {"provider": "openai", "model": "gpt-5.6"}


@pytest.fixture
def told(run: Runner) -> Callable[..., dict[str, Any]]:
    """`xprim prompts analyze … --json`: its one document."""

    def told(*args: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("prompts", "analyze", *args, "--json", command=xprim).stdout)
        return found

    return told


@pytest.fixture
def asked(data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two questions that were answered, one that failed, and two answers from the cache; nobody's project."""
    monkeypatch.chdir(tmp_path)

    def say(call: int) -> Answer:
        if call == 3:
            raise ProviderError("The server is down.", subject="gpt-5.6")
        return Answer("yes", usage=Usage(1000, 10, 400), latency_s=1.0)

    async def ask() -> None:
        async with Prompts(data_dir / "prompts", generate=Answerer(say)) as prompts:
            for turn in ("one", "two", "two", "two"):
                await prompts.ask(turn, checkpoint="c1" if turn == "one" else "", **_WHOM)
            with pytest.raises(ProviderError):
                await prompts.ask("three", **_WHOM)

    asyncio.run(ask())


@pytest.mark.usefixtures("asked")
def test_each_cache_has_a_share_of_its_own(told: Callable[..., dict[str, Any]]) -> None:
    """Answers that were not asked for and tokens that the provider read are two figures; failures are counted."""
    (found,) = told()["analysis"]
    assert (found["key"], found["calls"], found["failed"], found["hits"]) == ("openai", 3, 1, 2)
    assert (found["input_tokens"], found["read_tokens"]) == (2000, 800)
    assert (found["answer_hit_share"], found["prefix_read_share"]) == (0.4, 0.4)
    assert float(found["billed"]) > 0
    assert [each["calls"] for each in told("--checkpoint", "c1")["analysis"]] == [1]
    assert {each["key"] for each in told("--by", "checkpoint")["analysis"]} == {"", "c1"}
    (step,) = told("--checkpoint", "c1")["steps"]
    assert (step["operation"], step["input_tokens"], told()["steps"]) == ("ask", 1000, [])


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (("min-response-hit-share=0.4", "max-failed=1", "max-billed=1"), 0, ""),
        (("min-response-hit-share=0.5",), 9, "response hit share should be at least 0.5; it is 0.4"),
        (("min-prefix-read-share=0.9",), 9, "prefix read share should be at least 0.9; it is 0.4"),
        (("max_failed=0",), 9, "failed should be at most 0; it is 1"),
        (("max-billed=0.000001",), 9, "billed should be at most 0.000001"),
        (("max-estimated=0",), 0, ""),
        (("max-billed=much",), 2, "no number"),
        (("max-failed=0.5",), 2, "no number"),
        (("max-cost=1",), 2, "no limit 'max_cost'"),
        ((), 2, "no limit"),
    ],
)
def test_ci_ends_with_9_where_a_limit_is_broken(
    run: Runner, limits: tuple[str, ...], code: int, said: str
) -> None:
    """A limit that holds is silent, one that is broken is a sentence, and none at all is a mistake."""
    options = [each for limit in limits for each in ("--limit", limit)]
    done = run("prompts", "analyze", "--ci", *options, command=xprim)
    assert (done.exit_code, said in done.stderr) == (code, True)


@pytest.mark.usefixtures("asked")
def test_limits_stand_in_the_project(
    run: Runner, told: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """They are those of the nearest `pyproject.toml`; an option wins over one, and one that nobody knows is named."""
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.xprim.prompts.ci]\nmin-response-hit-share = 0.9\nmax-billed = "2.50"\n')
    assert run("prompts", "analyze", "--ci", command=xprim).exit_code == 9
    document = told("--ci", "--limit", "min-response-hit-share=0.1")
    assert "error" not in document
    assert document["limits"] == {"min_response_hit_share": 0.1, "max_billed": "2.50"}
    project.write_text("[tool.xprim.prompts.ci]\nmin-hitrate = 0.9\n")
    done = run("prompts", "analyze", "--ci", command=xprim)
    assert (done.exit_code, "min_hitrate" in done.stderr) == (2, True)


@pytest.mark.usefixtures("asked")
def test_the_move_that_would_have_saved_most_is_told(run: Runner, data_dir: Path) -> None:
    """Where a block that changes each time stands before one that never does, moving it is advised, with the tokens."""
    style = RULES * 3  # OpenAI keeps no prefix below 1024 tokens

    async def ask() -> None:
        async with Prompts(data_dir / "prompts", generate=Answerer()) as prompts:
            for day in range(3):
                facts = {"type": "context", "content": f"It is day {day}.", "name": "day", "volatility": 0}
                rules = {"type": "style_guide", "content": style, "name": "style", "volatility": 50}
                await prompts.ask("Go.", blocks=[facts, rules], scaffold_type="daily", **_WHOM)

    asyncio.run(ask())
    done = run("prompts", "analyze", command=xprim)
    assert "→ Moving 'day' after 'style' would have saved" in done.stderr


@pytest.mark.usefixtures("asked")
def test_recorded_calls_are_told_to_a_collector(run: Runner) -> None:
    """How many it took is said; a date in the future leaves none, and who refuses ends with 5 and what to look at."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra `otel` is not installed")
    with Collector() as collector, Collector(status=400) as refusing:
        done = run("prompts", "export", collector.url, "--json", command=xprim)
        assert json.loads(done.stdout)["exported"] == 3
        assert [each["attributes"]["gen_ai.operation.name"] for each in collector.spans()] == ["chat"] * 3
        later = run("prompts", "export", collector.url, "--since", "2999-01-01", command=xprim)
        assert "Sent: 0 calls" in later.stdout
        refused = run("prompts", "export", refusing.url, command=xprim)
        assert (refused.exit_code, "took 0 of 3 calls" in refused.stderr) == (5, True)
    assert run("prompts", "export", "lab:4318", command=xprim).exit_code == 2
