"""The cache X-ray as a bar: in words, and as HTML that needs no script."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from xprim_nb.reports import BarPart, CacheBar
from xprim_nb.reports.cache_bar import BREAK_COLOUR, CACHE_COLOURS

from ..prompting import asking, explained

_HOSTILE = '<img src=x onerror="alert(1)">\x1b[31m\u202e'
_PARTS = (
    BarPart("tools", cached=700, cost=Decimal("0.00021")),
    BarPart("style_guide", cached=50, written=1_950, cost=Decimal("0.0205"), breaks=True),
    BarPart("turn", fresh=1_000, cost=Decimal("0.003")),
)
_BAR = CacheBar(
    "750 of 3,700 tokens are read from the cache.",
    _PARTS,
    "style_guide differs from byte 1,312 on (line 40, date).",
    "as of\n2026-11-27",
    "as of\n2026-11-28",
    ("Move the date to the turn.",),
    ("Prices of 2026-11-01.",),
)


def _tree(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html)  # our own HTML, which is XML too


def test_words_say_all_that_the_bar_shows() -> None:
    """A line a part with tokens, money and what the cache does; then the byte, both texts, the advice, the notes."""
    assert repr(_BAR).splitlines() == [
        "750 of 3,700 tokens are read from the cache.",
        "  tools          700 tokens  $0.00021  read from the cache",
        "  style_guide  2,000 tokens   $0.0205  breaks here, 50 read from the cache, 1,950 will be written to the cache",
        "  turn         1,000 tokens    $0.003  paid in full",
        "style_guide differs from byte 1,312 on (line 40, date).",
        "  before: as of⏎2026-11-27",
        "  now:    as of⏎2026-11-28",
        "Move the date to the turn.",
        "Prices of 2026-11-01.",
    ]
    assert _BAR.totals == {"cached": 750, "written": 1_950, "fresh": 1_000}


def test_blocks_are_as_wide_as_their_tokens_and_each_colour_has_its_words() -> None:
    """The bar is read out as a whole; beside each colour, in the legend and in each row, stands what it says."""
    root = _tree(_BAR._repr_html_())
    bar = root.find("div[@role='img']")
    assert bar is not None
    assert bar.attrib["aria-label"] == (
        "750 tokens read from the cache; 1,950 tokens will be written to the cache; 1,000 tokens paid in full; "
        "breaks here: style_guide"
    )
    styles = [block.attrib["style"] for block in bar]
    assert [style.partition("flex:")[2].partition(" ")[0] for style in styles] == [
        "700",
        "50",
        "1950",
        "1000",
    ]
    colours = [CACHE_COLOURS["cached"], CACHE_COLOURS["cached"], BREAK_COLOUR, CACHE_COLOURS["fresh"]]
    assert all(colour in style for colour, style in zip(colours, styles, strict=True))
    assert ["".join(item.itertext()) for item in root.findall("ul")[0]] == [
        "read from the cache: 750 tokens",
        "paid in full: 1,000 tokens",
        "breaks here, will be written to the cache: 1,950 tokens",
    ]
    rows = root.findall("table")[0].findall("tbody/tr")
    assert ["".join(row[1].itertext()) for row in rows] == [part.words for part in _PARTS]
    assert len({*colours, CACHE_COLOURS["written"]}) == 4


@pytest.mark.parametrize("colour", [*CACHE_COLOURS.values(), BREAK_COLOUR])
@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_are_seen_on_a_light_and_on_a_dark_page(colour: str, page: str) -> None:
    """WCAG 1.4.11: what a colour says is 3 : 1 from the page it is on."""

    def luminance(hexadecimal: str) -> float:
        parts = [int(hexadecimal[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_without_prices_there_is_no_money() -> None:
    """What runs on a machine of one's own has no column of costs, and no dollar anywhere."""
    free = CacheBar("All is read.", tuple(replace(each, cost=None) for each in _PARTS))
    assert "$" not in free.text()
    assert "$" not in free.html()
    assert "cost" not in free.html()
    assert CacheBar("Nothing to send.").html().count("<") == 6


def test_many_parts_are_folded_and_keep_their_sum() -> None:
    """Of a long conversation the first dozen parts are rows, the others a click away; thin blocks become one."""
    parts = tuple(BarPart(f"message {number}", cached=10) for number in range(100))
    root = _tree(CacheBar("Long.", (*parts, BarPart("turn", fresh=5))).html())
    folded = root.find("details")
    assert folded is not None
    assert folded.findtext("summary") == "89 more parts, 885 tokens"
    assert (len(root.findall("table/tbody/tr")), len(folded.findall("table/tbody/tr"))) == (12, 89)
    blocks = root.findall("div[@role='img']/span")
    assert [block.attrib["title"] for block in blocks] == [
        "message 0 and 99 others: 1,000 tokens, read from the cache",
        "turn: 5 tokens, paid in full",
    ]


def test_what_is_sent_is_a_strangers_text() -> None:
    """Neither a label nor a differing text becomes markup, an escape sequence, or text that runs backwards."""
    bar = CacheBar(_HOSTILE, (BarPart(_HOSTILE, fresh=1),), _HOSTILE, "", _HOSTILE, (_HOSTILE,), (_HOSTILE,))
    assert "<img" not in bar.html()
    assert not set(bar.html() + bar.text()) & set("\x1b\u202e")
    assert "before: (nothing)" in bar.text()


def test_the_bar_of_an_explanation() -> None:
    """Tokens, money and the byte are the explanation's; why no answer is kept is told where the break does not tell it."""
    found = replace(explained(asking("2026-11-27"), asking()), answer_kept=False, answer_missed="It differs.")
    bar = CacheBar.of(found)
    assert [each.tokens for each in bar.parts] == [each.share.tokens for each in found.segments]
    assert sum(each.cost for each in bar.parts if each.cost) == pytest.approx(
        found.cost and found.cost.amount
    )
    assert [each.label for each in bar.parts if each.breaks] == ["style guide"]
    assert ("2026-11-27" in bar.before, "2026-11-28" in bar.now) == (True, True)
    assert "It differs." not in bar.text()
    again = replace(explained(asking(), asking()), answer_kept=False, answer_missed="It was cut.")
    assert "It was cut." in CacheBar.of(again).notes
    assert CacheBar.of(replace(again, answer_kept=True)).verdict.startswith(
        "The answer is kept: nothing would be sent."
    )
