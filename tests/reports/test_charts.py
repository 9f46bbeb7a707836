"""A chart is one value in three forms: Vega-Lite, SVG and words."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from xprim_nb.reports.charts import STATUS_COLOURS, Bar, BarChart, bars_of

_SVG = "{http://www.w3.org/2000/svg}"
_HOSTILE = '<script>alert("x")</script>'
_CHART = BarChart(
    "Sizes", (Bar("group/a v1", 3000, "healthy"), Bar(_HOSTILE, 1000, "damaged"), Bar("empty", 0))
)


def test_the_bundle_has_a_form_for_every_front_end() -> None:
    """Vega-Lite where it is drawn, SVG where not, words in a terminal."""
    bundle = _CHART._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "image/svg+xml", "text/plain"}
    spec = json.loads(json.dumps(bundle["application/vnd.vegalite.v5+json"]))
    assert [row["bytes"] for row in spec["data"]["values"]] == [3000, 1000, 0]
    scale = spec["encoding"]["color"]["scale"]
    assert scale["range"][:2] == [STATUS_COLOURS["healthy"], STATUS_COLOURS["damaged"]]
    assert len(scale["range"]) == len(scale["domain"])


def test_bars_are_as_long_as_their_bytes() -> None:
    """Lengths in the SVG are proportional, and each bar says its number and its group in words."""
    root = ElementTree.fromstring(_CHART.svg())  # our own text
    lengths = [float(each.attrib["width"]) for each in root.iter(f"{_SVG}rect")]
    assert lengths[0] == pytest.approx(3 * lengths[1], abs=0.2)
    assert lengths[2] == 0
    told = [each.text or "" for each in root.iter(f"{_SVG}text")]
    assert any("2.9 KB" in text and "healthy" in text for text in told), told


def test_a_hostile_name_stays_text() -> None:
    """Names come from registries: in an SVG they are characters, never elements."""
    root = ElementTree.fromstring(_CHART.svg())  # our own text
    assert {each.tag for each in root.iter()} == {f"{_SVG}svg", f"{_SVG}text", f"{_SVG}rect"}
    assert any(each.text and each.text.startswith("<script>") for each in root.iter(f"{_SVG}text"))


def test_the_smallest_share_one_bar() -> None:
    """A cache of a thousand models is a chart of twenty bars and a rest that keeps the sum."""
    bars = bars_of([(f"m{number}", number, "") for number in range(100)], most=5)
    assert [bar.name for bar in bars] == ["m99", "m98", "m97", "m96", "m95", "95 others"]
    assert sum(bar.size_bytes for bar in bars) == sum(range(100))
