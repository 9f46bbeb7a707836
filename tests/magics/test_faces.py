"""How values look, pinned as text: bars, facts, work in every state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb import Config, Handle, ModelRef, PullProgress, connect
from xprim_nb._text import format_paused
from xprim_nb.cache.values import Receipt, Removed, UpdateCheck
from xprim_nb.errors import XprimError
from xprim_nb.events import CheckProgress
from xprim_nb.magics import bars, faces

_REF = ModelRef("demo", "tiny", "v1")
_HALF = PullProgress(
    _REF,
    "chunks",
    chunks_total=10,
    chunks_completed=4,
    bytes_total=10_240,
    bytes_completed=4_096,
    bytes_in_flight=1_024,
    bytes_reused=2_048,
    speed_bytes_s=1_024.0,
    eta_s=5.0,
)


def test_bar_line_says_how_far_it_is() -> None:
    """One line has the share, bytes, chunks, speed, time left, and what was here already."""
    assert bars.text(_HALF) == (
        "pull demo/tiny v1: 50 %, 5.0 KB of 10.0 KB, 4/10 chunks, 1.0 KB/s, 5.0 s left, 2.0 KB were here already"
    )
    assert bars.text(PullProgress(_REF, "manifest")) == "pull demo/tiny v1: fetching the manifest"
    waiting = PullProgress(_REF, "chunks", waiting_for="another process")
    assert bars.text(waiting) == "pull demo/tiny v1: waiting for another process"


def test_a_check_is_a_bar_too() -> None:
    """A validation says what it has read, of which model, and how many are done; one that is stopped keeps nothing."""
    one = CheckProgress(_REF, "validate", bytes_total=10_240, bytes_done=5_120)
    assert bars.text(one, "validate demo/tiny v1") == (
        "validate demo/tiny v1: 5.0 KB of 10.0 KB of demo/tiny v1 read"
    )
    many = CheckProgress(_REF, "validate", 10_240, 5_120, models_total=3, models_done=1)
    assert bars.text(many, "validate everything").endswith(" read, 1 of 3 models done")
    shown = bars.html(many, "half", "validate everything")
    for part in ('aria-valuenow="50"', 'aria-label="validate everything"', "width:0.0%", "width:50.0%"):
        assert part in shown
    assert format_paused(many) == "stopped"


def test_work_that_is_no_pull_is_called_by_its_name() -> None:
    """A refresh or a restore shows the bar of a pull under its own name."""
    assert bars.text(_HALF, "restore demo/tiny v1").startswith("restore demo/tiny v1: 50 %, ")
    assert 'aria-label="restore demo/tiny v1"' in bars.html(_HALF, "half", "restore demo/tiny v1")


def test_bar_is_a_progressbar() -> None:
    """The HTML is a progress bar for screen readers too: role, values, a name, and the line as its text."""
    shown = bars.html(_HALF, "half <way>")
    for part in (
        'role="progressbar"',
        'aria-label="pull demo/tiny v1"',
        'aria-valuenow="50"',
        'aria-valuemin="0"',
        'aria-valuemax="100"',
        'aria-valuetext="half &lt;way&gt;"',
        "width:20.0%",
        "width:30.0%",
    ):
        assert part in shown


def test_paused_counts_what_is_kept() -> None:
    """Bytes in flight are lost, so they do not count; without a total there is no share."""
    assert format_paused(_HALF) == "paused at 40 %; run again to resume"
    assert format_paused(None) == "paused; run again to resume"
    assert format_paused(PullProgress(_REF, "manifest")) == "paused; run again to resume"


def _ended(work: Coroutine[Any, Any, object], progress: PullProgress | None = None) -> Handle[object]:
    handle = Handle(work, "pull demo/tiny v1", lambda: progress)
    try:
        handle.exception(10)
    except CancelledError:
        assert handle.done
    return handle


def test_handle_shows_every_state() -> None:
    """Running, done, failed and stopped work each say so, as text and as HTML."""
    started = asyncio.Event()
    running = Handle(started.wait(), "pull demo/tiny v1", lambda: _HALF)
    assert faces.handle_text(running) == bars.text(_HALF)
    assert 'aria-valuenow="50"' in faces.handle_html(running)
    running.cancel()
    with pytest.raises(CancelledError):
        running.result(10)
    assert faces.handle_text(running) == "pull demo/tiny v1: paused at 40 %; run again to resume"
    assert "paused at 40 %" in faces.handle_html(running)

    async def fails() -> object:
        raise XprimError("It broke.")

    failed = _ended(fails())
    assert faces.handle_text(failed) == "pull demo/tiny v1: failed: It broke."
    assert faces.handle_html(failed) == '<div class="xprim-pull">pull demo/tiny v1: failed: It broke.</div>'
    assert faces.handle_text(_ended(asyncio.sleep(0, "value"))) == "pull demo/tiny v1: done"


def test_ended_work_without_bytes_has_no_bar() -> None:
    """An installed model whose pull moved nothing shows its line, and no empty bar that says the opposite."""
    nothing = PullProgress(_REF, "manifest")
    ended = _ended(asyncio.sleep(0, "value"), nothing)
    assert faces.handle_html(ended) == '<div class="xprim-pull">pull demo/tiny v1: done</div>'
    assert 'aria-valuenow="50"' in faces.handle_html(_ended(asyncio.sleep(0, "value"), _HALF))


@pytest.fixture
def shown(shell: InteractiveShell) -> Callable[[object], Mapping[str, str]]:
    """What the shell's formatters make of a value."""
    faces.add(shell)
    assert shell.display_formatter is not None

    def show(value: object) -> Mapping[str, str]:
        assert shell.display_formatter is not None
        found: Mapping[str, str] = shell.display_formatter.format(value)[0]
        return found

    return show


def test_values_in_a_list_are_named(shown: Callable[[object], Mapping[str, str]]) -> None:
    """A list of values is one of short names: tables of several lines would run into each other."""
    removed = Removed(_REF, 10)
    assert shown([removed, removed])["text/plain"] == (
        "[<Removed demo/tiny v1: 10 B>, <Removed demo/tiny v1: 10 B>]"
    )
    checks = [UpdateCheck(_REF, "1" * 64, "2" * 64), Receipt()]
    assert shown(checks)["text/plain"].startswith(
        "[<UpdateCheck demo/tiny v1: update available>,\n Receipt(bytes_network=0, "
    )
    assert shown(removed)["text/plain"] == "Removed:  demo/tiny v1\nFreed:    10 B"


def test_listing_is_a_table(shown: Callable[[object], Mapping[str, str]]) -> None:
    """What `kit.list_remote()` returns shows as the table that `%xprim models --remote` shows."""
    with connect() as kit:
        listing = kit.list_remote().result()
        found = shown(listing)
        of_kit = shown(kit)
    assert found["text/plain"].splitlines()[0].split() == ["model", "version", "size", "alias", "of"]
    assert '<table class="xprim-rows ' in found["text/html"]
    assert f"Registry:   {kit.registry_url}\n" in of_kit["text/plain"]
    assert repr(kit) == f"<Toolkit: {kit.registry_url}, models in {kit.config.base_dir}, closed>"


def test_listing_of_nothing_says_so(shown: Callable[[object], Mapping[str, str]], tmp_path: Path) -> None:
    """A registry without models gets a sentence under its empty table."""
    (tmp_path / "models.json").write_text("{}")
    with connect(Config(registry_url=str(tmp_path), has_environment=True)) as kit:
        found = shown(kit.list_remote().result())
    assert found["text/plain"].endswith("This registry lists no models.")
