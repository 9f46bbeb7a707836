"""The caches on a real file: what is kept is found, a hit writes nothing, and what is damaged is put aside."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from xprim_nb.errors import StorageError
from xprim_nb.prompts.answers import Answer, Finish, Usage
from xprim_nb.prompts.caches import Caches, Call, CallPart, Found
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.resolve import resolve_scaffold

from .conftest import Clock
from .helpers import RULES, keep, question

_FULL = Answer(
    "Here you are 😀.",
    finish="tool_calls",
    usage=Usage(100, 20, 60, 10, 5),
    model="gpt-5.6-2026-10-01",
    tool_calls=({"name": "look", "arguments": {"path": "a.py", "n": 2**70}},),
    latency_s=1.25,
    first_token_s=0.5,
    extra={"id": "x1", "fingerprint": None},
)


def test_an_answer_comes_back_whole(caches: Caches, folder: Path) -> None:
    """Each field of it, in this process and in the next."""
    request = keep(caches, question(), _FULL)
    assert caches.look_up(request).answer == _FULL
    caches.close()
    later = Caches(folder)
    assert later.look_up(request).answer == _FULL
    later.close()


@pytest.mark.parametrize("finish", ["length", "refusal", "error", "cancelled"])
def test_what_may_be_better_next_time_is_not_kept(caches: Caches, finish: Finish) -> None:
    """A refusal, a truncated, failed or cancelled answer is never found; the miss says how it ended."""
    asked = question()
    rendered = resolve_scaffold(asked).rendered
    request = request_hash(asked)
    sent = Call(request, "openai", "gpt-5.6", 1.0, rendered.renderer, (), finish=finish)
    caches.keep(request, asked, rendered, Answer("I cannot", finish=finish), sent)
    assert caches.look_up(request).answer is None
    reason = caches.why_missed(request, asked, rendered, Found())
    assert (reason.kind, reason.detail) == ("not_kept", finish)
    assert caches.stats().answers == 0


def test_a_rendered_prompt_comes_back_whole(caches: Caches) -> None:
    """Its body, its segments and its prefixes; by renderer, or whichever there is."""
    asked = question(tools=[{"name": "look", "description": RULES}], context={"$text": "mine", "n": 2**70})
    rendered = resolve_scaffold(asked).rendered
    request = keep(caches, asked)
    for renderer in (rendered.renderer, ""):
        found = caches.scaffold(request, renderer)
        assert found is not None
        assert found.rendered == rendered
    assert caches.scaffold(request, "openai/0") is None


def test_a_text_that_many_prompts_share_is_kept_once(caches: Caches) -> None:
    """A hundred prompts over one block of 70 kB take less than three of them would."""
    static = "".join(f"{os.urandom(16).hex()} " for _ in range(2100))
    blocks = [{"type": "style_guide", "content": static}]
    for number in range(100):
        keep(caches, question(prompt=f"Write module {number}.", blocks=blocks))
    assert caches.stats().scaffolds == 100
    assert sum(entry.size_bytes for entry in caches.entries()) < 3 * len(static)
    caches.close()
    assert caches.path.stat().st_size < 6 * len(static)


def _state(path: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (each.name, each.stat().st_size, each.stat().st_mtime_ns)
        for each in path.parent.iterdir()
        if not each.name.endswith("-shm")
    )


def test_a_hit_never_writes(caches: Caches, clock: Clock) -> None:
    """Two hundred hits leave the file and its log as they were; their uses are written when asked for, and at the end."""
    request = keep(caches, question())
    with sqlite3.connect(caches.path) as other:
        before = _state(caches.path), other.execute("PRAGMA data_version").fetchone()
        clock.now_s += 10
        for _ in range(200):
            assert caches.look_up(request).answer is not None
        assert (_state(caches.path), other.execute("PRAGMA data_version").fetchone()) == before
    other.close()
    assert not caches.flush_due
    clock.now_s += 60
    assert caches.flush_due
    used = {(entry.kind, entry.uses, entry.last_used_at) for entry in caches.entries()}
    assert used == {("answer", 200, clock.now_s - 60), ("scaffold", 200, clock.now_s - 60)}
    assert not caches.flush_due


def test_uses_are_written_with_the_next_answer_and_on_close(caches: Caches, folder: Path) -> None:
    """Nobody needs to ask for it."""
    request = keep(caches, question())
    caches.look_up(request)
    keep(caches, question(prompt="Another."))
    caches.look_up(request)
    caches.close()
    later = Caches(folder)
    assert {entry.uses for entry in later.entries() if entry.request == request} == {2}
    later.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_only_the_user_may_read(caches: Caches) -> None:
    """0700 for the folder, 0600 for every file in it, whatever the umask."""
    mask = os.umask(0)
    try:
        keep(caches, question())
        assert stat.S_IMODE(caches.path.parent.stat().st_mode) == 0o700
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in caches.path.parent.iterdir()}
    finally:
        os.umask(mask)
    assert set(modes) == {"cache.sqlite", "cache.sqlite-wal", "cache.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def _change(caches: Caches, statement: str, *values: object) -> None:
    connection = sqlite3.connect(caches.path)
    with connection:
        assert connection.execute(statement, values).rowcount > 0
    connection.close()


def test_a_damaged_answer_is_a_miss_and_is_put_aside(caches: Caches) -> None:
    """It is told as the reason, kept for whoever wants to look, and makes room for a good one."""
    asked = question()
    request = keep(caches, asked)
    _change(caches, "UPDATE answers SET value = x'7a0000'")
    found = caches.look_up(request)
    assert (found.answer, found.trouble) == (None, "damaged")
    reason = caches.why_missed(request, asked, resolve_scaffold(asked).rendered, found)
    assert reason.kind == "damaged"
    assert found.detail in reason.sentence
    assert (caches.stats().answers, caches.stats().damaged) == (0, 1)
    keep(caches, asked, Answer("better"))
    again = caches.look_up(request).answer
    assert again is not None
    assert again.text == "better"


@pytest.mark.parametrize("value", ["[]", "{}", '{"text":1}', "null", '"text"'])
def test_a_value_of_another_form_is_damage(caches: Caches, value: str) -> None:
    """Whole bytes that say something else are no answer."""
    import json

    from xprim_nb.prompts.caches.codec import pack

    request = keep(caches, question())
    _change(caches, "UPDATE answers SET value = ?", pack(json.loads(value)))
    assert caches.look_up(request).trouble == "damaged"


def test_a_row_of_a_later_version_is_left_alone(caches: Caches) -> None:
    """It is a miss with its reason, and stays for the version that wrote it."""
    asked = question()
    request = keep(caches, asked)
    _change(caches, "UPDATE answers SET version = 99")
    found = caches.look_up(request)
    reason = caches.why_missed(request, asked, resolve_scaffold(asked).rendered, found)
    assert reason.kind == "version"
    assert "99" in reason.sentence
    assert caches.stats().answers == 1


@pytest.mark.parametrize("table", ["scaffolds", "texts"])
def test_a_damaged_prompt_is_rendered_again(caches: Caches, table: str) -> None:
    """What cannot be read is replaced by the next that is kept, its long texts too."""
    asked = question()
    request = keep(caches, asked)
    _change(caches, f"UPDATE {table} SET value = x'7a00'")
    assert caches.scaffold(request) is None
    keep(caches, asked)
    found = caches.scaffold(request)
    assert found is not None
    assert found.rendered == resolve_scaffold(asked).rendered
    assert caches.stats().damaged == 1


def test_a_damaged_file_is_moved_aside_and_told(caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    """Its bytes lie beside the new file under a name of their own, twice if it happens twice."""
    request = keep(caches, question())
    for number in (1, 2):
        caches.close()
        caches.path.write_bytes(b"no database %d " % number * 500)
        assert caches.look_up(request) == Found()
        keep(caches, question())
        assert caches.look_up(request).answer is not None
    aside = caches.stats().moved_aside
    assert [each.read_bytes()[:13] for each in aside] == [b"no database 1", b"no database 2"]
    assert all(str(each) in caplog.text for each in aside)


def test_pages_that_are_overwritten_are_found_out(caches: Caches) -> None:
    """Garbage in the middle of a real file: no crash, and the file is kept aside whole."""
    for number in range(40):
        keep(caches, question(prompt=f"{number} {os.urandom(300).hex()}"))
    caches.close()
    size = caches.path.stat().st_size
    with caches.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    asked = question(prompt="new")
    request = keep(caches, asked)
    assert caches.look_up(request).answer is not None
    assert [each.stat().st_size for each in caches.stats().moved_aside] == [size]


def test_a_file_that_is_deleted_is_begun_anew(caches: Caches) -> None:
    """Who deletes the file under a running kernel loses what was in it, and nothing that comes later."""
    keep(caches, question())
    for each in caches.path.parent.iterdir():
        each.unlink()
    request = keep(caches, question(prompt="later"))
    assert caches.look_up(request).answer is not None
    assert caches.path.exists()


def test_a_file_of_a_newer_version_stays(caches: Caches) -> None:
    """It is not moved, and not guessed at; the error says what to do."""
    keep(caches, question())
    _change(caches, "UPDATE answers SET version = version")
    connection = sqlite3.connect(caches.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    caches.close()
    with pytest.raises(StorageError, match="schema 99"):
        caches.look_up(request_hash(question()))
    assert not list(caches.path.parent.glob("*.damaged*"))


def test_one_question_is_erased_to_the_last_byte(caches: Caches) -> None:
    """After it is erased no file holds its words, and another that shares a block still has all of its own."""
    secret = "the one sentence nobody may read again "
    erased = keep(caches, question(prompt=secret * 3), Answer("short " + secret))
    stays = keep(caches, question(prompt="Write the tests."))
    caches.look_up(erased)
    assert caches.erase(erased) > 1
    assert caches.look_up(erased).answer is None
    assert caches.scaffold(stays) is not None
    whole = b"".join(each.read_bytes() for each in caches.path.parent.iterdir())
    assert b"nobody may read" not in whole
    assert bytes.fromhex(erased) not in whole


def test_clear_leaves_nothing(caches: Caches) -> None:
    """All tables are empty, and the file still works."""
    request = keep(caches, question())
    assert caches.clear() >= 2
    stats = caches.stats()
    assert (stats.answers, stats.scaffolds, stats.sent, stats.damaged) == (0, 0, 0, 0)
    assert caches.look_up(request).answer is None
    keep(caches, question())
    assert caches.look_up(request).answer is not None


def test_the_last_calls_of_each_model_are_remembered(folder: Path) -> None:
    """So many of each, earliest first, whole; another model's are not counted in."""
    caches = Caches(folder, most_sent=3)
    for number in range(7):
        for model in ("a", "b"):
            asked = question(model=model, prompt=str(number))
            rendered = resolve_scaffold(asked).rendered
            parts = tuple(
                CallPart(each.kind, each.label, each.hash, prefix, 7, each.volatility, each.breakpoint)
                for each, prefix in zip(rendered.segments, rendered.prefixes, strict=True)
            )
            request = request_hash(asked)
            sent = Call(
                request, "openai", model, float(number), rendered.renderer, parts, usage=Usage(5, 1, 2)
            )
            caches.keep(request, asked, rendered, None, sent)
    found = caches.calls("openai", "a")
    assert [each.at for each in found] == [4.0, 5.0, 6.0]
    assert found[-1].prefixes == resolve_scaffold(question(model="a", prompt="6")).rendered.prefixes
    assert found[-1].usage == Usage(5, 1, 2)
    assert len(caches.calls()) == 6
    assert [each.at for each in caches.calls("openai", "b", last=1)] == [6.0]
    caches.close()


def test_a_file_that_is_cut_off_while_it_is_open_is_found_out(caches: Caches) -> None:
    """A restore or a full disk takes its end away: the kernel lives, and what is left lies aside."""
    requests = [keep(caches, question(prompt=f"{n} {os.urandom(1500).hex()}")) for n in range(60)]
    caches.close()
    assert all(caches.look_up(request).answer is not None for request in requests)
    os.truncate(caches.path, 8192)
    assert all(caches.look_up(request).answer is None for request in requests)
    assert len(caches.stats().moved_aside) == 1
