"""The health view on a real toolkit: it follows what happens, and does what its buttons say."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xprim_nb import Config, Toolkit, connect
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_widgets import views
from xprim_widgets.health import HealthView

_A, _B = "demo/a v1", "demo/b v1"
_FILES = {_A: {"w.bin": random_bytes("a", 5000)}, _B: {"w.bin": random_bytes("b", 3000), "c.json": b"{}"}}
# A loaded machine takes a while; nothing waits so long that works.
_DEADLINE_S = 15.0


@pytest.fixture
def made(tmp_path: Path) -> MadeRegistry:
    """Two models."""
    return make_registry(tmp_path / "registry", _FILES)


@pytest.fixture
def server(made: MadeRegistry) -> Iterator[FaultyRegistry]:
    """They are served over HTTP."""
    with FaultyRegistry(made.root) as running:
        yield running


@pytest.fixture
def kit(server: FaultyRegistry, tmp_path: Path) -> Iterator[Toolkit]:
    """Both are installed."""
    config = Config(
        registry_url=server.url, data_dir=tmp_path / "models", backoff_s=0.0, has_environment=True
    )
    with connect(config) as running:
        for ref in _FILES:
            running.pull(ref).result()
        yield running


@pytest.fixture
def view(kit: Toolkit) -> Iterator[HealthView]:
    """A view of everything."""
    shown = HealthView(kit)
    yield shown
    shown.close()


def _until(view: HealthView, holds: Callable[[], object]) -> None:
    """Wait until a trait has changed so that it holds."""
    held = threading.Event()

    def look(_: object) -> None:
        if holds():
            held.set()

    view.observe(look)
    look(None)
    assert held.wait(_DEADLINE_S), (view.verdict, view.notes, view.work, view.error)
    view.unobserve(look)


def _damage(kit: Toolkit, ref: str, name: str = "w.bin") -> Path:
    path = next(each.path for each in kit.list_installed().result() if str(each.ref) == ref) / name
    facts, data = path.stat(), bytearray(path.read_bytes())
    data[1500] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return path


def _kind(view: HealthView) -> str | None:
    kind: str | None = view.notes.get(_B, {}).get("kind")
    return kind


def _is_kind(view: HealthView, kind: str | None) -> bool:
    return _kind(view) == kind


def _say(view: HealthView, **content: Any) -> None:
    view._hear(None, content, [])


def test_damage_is_found_mended_and_told(kit: Toolkit, view: HealthView) -> None:
    """Full check, the sentence changes; repair, it changes back, and the receipt says what was fetched from where."""
    assert view.verdict == "All 2 models healthy."
    path = _damage(kit, _A)
    _say(view, op="check", refs=None, depth="full")
    _until(view, lambda: view.verdict == "1 of 2 models healthy; 1 corrupt chunk: repair it.")
    _until(view, lambda: view.said == "2 models checked: 1 of them not healthy.")
    _say(view, op="repair", ref=_A)
    _until(view, lambda: view.verdict == "All 2 models healthy." and _A in view.notes and not view.work)
    note = view.notes[_A]
    assert note["title"] == f"{_A} is whole again: 1 of 5 chunks fetched (1000 B)."
    assert any(line.startswith("1000 B fetched from http://") for line in note["lines"])
    assert path.read_bytes() == _FILES[_A]["w.bin"]
    assert view.error == {}
    _say(view, op="leave", ref=_A)
    _until(view, lambda: view.notes == {})


def test_it_follows_what_others_do(kit: Toolkit, view: HealthView) -> None:
    """A check, a removal and a pull that the view has not started change it all the same."""
    _damage(kit, _B)
    kit.validate(_B, "full").result()
    _until(view, lambda: view.verdict.endswith("1 corrupt chunk: repair it."))
    kit.remove(_B).result()
    _until(view, lambda: view.verdict == "The model is healthy.")
    kit.pull(_B).result()
    _until(view, lambda: view.verdict == "All 2 models healthy.")
    assert view.error == {}


def test_a_refresh_asks_first(kit: Toolkit, view: HealthView, made: MadeRegistry) -> None:
    """Nothing is changed before the yes; a no leaves all as it is; then it can be rolled back, which asks too."""
    root = next(each.path for each in kit.list_installed().result() if str(each.ref) == _B)
    make_registry(made.root, {_B: {"w.bin": random_bytes("b2", 3000), "c.json": b"{}"}})
    kit.check_updates().result()
    _say(view, op="check", refs=[_B], depth="quick")
    _until(view, lambda: view.verdict == "1 of 2 models healthy; 1 degraded: refresh it.")
    for answer, kind in (("leave", None), ("go", "done")):
        _say(view, op="refresh", ref=_B)
        _until(view, lambda: _kind(view) == "ask")
        assert (root / "w.bin").read_bytes() == _FILES[_B]["w.bin"]
        _say(view, op=answer, ref=_B)
        _until(view, partial(_is_kind, view, kind))
    assert (root / "w.bin").read_bytes() != _FILES[_B]["w.bin"]
    _until(view, lambda: any(["rollback", ""] in row[7] for row in [*view.rows, *view.changed.values()]))
    _say(view, op="rollback", ref=_B)
    _until(view, lambda: view.notes.get(_B, {}).get("go") == "rollback")
    _say(view, op="go", ref=_B)
    _until(view, lambda: view.notes.get(_B, {}).get("title") == f"{_B} was rolled back")
    assert (root / "w.bin").read_bytes() == _FILES[_B]["w.bin"]


def test_one_thing_at_a_time_and_it_can_be_stopped(
    kit: Toolkit, view: HealthView, server: FaultyRegistry
) -> None:
    """While a model is being mended nothing else is begun with it; stopping it leaves it to be mended again."""
    _damage(kit, _A)
    kit.validate(_A, "full").result()
    gate = server.hold("chunk")
    _say(view, op="repair", ref=_A)
    _until(view, lambda: view.work and view.work[0]["doing"] == "repair")
    gate.wait_reached()
    _say(view, op="check", refs=[_A], depth="full")
    assert view.error["text"] == f"{_A} is busy: repair."
    assert view.error["hint"] == "Wait until it has ended, or stop it."
    _say(view, op="dismiss")
    _say(view, op="stop", ref=_A)
    gate.release()
    _until(view, lambda: view.work == [])
    assert view.error == {}
    _say(view, op="repair", ref=_A)
    _until(view, lambda: view.notes.get(_A, {}).get("kind") == "done")


def test_several_are_checked_one_after_the_other(kit: Toolkit, view: HealthView) -> None:
    """What is ticked is checked alone; one that has gone meanwhile shows its error, and the rest is checked."""
    _say(view, op="select", refs=[_A, _B, "no/such v1"])
    assert view.selection == [ModelRef.parse(_A), ModelRef.parse(_B)]
    _say(view, op="check", refs=[_A, "no/such v1", _B], depth="full")
    _until(view, lambda: view.said == "2 models checked: all healthy.")
    _until(view, lambda: "no/such v1" in view.error.get("text", ""))
    depths = {row[0]: row[3] for row in [*view.rows, *view.changed.values()]}
    _until(view, lambda: view.work == [])
    assert set(depths) == {_A, _B}


def test_the_selection_is_a_frame(view: HealthView) -> None:
    """The verdicts on what is ticked, or on all, with typed columns."""
    assert list(view.to_frame()["ref"]) == [_A, _B]
    assert view.frame.empty
    _say(view, op="select", refs=[_B])
    assert list(view.frame["ref"]) == [_B]
    assert str(view.frame["size_bytes"].dtype) == "int64"
    assert view.frame["size_bytes"].tolist() == [3002]


def test_refs_limit_it(kit: Toolkit) -> None:
    """Some models only, whole checks included; a ref that is none is refused."""
    shown = views.health(kit, ["demo/b"])
    try:
        assert [row[0] for row in shown.rows] == [_B]
        assert shown.verdict == "The model is healthy."
        _say(shown, op="check", depth="full")
        _until(shown, lambda: shown.said.startswith(_B))
    finally:
        shown.close()
    with pytest.raises(InvalidRefError):
        HealthView(kit, ["nonsense"])


@pytest.mark.parametrize(
    "content",
    [
        {"op": "repair", "ref": "<b>"},
        {"op": "check", "refs": [None], "depth": "full"},
        {"op": "check", "depth": "deep"},
        {"op": "go", "ref": _A},
        {"op": "repair", "what": 1},
    ],
)
def test_nonsense_from_a_front_end_is_told(view: HealthView, content: dict[str, Any]) -> None:
    """Whatever a page sends, the view says what is wrong with it, and nothing is done."""
    _say(view, **content)
    assert view.error["text"]
    assert view.work == []


def test_stopping_nothing_is_fine(view: HealthView) -> None:
    """The work may have ended just before."""
    _say(view, op="stop", ref=_A)
    assert view.error == {}


def test_the_disk_is_measured_on_request(view: HealthView) -> None:
    """Not by itself: it takes a look at every file."""
    assert len(view.facts) == 1
    _say(view, op="measure")
    _until(view, lambda: any("on disk" in each for each in view.facts))


def test_hostile_names_are_text(kit: Toolkit) -> None:
    """Whatever registry.json names, the rows hold no control character, and asking for such a model is refused."""
    path = Path(kit.config.base_dir) / "registry.json"
    document = json.loads(path.read_text())
    document["<script>\x1b[31m"] = {"\u202emodel": {"v" * 10_000: document["demo"]["a"]["v1"]}}
    path.write_text(json.dumps(document))
    shown = HealthView(kit)
    try:
        name = shown.rows[-1][0]
        assert name.startswith("<script>\\x1b[31m/\\u202emodel vvv")
        _say(shown, op="check", refs=[name], depth="quick")
        assert shown.error["text"]
        assert "<script>" not in shown.to_html()
        assert "\x1b" not in shown.to_text()
        assert len(shown.to_frame()) == 3
    finally:
        shown.close()


def test_a_broken_cache_is_told(kit: Toolkit, view: HealthView) -> None:
    """What could not be read stands in the outlet with its hint; the last picture stays."""
    path = Path(kit.config.base_dir) / "registry.json"
    path.unlink()
    path.mkdir()
    view.look_again()
    _until(view, lambda: view.error.get("text"))
    assert view.verdict == "All 2 models healthy."
    path.rmdir()


def test_closing_it_leaves_the_toolkit_alone(kit: Toolkit) -> None:
    """Nothing is heard after that, and a closed toolkit is no error."""
    shown = HealthView(kit)
    shown.close()
    shown.close()
    before = shown.verdict
    kit.remove(_A).result()
    assert shown.verdict == before


def test_a_closed_toolkit_leaves_the_last_picture(kit: Toolkit, view: HealthView) -> None:
    """Another one is in use: that is no error of the view."""
    kit.close()
    view.look_again()
    view.settle()
    assert (view.error, view.verdict) == ({}, "All 2 models healthy.")
