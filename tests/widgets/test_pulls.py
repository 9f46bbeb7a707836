"""The pull panel without a front end: its traits follow the pulls, its words act, hostile text stays text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import Config
from xprim_nb.testing.faults import Drip, Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import make_registry, random_bytes
from xprim_nb.toolkit import Toolkit, connect
from xprim_widgets import PullPanel

REF, CHUNK = "demo/big v1", 20_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultyRegistry]:
    """A model of twenty chunks over HTTP."""
    made = make_registry(
        tmp_path / "registry", {REF: {"m": random_bytes("big", 20 * CHUNK)}}, chunk_size=CHUNK
    )
    with FaultyRegistry(made.root) as running:
        yield running


@pytest.fixture
def kit(server: FaultyRegistry, tmp_path: Path) -> Iterator[Toolkit]:
    """A toolkit for it that tries once."""
    config = Config(registry_url=server.url, data_dir=tmp_path / "models", tries=1)
    with connect(config) as made:
        yield made


@pytest.fixture
def panel(kit: Toolkit) -> Iterator[PullPanel]:
    """A panel of every pull."""
    made = PullPanel(kit)
    yield made
    made.close()


def until(true: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Return when it is true; another thread brings that about."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def state(panel: PullPanel) -> str:
    """The state of the panel's only row; empty while there is none."""
    return panel.rows[0]["state"] if panel.rows else ""


def say(panel: PullPanel, **words: Any) -> None:
    """As the front end says it."""
    panel._hear(panel, words, [])


def test_a_pull_is_paused_resumed_and_done(kit: Toolkit, server: FaultyRegistry, panel: PullPanel) -> None:
    """The buttons' words do what they say, and the row follows."""
    assert panel.rows == []
    server.inject(Drip(10_000), on="chunk", times=None)
    kit.pull(REF)
    until(lambda: state(panel) == "running" and panel.rows[0]["percent"] > 0)
    assert "1" in panel.rows[0]["chunk_map"]
    say(panel, op="pause", ref=REF)
    until(lambda: state(panel) == "paused")
    server.heal()
    say(panel, op="resume", ref=REF)
    until(lambda: state(panel) == "done")
    assert panel.rows[0]["percent"] == 100
    assert set(panel.rows[0]["chunk_map"]) <= {"2", "3"}
    assert kit.get_installed(REF).result(5).total_size == 20 * CHUNK


def test_cancel_leaves_nothing_behind(
    kit: Toolkit, server: FaultyRegistry, panel: PullPanel, tmp_path: Path
) -> None:
    """What was fetched is thrown away, and only then."""
    partials = tmp_path / "models/cache/partial"
    # However slow we are, it does not end meanwhile.
    with server.hold(on=lambda request: request.kind == "chunk" and server.count("chunk") > 4):
        kit.pull(REF)
        until(lambda: panel.rows and panel.rows[0]["percent"] > 0)
        say(panel, op="pause", ref=REF)
        until(lambda: state(panel) == "paused")
    assert list(partials.iterdir())
    say(panel, op="cancel", ref=REF)
    until(lambda: state(panel) == "cancelled" and not list(partials.iterdir()))


def test_a_failure_says_what_to_do_and_can_be_tried_again(
    kit: Toolkit, server: FaultyRegistry, panel: PullPanel
) -> None:
    """The registry refuses once: the row says so, and Retry installs the model."""
    server.inject(Status(403), on="chunk", times=None)
    with pytest.raises(Exception, match="403"):
        kit.pull(REF).result(20)
    until(lambda: state(panel) == "failed")
    assert "403" in panel.rows[0]["line"]
    server.heal()
    say(panel, op="retry", ref=REF)
    until(lambda: state(panel) == "done")


def test_a_panel_of_one_pull_shows_no_other(kit: Toolkit) -> None:
    """A panel made for a pull shows that one; the one made for all of them shows both, ended ones too."""
    first = kit.pull(REF)
    one = PullPanel.of(kit, first)
    with pytest.raises(Exception, match="other"):
        kit.pull("demo/other v1").result(20)
    first.result(20)
    every = PullPanel(kit)
    until(lambda: len(every.rows) == 2 and state(one) == "done")
    assert [row["ref"] for row in one.rows] == [REF]
    assert "demo/other v1" in every.to_text()
    one.close()
    every.close()


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"op": 7},
        {"op": "close"},
        {"op": "__init__"},
        {"op": "pause", "rm": "-rf"},
        {"op": "resume", "ref": ["x"]},
    ],
)
def test_nonsense_from_a_front_end_does_nothing(panel: PullPanel, words: dict[str, Any]) -> None:
    """Whatever a page sends, at most the outlet says something about it."""
    say(panel, **words)
    assert panel.rows == []
    panel._hear(panel, "text", [])


def test_what_a_server_says_stays_text(kit: Toolkit, server: FaultyRegistry, panel: PullPanel) -> None:
    """Markup, escapes and marks that turn the line around are shown, in the traits and in the static form."""
    hostile = b'<script>alert(1)</script>\x1b[31m\xe2\x80\xae"</div>' + b"x" * 10_000
    server.inject(Status(403, body=hostile), on="chunk", times=None)
    with pytest.raises(Exception, match="403"):
        kit.pull(REF).result(20)
    until(lambda: state(panel) == "failed")
    shown = panel.to_html()
    assert "<script" not in shown
    assert not {"\x1b", "\u202e"} & set(panel.rows[0]["line"] + panel.rows[0]["hint"] + shown)
    assert len(panel.rows[0]["line"]) <= 2000


def test_closing_gives_everything_back(kit: Toolkit) -> None:
    """No listener and no thread is left, however often a panel is opened; asyncio's own pool has its own bound."""
    PullPanel(kit).close()
    listeners, threads = len(kit.events._subscribers), set(threading.enumerate())
    for _ in range(50):
        panel = PullPanel(kit)
        panel.poke()
        panel.close()
    assert len(kit.events._subscribers) == listeners
    more = set(threading.enumerate()) - threads  # one that an earlier test left may have ended
    assert [each.name for each in more if not each.name.startswith("asyncio_")] == []
