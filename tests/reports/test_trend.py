"""Cost and hits by day are one value as a drawing, a table and words, all of which say the same."""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from xprim_nb.prompts.answers import Usage
from xprim_nb.prompts.telemetry import Outcome, Record, analyze
from xprim_nb.reports import TrendChart, TrendDay

_SVG = "{http://www.w3.org/2000/svg}"
_FIRST = date(2026, 11, 1)
_CHART = TrendChart(
    "Cost and cache hits by day",
    (
        TrendDay(_FIRST, 3, Decimal("2"), Decimal("0.5"), 0.25, 0.8, 1.0),
        TrendDay(_FIRST + timedelta(1), 1, Decimal("1"), response=0.5),
        TrendDay(_FIRST + timedelta(4), 2, estimated=Decimal("1"), response=0.75, prefix=0.4),
    ),
)


class _Reader(HTMLParser):
    """What a page's parts are, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _drawn(chart: TrendChart) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg())  # our own text


def test_money_is_bars_as_high_as_it_is() -> None:
    """A bill is filled and an estimate is hollow, side by side; heights are proportional and days true to time."""
    bars = [each for each in _drawn(_CHART).iter(f"{_SVG}rect") if each.get("height") != "6"]
    filled = [each for each in bars if each.get("fill") != "none"]
    hollow = [each for each in bars if each.get("fill") == "none"]
    assert [float(each.attrib["height"]) for each in filled] == pytest.approx([90, 45])
    assert [float(each.attrib["height"]) for each in hollow] == pytest.approx([22.5, 45])
    first, second, last = (float(each.attrib["x"]) for each in (filled[0], filled[1], hollow[1]))
    width = float(filled[0].attrib["width"])
    assert (last - width - first) == pytest.approx(4 * (second - first), abs=0.3)


def test_each_cache_has_a_line_of_its_own_that_ends_where_it_was_not_asked() -> None:
    """Marks differ in form; of the prefix cache two days are known and not the one between: two marks and no line."""
    root = _drawn(_CHART)
    assert len(list(root.iter(f"{_SVG}circle"))) == 3
    assert len([each for each in root.iter(f"{_SVG}rect") if each.get("height") == "6"]) == 2
    assert len(list(root.iter(f"{_SVG}polygon"))) == 1
    (line,) = root.iter(f"{_SVG}polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2]) == pytest.approx(22.5)


def test_the_drawing_is_named_described_and_said_in_a_table() -> None:
    """Title and description inside, the same as the image's text, and a row with a head for each day, the last first."""
    root = _drawn(_CHART)
    assert root.attrib["role"] == "img"
    assert root.findtext(f"{_SVG}title") == _CHART.title
    assert root.findtext(f"{_SVG}desc") == _CHART.described
    assert _CHART.described == (
        "From 2026-11-01 to 2026-11-05: 6 calls, $3.00 billed and $1.50 estimated. "
        "Cache hits on the last day: response 75%, prefix 40%."
    )
    page = _Reader(_CHART.html())
    ((_, image),) = [each for each in page.tags if each[0] == "img"]
    assert image["alt"] == f"{_CHART.title}. {_CHART.described}"
    source = str(image["src"]).removeprefix("data:image/svg+xml;base64,")
    assert b64decode(source).decode() == _CHART.svg()
    rows = [attributes for tag, attributes in page.tags if tag == "th" and attributes.get("scope") == "row"]
    assert len(rows) == 3
    days = [word for word in page.words if re.fullmatch(r"2026-11-\d\d", word)]
    assert days == ["2026-11-05", "2026-11-02", "2026-11-01"]
    assert {"script", "style", "link", "svg"}.isdisjoint(tag for tag, _ in page.tags)


def test_words_say_it_too_and_nothing_is_said_as_such() -> None:
    """A line a day, and of a cache that was not asked no word; a chart of nothing is one in all its forms."""
    bundle = _CHART._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "2026-11-02: 1 call, $1.00 billed, response 50%" in repr(_CHART).splitlines()[2]
    nothing = TrendChart("Nothing", ())
    assert "Nothing is recorded." in nothing.text()
    assert "<table" not in nothing.html()
    assert _drawn(nothing).findtext(f"{_SVG}desc") == "Nothing is recorded."


def test_many_days_are_a_click_away_and_one_day_is_drawn() -> None:
    """A hundred days end in the last ninety, of which two weeks stand open; one day alone divides by nothing."""
    day_s = 86_400.0
    records = [
        Record(
            day * day_s,
            "ask",
            "openai",
            "m",
            is_sent=True,
            usage=Usage(1000, 10, 250),
            billed=Decimal(day + 1) / 100,
            in_response=Outcome(False, "first"),
        )
        for day in range(100)
    ]
    chart = TrendChart.of(analyze(records))
    assert (len(chart.days), chart.days[0].day) == (90, date(1970, 1, 11))
    assert chart.days[0].prefix == 0.25
    assert (chart.days[0].response, chart.days[0].scaffold) == (0.0, None)
    assert "76 earlier days" in chart.html()
    xs = [float(each.attrib["x"]) for each in _drawn(chart).iter(f"{_SVG}rect")]
    assert 0 <= min(xs) <= max(xs) <= 640
    one = TrendChart.of(analyze(records[:1]))
    assert len(list(_drawn(one).iter(f"{_SVG}rect"))) == 2


def test_a_hostile_title_stays_text() -> None:
    """Neither the drawing nor the page takes it for markup."""
    chart = TrendChart('<script>alert("x")</script>', _CHART.days)
    assert {each.tag for each in _drawn(chart).iter()}.isdisjoint({f"{_SVG}script"})
    assert "script" not in {tag for tag, _ in _Reader(chart.html()).tags}
