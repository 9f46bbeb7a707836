"""The model browser without a kernel: words in, traits out, against a real registry over HTTP."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from xprim_nb._bridge import home_loop
from xprim_nb.config import Config
from xprim_nb.config.capabilities import AICapabilities
from xprim_nb.events import ResidencyChanged
from xprim_nb.refs import ModelRef
from xprim_nb.scheduling.devices import SimulatedDevice
from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.testing.registries import MadeRegistry, make_registry, random_bytes
from xprim_nb.toolkit import Toolkit, connect
from xprim_widgets import browser
from xprim_widgets._browser_rows import rows_of
from xprim_widgets.browser import ModelBrowser
from xprim_widgets.views import browser as open_browser

from .browsing import at, has, pull, say, until


def test_it_lists_what_the_registry_has(view: ModelBrowser) -> None:
    """Every version has a row, an alias says what it names, and the list is known to be new."""
    assert view.catalogue["names"].count("demo/tiny") == 3
    assert view.catalogue["aliases"] == [[at(view, "demo/tiny latest"), "v2"]]
    assert view.marks == {"installed": [], "update": []}
    assert view.registry["listed"]
    assert not view.registry["why_stale"]
    assert view.free["disk"] > 0
    assert view.free["memory"] > 0


def test_a_pull_flips_its_row(view: ModelBrowser) -> None:
    """The row is marked when the model has landed, and the catalogue is not sent again for it."""
    catalogue = view.catalogue
    pull(view, "demo/tiny v1")
    assert view.marks["installed"] == [at(view, "demo/tiny v1")]
    assert view.catalogue == catalogue
    assert view.error == {}


def test_what_others_do_is_seen(view: ModelBrowser, kit: Toolkit) -> None:
    """A model that a cell pulls or removes changes the rows too."""
    kit.pull("demo/tiny v2").result()
    until(view, lambda: has(view, "demo/tiny v2"))
    kit.remove("demo/tiny v2").result()
    until(view, lambda: not has(view, "demo/tiny v2"))
    assert view.marks["installed"] == []


def test_an_update_is_offered_and_taken(view: ModelBrowser, made: MadeRegistry) -> None:
    """A version whose manifest has changed is marked after asking again; pulling it updates it."""
    pull(view, "demo/tiny latest")
    make_registry(
        made.root,
        {"demo/tiny v3": {"model.bin": random_bytes("v3", 3_000)}},
        alias={"demo/tiny latest": "v3"},
    )
    say(view, "refresh")
    until(view, lambda: bool(view.marks["update"]))
    assert view.marks["update"] == [at(view, "demo/tiny latest")]
    say(view, "pull", ref="demo/tiny latest")
    until(view, lambda: not view.marks["update"])


def test_bytes_to_fetch_are_asked_for_what_is_looked_at(view: ModelBrowser, served: FaultyRegistry) -> None:
    """Only rows on screen are planned; what is here already need not be fetched, also after a pull has changed that."""
    assert view.fetches == []
    say(view, "look", refs=["demo/tiny v2"])
    until(view, lambda: bool(view.fetches))
    assert view.fetches == [[at(view, "demo/tiny v2"), 10_000, 10_000]]
    pull(view, "demo/tiny v1")
    until(view, lambda: [each[1] for each in view.fetches] == [2_000])
    assert view.to_frame().set_index("ref")["bytes_to_fetch"].dropna().to_dict() == {
        "demo/tiny v1": 0,
        "demo/tiny v2": 2_000,
        "demo/tiny latest": 2_000,
    }


def test_few_plans_are_made_at_once(
    kit: Toolkit, monkeypatch: pytest.MonkeyPatch, view: ModelBrowser
) -> None:
    """However many rows are on screen, at most three are planned at a time, and rows that have gone are not."""
    asked: list[str] = []
    real, gate = kit.plan_pull, asyncio.Event()

    def plan_pull(ref: str, **kwargs: Any) -> Any:
        asked.append(ref)
        return real(ref, **kwargs)

    async def stuck(_: object) -> None:
        await gate.wait()

    def never(ref: str, **_: Any) -> Any:
        asked.append(ref)
        return kit.start("stuck", stuck)

    monkeypatch.setattr(kit, "plan_pull", never)
    rows = [str(row.ref) for row in view._rows()]
    say(view, "look", refs=rows)
    assert len(asked) == 3
    monkeypatch.setattr(kit, "plan_pull", plan_pull)
    say(view, "look", refs=["evil/model v1"])
    home_loop().loop().call_soon_threadsafe(gate.set)
    until(view, lambda: bool(view.fetches))
    assert set(asked[3:]) <= {"evil/model v1"}


def test_a_pull_that_does_not_fit_is_refused_with_the_sum(
    view: ModelBrowser, served: FaultyRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched, and the sentence says how much is missing."""
    monkeypatch.setattr("xprim_nb.cache.pull.free_bytes", lambda _: 4_096)
    say(view, "pull", ref="demo/tiny v1")
    until(view, lambda: bool(view.error) and not view.pulls)  # the row goes after the sentence has come
    assert "needs 9.8 KB more" in view.error["text"]
    assert "5.8 KB short" in view.error["text"]
    assert served.count("chunk") == 0


def test_a_removal_is_asked_about_first(view: ModelBrowser, kit: Toolkit) -> None:
    """The question names bytes and who needs the model; only a yes to this very question removes it."""
    pull(view, "demo/tiny v1")
    pull(view, "demo/lora v1")
    say(view, "remove", ref="demo/tiny v1")
    say(view, "ask_remove", ref="demo/tiny v1")
    until(view, lambda: bool(view.confirm))
    assert view.confirm["ref"] == "demo/tiny v1"
    assert "It frees " in view.confirm["text"]
    assert "have their own copies and stay usable" in view.confirm["text"]
    assert "needed by demo/lora v1" in view.confirm["text"]
    say(view, "remove", ref="demo/lora v1")
    say(view, "keep")
    until(view, lambda: not view.confirm)
    assert len(kit.list_installed().result()) == 2
    say(view, "ask_remove", ref="demo/tiny v1")
    until(view, lambda: bool(view.confirm))
    say(view, "remove", ref="demo/tiny v1")
    until(view, lambda: not has(view, "demo/tiny v1"))
    assert [str(each.ref) for each in kit.list_installed().result()] == ["demo/lora v1"]
    until(view, lambda: view.news == "demo/tiny v1 is removed.")


@pytest.mark.parametrize(
    "word",
    [
        {"op": "pull", "ref": "no ref at all"},
        {"op": "pull", "ref": "nobody/nothing v1"},
        {"op": "card", "ref": "<b>"},
        {"op": "card", "ref": ["a"]},
        {"op": "pause", "ref": "demo/tiny v1"},
        {"op": "ask_remove", "ref": ""},
    ],
)
def test_words_about_nothing_end_in_the_outlet(view: ModelBrowser, word: dict[str, Any]) -> None:
    """A front end may send anything: what cannot be done is told in the view."""
    view._hear(None, word, None)
    until(view, lambda: bool(view.error))
    say(view, "dismiss")
    assert view.error == {}


def test_selection(view: ModelBrowser) -> None:
    """What is ticked is a list of refs in Python; what no row has is left out."""
    assert view.selection == []
    say(view, "select", refs=["demo/tiny v2", "nobody/nothing v1", 7, "demo/lora v1"], turn=3)
    assert view.selection == [ModelRef("demo", "tiny", "v2"), ModelRef("demo", "lora", "v1")]
    until(view, lambda: view.picked == {"refs": ["demo/tiny v2", "demo/lora v1"], "turn": 3})


def test_without_a_registry_what_is_installed_is_listed(
    kit: Toolkit, view: ModelBrowser, served: FaultyRegistry, tmp_path: Path
) -> None:
    """The registry's silence is a sentence with a hint, and the models that are here are rows all the same."""
    pull(view, "demo/tiny v1")
    away = Config(registry_url="http://127.0.0.1:9", data_dir=tmp_path / "models", tries=1, backoff_s=0.0)
    with connect(away) as lonely:
        alone = ModelBrowser(lonely)
        until(alone, lambda: bool(alone.error) and bool(alone.catalogue["names"]))
        assert alone.catalogue["names"] == ["demo/tiny"]
        assert alone.marks["installed"] == [0]
        assert alone.error["hint"]
        assert not alone.registry["listed"]
        assert "demo/tiny" in alone.to_text()
        alone.close()


def test_a_silent_registry_leaves_its_old_list(
    view: ModelBrowser, kit: Toolkit, served: FaultyRegistry, tmp_path: Path
) -> None:
    """The list that is on this machine is shown, with the reason why it is old."""
    served.inject(Status(503), on="index", times=None)
    say(view, "refresh")
    until(view, lambda: bool(view.registry["why_stale"]) and not view.registry["asking"])
    assert view.catalogue["names"].count("demo/tiny") == 3
    assert view.error == {}
    offline = Config(registry_url=served.url, data_dir=tmp_path / "models", offline=True)
    with connect(offline) as lonely:
        alone = ModelBrowser(lonely)
        until(alone, lambda: bool(alone.catalogue["names"]) and not alone.registry["asking"])
        assert alone.registry["offline"]
        assert alone.to_text().endswith("The registry's list is new; offline")
        alone.close()


def test_rows_are_not_made_in_the_loop(kit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand rows take their time; the loop that pulls is not the one that takes it."""
    threads: set[str] = set()
    real = rows_of

    def watched(*args: Any) -> Any:
        threads.add(threading.current_thread().name)
        return real(*args)

    monkeypatch.setattr("xprim_widgets._browser_book.rows_of", watched)
    made = ModelBrowser(kit)
    until(made, lambda: bool(made.catalogue["names"]))
    made.close()
    assert threads
    assert "xprim-loop" not in threads


def test_it_shows_itself_statically(kit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `XPRIM_NB_STATIC` the list is waited for and published as HTML and text, without a live view."""
    monkeypatch.setenv("XPRIM_NB_STATIC", "1")
    published: list[Any] = []
    monkeypatch.setattr("xprim_widgets._static._publish", lambda bundle, **_: published.append(bundle))
    made = open_browser(kit)
    made._ipython_display_()
    made.close()
    assert set(published[0]) == {"text/html", "text/plain"}
    assert (
        published[0]["text/plain"].splitlines()[0].split()
        == "model version size quantisation licence here".split()
    )
    assert '<th scope="col"' in published[0]["text/html"]


def test_a_closed_browser_hears_no_more(kit: Toolkit, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `close` nothing of it is subscribed, and the pull that it began goes on."""
    made = ModelBrowser(kit)
    until(made, lambda: bool(made.catalogue["names"]) and not made.registry["asking"])
    before = len(kit.events._subscribers)
    made.close()
    assert len(kit.events._subscribers) == before - 1
    made.close()


def test_unknown_keywords_are_refused(kit: Toolkit) -> None:
    """A misspelt argument is no silent default."""
    with pytest.raises(TypeError):
        ModelBrowser(kit, fliter="x")  # type: ignore[call-arg]  # that is what is tested


def test_the_module_is_complete_in_itself() -> None:
    """The parts are in the module that front ends get, each once, and nothing is imported any more."""
    assert "import {" not in str(ModelBrowser._esm)
    assert str(ModelBrowser._esm).count("function makeRow(") == 1
    assert str(ModelBrowser._esm).count("function formatBytes(") == 1
    assert browser.ModelBrowser.asset == "browser"


def test_what_fits_a_gpu_is_known_with_the_engine(served: FaultyRegistry, tmp_path: Path) -> None:
    """It is not opened for the question; when somebody has, the largest accelerator's budget is told."""
    config = Config(
        registry_url=served.url,
        data_dir=tmp_path / "models",
        ai=AICapabilities(ledger_dir=tmp_path / "ledger"),
    )
    small, large = (SimulatedDevice(f"sim:{many}", total_bytes=many << 30) for many in (4, 8))
    with connect(config, devices=[small, large]) as kit:
        view = ModelBrowser(kit)
        view.draw()
        assert "gpu" not in view.free
        assert kit.engine is None
        kit.ai.snapshot()
        kit.events.publish(ResidencyChanged("numpy:demo/tiny v1", "loading"))
        until(view, lambda: view.free.get("gpu") == 8 << 30)
        view.close()


def test_no_accelerator_fits_nothing(served: FaultyRegistry, tmp_path: Path) -> None:
    """The machine's own memory is no GPU."""
    config = Config(
        registry_url=served.url,
        data_dir=tmp_path / "models",
        ai=AICapabilities(ledger_dir=tmp_path / "ledger"),
    )
    with connect(config, devices=[]) as kit:
        kit.ai.snapshot()
        view = ModelBrowser(kit)
        view.draw()
        assert "gpu" not in view.free
        view.close()
