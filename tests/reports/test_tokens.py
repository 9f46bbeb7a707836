"""What became of tokens is one value in three forms, each of which says it in words too."""

from __future__ import annotations

import json
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.telemetry import Record, analyze
from xprim_nb.reports import TokenBar, TokenChart, token_bars

_SVG = "{http://www.w3.org/2000/svg}"
_CHART = TokenChart(
    "Tokens by day",
    (
        TokenBar("2026-11-27", 800, 100, 100, 50, billed=Decimal("0.0125")),
        TokenBar('<script>alert("x")</script>', 0, 0, 1000, 50, estimated=Decimal("0.5")),
    ),
)


def test_the_bundle_has_a_form_for_every_front_end() -> None:
    """Vega-Lite where it is drawn, SVG where not, words in a terminal; all of them name the same tokens."""
    bundle = _CHART._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "image/svg+xml", "text/plain"}
    values = json.loads(json.dumps(bundle["application/vnd.vegalite.v5+json"]))["data"]["values"]
    assert [each["tokens"] for each in values] == [800, 100, 100, 50, 0, 0, 1000, 50]
    assert "2026-11-27: 800 read, 100 written, 100 fresh, 50 answered, $0.0125 billed" in bundle["text/plain"]


def test_bars_are_as_long_as_their_tokens() -> None:
    """Lengths are proportional, bars of equal sums are equally long, and a hostile name stays text."""
    root = ElementTree.fromstring(_CHART.svg())  # our own text
    lengths = [float(each.attrib["width"]) for each in root.iter(f"{_SVG}rect")][:8]
    assert lengths[0] == pytest.approx(8 * lengths[1], abs=0.5)
    assert sum(lengths[:4]) == pytest.approx(sum(lengths[4:]), abs=0.5)
    assert {each.tag for each in root.iter()} == {f"{_SVG}svg", f"{_SVG}text", f"{_SVG}rect"}
    assert ElementTree.fromstring(TokenChart("Nothing", ()).svg()).tag == f"{_SVG}svg"


def test_an_analysis_is_shown_by_its_parts() -> None:
    """Read, written and fresh add up to what was sent."""
    call = Record(0.0, "ask", "openai", "m", is_sent=True, usage=Usage(1000, 50, 800, 100), billed=Decimal(1))
    (bar,) = token_bars(analyze([call]).by_day)
    assert bar == TokenBar("1970-01-01", 800, 100, 100, 50, billed=Decimal(1))
