"""`xprim prompts` as users start it: real processes, the demo model, files and stdin, documents and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.cli.main import xprim

from .conftest import Runner

pytestmark = pytest.mark.timeout(300)  # a worker starts in half a second; on a loaded machine in many

_MODEL = ("--model", "demo/tiny-llama@v2", "--stop", ".")
_TURN = "Once upon a time"
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(environment: dict[str, str]) -> Call:
    """`xprim prompts …` in a process of its own, with the embedded demo registry, to its end."""
    home = {name: text for name, text in environment.items() if name != "XPRIM_MODELS_REGISTRY_URL"}

    def call(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "xprim_nb.cli.main", "prompts", *args],
            env=home,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )

    return call


@pytest.fixture
def told(run: Runner) -> Callable[..., dict[str, Any]]:
    """`xprim prompts … --json` in this process: its one document."""

    def told(*args: str, stdin: str = "") -> dict[str, Any]:
        result = run("prompts", *args, "--json", command=xprim, input=stdin)
        found: dict[str, Any] = json.loads(result.stdout)
        assert result.stderr == ""
        return found

    return told


def test_the_second_call_is_answered_by_the_cache(call: Call) -> None:
    """A prompt is answered by the model, the same from stdin by the cache, another with `only` not at all: exit code 9."""
    first = call("ask", _TURN, *_MODEL)
    assert (first.returncode, bool(first.stdout.strip())) == (0, True)
    assert "not from the cache: Nothing was asked of this model before." in first.stderr
    again = call("ask", *_MODEL, "--offline", stdin=f"{_TURN}\n")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr.startswith("from the cache in ")
    document = json.loads(call("ask", _TURN, *_MODEL, "--json").stdout)
    assert (document["source"], document["text"] + "\n", document["reason"]) == ("cache", first.stdout, None)
    missed = call("ask", f"{_TURN}?", *_MODEL, "--cache", "only", "--json")
    error = json.loads(missed.stdout)["error"]
    assert (missed.returncode, error["type"], error["exit_code"]) == (9, "NotCachedError", 9)
    assert "byte 16" in error["message"]


def test_samples_are_kept_one_by_one(call: Call) -> None:
    """Of three samples two were there already; one that is cut is not kept, and the note says so."""
    words = (
        "ask",
        _TURN,
        *_MODEL[:2],
        "--stop",
        " ",
        "--temperature",
        "1",
        "--seed",
        "4",
        "--max-tokens",
        "60",
    )
    two = json.loads(call(*words, "--samples", "2", "--json").stdout)["answers"]
    three = json.loads(call(*words, "--samples", "3", "--json").stdout)["answers"]
    assert [each["source"] for each in three] == ["cache", "cache", "generated"]
    assert [each["text"] for each in three[:2]] == [each["text"] for each in two]
    assert [each["sample_index"] for each in three] == [0, 1, 2]
    cut = call("ask", _TURN, *_MODEL, "--max-tokens", "3")
    assert "not kept: It ended with 'length': max_tokens=3 was reached" in cut.stderr


def test_files_become_blocks_in_the_order_of_the_cache(
    told: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """What seldom changes is sent first; folders are file maps without what tools leave in them; the hash is stable."""
    (tmp_path / "src" / "__pycache__").mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_text("x = 1\n")
    (tmp_path / "src" / ".env").write_text("SECRET=1")
    (tmp_path / "src" / "__pycache__" / "a.pyc").write_bytes(b"\0")
    (tmp_path / "system.md").write_text("Be brief.")
    (tmp_path / "facts.md").write_text("It is late.")
    words = [
        "--provider",
        "anthropic",
        "--model",
        "claude-sonnet-4-5",
        "--context",
        str(tmp_path / "facts.md"),
    ]
    words += ["--system", str(tmp_path / "system.md"), "--file-map", str(tmp_path / "src")]
    found = told("resolve", "Why?", *words)["resolved"]
    assert [each["label"] for each in found["segments"]] == ["system", "src", "facts.md", "turn"]
    assert found["format"].startswith("anthropic/")
    texts = json.dumps(found["body"])
    assert "x = 1" in texts
    assert "SECRET" not in texts
    assert told("resolve", "Why?", *words)["resolved"]["request"] == found["request"]
    assert told("resolve", "Why so?", *words)["resolved"]["request"] != found["request"]


def test_a_whole_prompt_is_a_file(told: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """`--input` holds all of it; an option wins over it, and a field that nobody knows is refused by name."""
    whole = tmp_path / "prompt.json"
    whole.write_text(
        json.dumps({"prompt": "Why?", "provider": "openai", "model": "gpt-5.6", "max_tokens": 5})
    )
    body = told("resolve", "--input", str(whole), "--max-tokens", "7", "--param", "user=me")["resolved"][
        "body"
    ]
    assert (body["user"], 7 in body.values(), 5 in body.values()) == ("me", True, False)
    whole.write_text(json.dumps({"prompt": "Why?", "provider": "openai", "model": "x", "temprature": 1}))
    error = told("resolve", "--input", str(whole))["error"]
    assert (error["exit_code"], error["subject"]) == (2, "temprature")


def test_what_is_kept_can_be_forgotten(call: Call) -> None:
    """The caches are counted each by itself; a request is erased by its hash, and everything at last."""
    request = json.loads(call("ask", _TURN, *_MODEL, "--json").stdout)["request"]
    call("ask", f"{_TURN},", *_MODEL[:2], "--stop", "e")
    found = json.loads(call("cache", "status", "--json").stdout)["prompts_cache"]
    assert (found["answers"], found["scaffolds"], found["sent"], found["damaged"]) == (2, 2, 2, 0)
    assert json.loads(call("cache", "erase", request, "--json").stdout)["erased"]["rows"] > 0
    assert call("ask", _TURN, *_MODEL, "--cache", "only").returncode == 9
    assert call("cache", "rotate", "--dry-run").stdout == "Nothing is too old or too much.\n"
    assert call("cache", "clear", "--yes").returncode == 0
    assert json.loads(call("cache", "status", "--json").stdout)["prompts_cache"]["answers"] == 0
    assert call("cache", "erase", "abc").returncode == 2


def test_the_x_ray_says_what_is_cached(told: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Before anything was sent all of a long block will be written, and no answer is kept; a short one is too short."""
    (tmp_path / "long.md").write_text("Keep every rule of the house in mind. " * 600)
    (tmp_path / "short.md").write_text("Be brief.")
    words = ("explain", "Why?", "--provider", "anthropic", "--model", "claude-sonnet-4-5", "--system")
    found = told(*words, str(tmp_path / "long.md"))["explained"]
    assert [each["state"] for each in found["segments"]] == ["written", "fresh"]
    assert (found["answer_kept"], found["break"]["cause"]) == (False, "first call")
    assert found["tokens"]["write_5m"] == found["segments"][0]["written"] > 2000
    short = told(*words, str(tmp_path / "short.md"))["explained"]
    assert [each["state"] for each in short["segments"]] == ["fresh", "fresh"]


def test_what_is_volatile_is_found_and_mended(
    run: Runner, told: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A date in a system text is named with its place, ends with 9 under `--strict`, and `--fix` moves it out."""
    (tmp_path / "system.md").write_text("Be brief.\nToday is 2026-11-28.\nBe kind.")
    words = ("lint", "--system", str(tmp_path / "system.md"))
    (finding,) = told(*words)["findings"]
    assert (finding["rule"], finding["label"], finding["line"], finding["column"]) == (
        "date",
        "system",
        2,
        10,
    )
    assert told(*words, "--strict")["error"]["exit_code"] == 9
    shown = run("prompts", *words, command=xprim).stdout
    assert "-Today is 2026-11-28.\n" in shown
    assert "+Today is 2026-11-28." in shown
    mended = tmp_path / "mended.json"
    mended.write_text(run("prompts", *words, "--fix", command=xprim).stdout)
    assert "Today is" in (tmp_path / "system.md").read_text()
    assert told("lint", "--input", str(mended))["findings"] == []
    blocks = json.loads(mended.read_text())["blocks"]
    assert [each["content"] for each in blocks] == ["Be brief.\nBe kind.", "Today is 2026-11-28."]


def test_a_mended_file_keeps_what_it_was(
    run: Runner, told: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """`--write` needs a file to write to; what was there lies beside it, twice under two names, and a clean one stays."""
    path = tmp_path / "prompt.json"
    words = ("lint", "--input", str(path), "--fix", "--write")
    for backup in ("prompt.json.bak", "prompt.json.bak1"):
        was = json.dumps(
            {"blocks": [{"type": "requirements", "content": f"Be brief.\nIt is 2026-11-28.\n{backup}"}]}
        )
        path.write_text(was)
        assert told(*words)["kept"] == str(tmp_path / backup)
        assert (tmp_path / backup).read_text() == was
        assert told("lint", "--input", str(path))["findings"] == []
    assert "kept" not in told(*words)
    assert sorted(each.name for each in tmp_path.glob("*.json*")) == [
        *("prompt.json", "prompt.json.bak", "prompt.json.bak1")
    ]
    assert run("prompts", "lint", "--fix", "--write", command=xprim).exit_code == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("ask", "Why?"), 2, "No model is named"),
        (("ask", "Why?", "--model", "x", "--provider", "nobody"), 2, "is no provider"),
        (("ask", "Why?", "--model", "demo/nothing@v1"), 3, ""),
        (("ask", "Why?", "--model", "demo/tiny-llama@v2", "--no-install"), 4, "not installed"),
        (("ask", "--model", "demo/tiny-llama@v2", "--param", "x"), 2, "no KEY=VALUE"),
    ],
)
def test_errors_have_exit_codes(call: Call, words: tuple[str, ...], code: int, said: str) -> None:
    """What cannot be asked ends with the exit code of its kind, and a sentence."""
    done = call(*words)
    assert done.returncode == code
    assert said in done.stderr
