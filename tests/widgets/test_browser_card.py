"""The browser's panel: what it says of a version, from its bundle, its files, or the registry alone."""

from __future__ import annotations

from xprim_nb.testing.faults import Status
from xprim_nb.testing.faulty_registry import FaultyRegistry
from xprim_nb.toolkit import Toolkit
from xprim_widgets.browser import ModelBrowser

from .browsing import pull, say, until


def test_the_card_of_what_is_installed_asks_nobody(view: ModelBrowser, served: FaultyRegistry) -> None:
    """Its README is read from its files; with the registry gone it is there all the same, with markup as text."""
    pull(view, "demo/tiny v1")
    served.inject(Status(503), on="index", times=None)
    asked = len(served.requests)
    say(view, "card", ref="demo/tiny v1")
    until(view, lambda: "tree" in view.card)
    assert view.card["tree"][0] == ["h4", {}, "Tiny"]
    assert view.card["tree"][1] == ["p", {}, "<b>", ["em", {}, "x"], "</b>"]
    assert ["Size", "9.8 KB in 2 files"] in view.card["pairs"]
    assert len(served.requests) == asked
    assert "&lt;b&gt;" in view.to_html()
    say(view, "close_card")
    until(view, lambda: view.card == {})


def test_the_card_of_a_bundle_wins(view: ModelBrowser, kit: Toolkit) -> None:
    """What a user has written into the bundle is what the panel shows."""
    pull(view, "demo/tiny v1")
    kit.derive("demo/tiny v1").result()
    bundle = kit.bundle("demo/tiny")
    (bundle.path / "documentation" / "README.md").write_text("---\nlicense: mit\n---\nMy own words.")
    say(view, "card", ref="demo/tiny v1")
    until(view, lambda: "tree" in view.card)
    assert view.card["tree"] == [["p", {}, "My own words."]]
    assert ["Summary", "<b>*x*</b>"] not in view.card["pairs"]


def test_the_card_of_what_is_only_listed(view: ModelBrowser, served: FaultyRegistry) -> None:
    """It says what the registry and the manifest say; without the manifest, why there is none; and becomes the real one."""
    say(view, "card", ref="demo/tiny v1")
    until(view, lambda: "tree" in view.card)
    assert ["Files", "model.bin (9.8 KB)\nREADME.md (18 B)"] in view.card["pairs"]
    assert "comes with it" in view.card["note"]
    pull(view, "demo/tiny v1")
    until(view, lambda: bool(view.card.get("tree")))
    served.inject(Status(404), on="manifest", times=None)
    say(view, "card", ref="evil/model v1")
    until(view, lambda: view.card["ref"] == "evil/model v1" and "tree" in view.card)
    assert "Its manifest could not be had" in view.card["note"]


def test_hostile_words_are_text_everywhere(view: ModelBrowser) -> None:
    """Markup, escapes and turned text of a registry are shown, and are short where there is little room."""
    say(view, "card", ref="evil/model v1")
    until(view, lambda: "tree" in view.card)
    licence = view.catalogue["licences"]["words"][-1]
    assert len(licence) <= 48
    about = dict(view.card["pairs"])["about"]
    assert about.startswith("<script>alert(1)</script>\\x1b[31m\\u202egnp")
    assert len(about) < 3_000
    for shown in (view.to_html(), view.to_text()):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "<script" not in view.to_html()
