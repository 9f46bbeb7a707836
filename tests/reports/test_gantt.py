"""The timeline as a chart: spans, and one value in three forms."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from xprim_nb.reports.gantt import STATE_COLOURS, TimelineChart, spans_of

from ..fake_engine import MODEL, row

_SVG = "{http://www.w3.org/2000/svg}"
_HOSTILE = '<script>alert("x")</script>\u202e'
_ROWS = [
    row(0.0, "reserved"),
    row(1.0, "loading"),
    row(4.0, "resident"),
    row(10.0, "draining"),
    row(10.5, "releasing"),
    row(11.0, "gone"),
    row(11.0, "reserved", model=_HOSTILE, lease_id="l2", note=_HOSTILE),
    row(12.0, "resident", model=_HOSTILE, lease_id="l2", note=_HOSTILE),
]
_CHART = TimelineChart("Models", spans_of(_ROWS, 20.0))


def test_changes_become_spans() -> None:
    """Neighbouring changes to the same state are one span; what still lasts goes on until now."""
    assert [(each.model, each.state, each.begin, each.end) for each in _CHART.spans] == [
        (MODEL, "loading", 0.0, 4.0),
        (MODEL, "resident", 4.0, 10.0),
        (MODEL, "leaving", 10.0, 11.0),
        (_HOSTILE, "loading", 11.0, 12.0),
        (_HOSTILE, "resident", 12.0, 20.0),
    ]
    assert (_CHART.spans[0].note, _CHART.spans[0].size_bytes) == ("In [12]", 64 << 20)


def test_a_timeline_that_begins_in_the_middle() -> None:
    """Old changes are forgotten: a lease's end without its beginning is no span, and a clock set back makes none."""
    assert spans_of([row(5.0, "gone")], 9.0) == ()
    (span,) = spans_of([row(5.0, "resident")], 3.0)
    assert (span.begin, span.end) == (5.0, 5.0)
    assert TimelineChart("Models", ()).svg().endswith("</svg>")


def test_the_bundle_has_a_form_for_every_front_end() -> None:
    """Vega-Lite where it is drawn, SVG where not, words in a terminal; each span is in each of them."""
    bundle = _CHART._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "image/svg+xml", "text/plain"}
    spec = json.loads(json.dumps(bundle["application/vnd.vegalite.v5+json"]))
    assert [each["took"] for each in spec["data"]["values"]] == ["4.0 s", "6.0 s", "1.0 s", "1.0 s", "8.0 s"]
    assert spec["data"]["values"][0]["cause"] == "In [12]"
    scale = spec["encoding"]["color"]["scale"]
    assert scale == {
        "domain": ["loading", "resident", "leaving"],
        "range": [STATE_COLOURS[state] for state in ("loading", "resident", "leaving")],
    }
    assert len(bundle["text/plain"].splitlines()) == 6
    assert f"00:00:04 {MODEL}: resident for 6.0 s, 64.0 MB on cpu, for In [12]" in bundle["text/plain"]


def test_bars_lie_where_the_time_was() -> None:
    """Bars in the SVG begin where the one before ends, and are as wide as their time."""
    bars = list(ElementTree.fromstring(_CHART.svg()).iter(f"{_SVG}rect"))  # our own text
    widths = [float(each.attrib["width"]) for each in bars]
    assert widths[1] == pytest.approx(6 * widths[2], abs=0.4)
    assert float(bars[1].attrib["x"]) == pytest.approx(float(bars[0].attrib["x"]) + widths[0], abs=0.2)
    assert bars[3].attrib["y"] > bars[2].attrib["y"]


def test_a_moment_is_still_seen() -> None:
    """What took no time at all is a pixel wide, in both drawings."""
    chart = TimelineChart("Models", spans_of([row(0.0, "loading"), row(0.0, "resident")], 100.0))
    assert 'width="1.0"' in chart.svg()
    first = chart.vega_lite()["data"]["values"][0]
    assert first["end"] > first["begin"]


def test_a_hostile_name_stays_text() -> None:
    """Names come from elsewhere: they are characters, never elements, and turn no line around."""
    root = ElementTree.fromstring(_CHART.svg())  # our own text
    assert {each.tag for each in root.iter()} == {f"{_SVG}{tag}" for tag in ("svg", "text", "rect", "title")}
    assert (
        "\u202e" not in f"{_CHART.svg()}{json.dumps(_CHART.vega_lite(), ensure_ascii=False)}{_CHART.text()}"
    )
