"""`xprim cache cleanup | free | pin | unpin | pins | why | dedupe`: a plan first, a question at a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from .conftest import Runner, lines
from .terminal import Terminal

_REF, _OTHER = "fast-whisper/tiny fp16", "llama/7b q4_v2"
# What was installed a moment ago may go too.
_NOW = ("--min-age-hours", "0")

Cache = Callable[..., Result]
Told = Callable[..., dict[str, Any]]


@pytest.fixture
def two(run: Runner, data_dir: Path) -> Path:
    """Two installed models; the result is the base directory."""
    for ref in (_REF, _OTHER):
        run("pull", ref, "-q")
    return data_dir


def _models(run: Runner) -> list[str]:
    return [" ".join(line.split()[:3]) for line in lines(run("list"))[1:]]


def test_dry_run_of_a_cleanup_changes_nothing(cache: Cache, told: Told, run: Runner, two: Path) -> None:
    """The plan names each candidate with its reason and its true bytes."""
    result = cache("cleanup", "--max-size", "1KB", *_NOW, "--dry-run")
    assert result.exit_code == 0
    assert len(re.findall(r"^remove model .*Least recently used", result.stdout, re.MULTILINE)) == 2
    plan = told("cleanup", "--max-size", "1KB", *_NOW, "--dry-run")["plan"]
    assert {"kind", "name", "action", "step", "reason", "freed_bytes"} <= set(plan["candidates"][0])
    assert plan["freed_bytes"] > 9_000
    assert len(_models(run)) == 2


def test_cleanup_removes_what_its_options_say(cache: Cache, told: Told, run: Runner, two: Path) -> None:
    """Without options no model goes; with a limit the least recently used do, and never a pinned one."""
    assert told("cleanup")["cleaned"]["removed_models"] == []
    cache("pin", _REF, "--reason", "for the thesis")
    cleaned = told("cleanup", "--max-size", "0", *_NOW)["cleaned"]
    assert (cleaned["removed_models"], cleaned["failed"]) == ([_OTHER], [])
    assert [each["kept"] for each in cleaned["done"]] == [None]
    assert len(_models(run)) == 1


def test_a_size_that_is_none_is_a_usage_error(cache: Cache) -> None:
    """`--max-size huge` and `free huge` exit with 2 and say how a size is written."""
    for words in (("cleanup", "--max-size", "huge"), ("free", "huge")):
        result = cache(*words)
        assert result.exit_code == 2
        assert '"20 GB"' in result.stderr


def test_free_takes_no_more_than_it_needs(cache: Cache, told: Told, run: Runner, two: Path) -> None:
    """One model is enough for a small sum; a sum that nothing can reach exits with 7 and says how far it came."""
    assert len(told("free", "1KB", *_NOW, "--dry-run")["plan"]["candidates"]) == 1
    assert len(told("free", "1KB", *_NOW)["cleaned"]["done"]) == 1
    assert len(_models(run)) == 1
    result = cache("free", "1GB", *_NOW)
    assert result.exit_code == 7
    assert "nothing else may go" in result.stderr
    assert _models(run) == []


def test_a_terminal_is_asked_before_a_model_goes(environment: dict[str, str], run: Runner, two: Path) -> None:
    """A person sees the plan and is asked; no leaves everything, `-y` does not ask."""
    words = ("cache", "cleanup", "--max-size", "0", *_NOW)
    with Terminal(*words, env=environment, module="xprim_nb.cli.main") as screen:
        screen.read_until(r"Let 2 things go")
        screen.enter("n\n")
        assert screen.end() == 1
    assert "Least recently used" in screen.shown
    assert len(_models(run)) == 2
    with Terminal(*words, "-y", env=environment, module="xprim_nb.cli.main") as screen:
        assert screen.end() == 0
    assert "[y/N]" not in screen.shown
    assert _models(run) == []


def test_pins_are_listed_and_taken_away(cache: Cache, told: Told, two: Path) -> None:
    """A pin has a date and a reason; taking away one that is not there says so."""
    pinned = told("pin", _REF, "--reason", "for the thesis")["pinned"]
    assert (pinned["ref"], pinned["reason"]) == (_REF, "for the thesis")
    assert lines(cache("pins"))[1].endswith("for the thesis")
    assert [each["ref"] for each in told("pins")["pins"]] == [_REF]
    assert lines(cache("unpin", _REF)) == [f"Unpinned: {_REF}"]
    assert told("unpin", _REF)["unpinned"]["was_pinned"] is False
    assert cache("pin", "no/model v1").exit_code == 4


def test_why_tells_whose_a_file_is(cache: Cache, told: Told, two: Path) -> None:
    """A file of a model names the model and why it stays; a file of nobody's is unknown."""
    path = two / "fast-whisper" / "tiny" / "fp16" / "config.json"
    assert lines(cache("why", str(path)))[0] == f"config.json of {_REF} (model)"
    found = told("why", str(path))["why"]
    assert (found["ref"], found["file"], found["kind"]) == (_REF, "config.json", "model")
    assert {"digest", "number", "file_offset", "length"} == set(found["chunks"][0])
    assert found["kept_because"]
    assert told("why", os.devnull)["why"]["kind"] == "unknown"


def test_dedupe_by_hard_links_shares_equal_files(
    cache: Cache, told: Told, run: Runner, registry: Any, data_dir: Path
) -> None:
    """The dry run tells which files; then they are one, and the models still whole."""
    registry.put_entry("fast-whisper/twin v1", registry.entry(_REF))
    for ref in (_REF, "fast-whisper/twin v1"):
        run("pull", ref, "-q")
    paths = [data_dir / "fast-whisper" / name / "model.safetensors" for name in ("tiny/fp16", "twin/v1")]
    assert told("dedupe", "--hard-links", "--dry-run")["plan"]["size_bytes"] >= 8_000
    inodes = {path.stat().st_ino for path in paths}
    done = told("dedupe", "--hard-links")["deduplicated"]
    assert (done["method"], len(done["done"])) == ("hardlink", len(inodes) - 1)
    assert len({path.stat().st_ino for path in paths}) == 1
    assert cache("validate", "--all", "--full").exit_code == 0
