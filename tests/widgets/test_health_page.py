"""The static twin: readable without scripts, and safe whatever a model is called."""

from __future__ import annotations

from xprim_widgets._health_page import html, text
from xprim_widgets._health_rows import HealthRow

_NAME = "<script>alert(1)</script>/model v1"
_BAD = HealthRow(
    _NAME, 1024, "failed", "full", 1_767_322_800.0, "Damaged: w.bin", "Repair it.", [["repair", ""]], []
)
_GOOD = HealthRow("demo/good v1", 3072, "healthy", "install", 0.0, "", "", [], [])
_NOTES = {
    "demo/good v1": {
        "kind": "done",
        "title": "whole <b>again</b>",
        "lines": ["1 of 9 chunks"],
        "go": "",
        "why": "",
    },
    "demo/other v1": {"kind": "ask", "title": "Refresh?", "lines": [], "go": "refresh", "why": ""},
}


def test_html_has_it_all_and_no_foreign_tag() -> None:
    """The sentence, the bar with words, the rows with the most urgent first, receipts; a plan that waits is left out."""
    page = html("1 of 2 models healthy.", [_GOOD, _BAD], ["The registry is far."], _NOTES)
    assert "<script" not in page
    assert "whole <b>" not in page
    assert page.index("&lt;script&gt;") < page.index("demo/good v1")
    for part in (
        "1 of 2 models healthy.",
        "✕ failed: 1 model, 1.0 KB",
        "width:25.0%",
        "Repair it.",
        "1 of 9 chunks",
    ):
        assert part in page
    assert "2026-01-02 03:00 UTC, every byte" in page
    assert "Refresh?" not in page
    assert html("Nothing is installed.", [], [], {}) == "<p><strong>Nothing is installed.</strong></p>"


def test_text_says_the_same() -> None:
    """Line by line, and not ten thousand of them."""
    said = text("1 of 2 models healthy.", [_GOOD, _BAD], ["The registry is far."], _NOTES)
    first, bad, good, *rest = said.split("\n")
    assert first == "1 of 2 models healthy."
    assert bad.endswith("Damaged: w.bin Repair it.")
    assert good == f"{'demo/good v1':<{len(_NAME)}}  healthy      3.0 KB  never"
    assert rest == ["demo/good v1: whole <b>again</b> 1 of 9 chunks", "The registry is far."]
    many = text("", [_GOOD] * 10_000, [], {}).split("\n")
    assert (len(many), many[-1]) == (52, "… and 9,950 more models.")
