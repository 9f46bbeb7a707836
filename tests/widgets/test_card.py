"""Cards: what of Markdown becomes a node, and that nothing else does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_widgets._assets import STATIC
from xprim_widgets.card import MAX_NODES, Tree, card_html, card_tree


def _tags(nodes: list[Any]) -> Iterator[tuple[str, dict[str, str]]]:
    for node in nodes:
        if isinstance(node, list):
            yield node[0], node[1]
            yield from _tags(node[2:])


def _text(nodes: list[Any]) -> str:
    return "".join(node if isinstance(node, str) else _text(node[2:]) for node in nodes)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("a *b* **c** ~~d~~ `e`", "<p>a <em>b</em> <strong>c</strong> <del>d</del> <code>e</code></p>"),
        ("* one\n* two", "<ul><li>one</li><li>two</li></ul>"),
        ("1. one\n\n2. two", "<ol><li><p>one</p></li><li><p>two</p></li></ol>"),
        ("```py\nx < 1\n```", "<pre><code>x &lt; 1\n</code></pre>"),
        ("> said\n\n---", "<blockquote><p>said</p></blockquote><hr>"),
        ("one\ntwo  \nthree", "<p>one two<br>three</p>"),
        ("![a *chart*](https://x.org/y.png)", "<p><span>a chart</span></p>"),
        ("![](https://x.org/y.png)", "<p><span>(an image)</span></p>"),
        (
            "[here](https://x.org/?a=1&b=2)",
            '<p><a href="https://x.org/?a=1&amp;b=2" rel="noopener noreferrer nofollow">here</a></p>',
        ),
        ("[file](../weights.bin)", "<p><span>file</span></p>"),
        (
            "| a |\n|---|\n| 1 |",
            '<table><thead><tr><th scope="col">a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table>',
        ),
    ],
)
def test_markdown_becomes_nodes(markdown: str, expected: str) -> None:
    """Each construct has its element; images are words, and links lead to the web only."""
    assert card_html(card_tree(markdown)) == expected


@pytest.mark.parametrize(
    "markdown",
    [
        "<script>alert(1)</script>",
        'hi <img src=x onerror="alert(1)"> there',
        "<div\nonclick=alert(1)>\n\ntext",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x) <https://user@evil>",
        "![x](javascript:alert(1))",
        "[a]: javascript:alert(1)\n\n[a]",
    ],
)
def test_markup_and_bad_links_are_text(markdown: str) -> None:
    """No element of the author's own gets through, and no link that is not to the web."""
    for tag, given_ in _tags(card_tree(markdown)):
        assert tag not in {"script", "img", "div", "iframe"}
        assert all(name == "href" and value.startswith("http") for name, value in given_.items())


def test_characters_that_turn_text_are_shown() -> None:
    """Escapes and right-to-left marks are made visible, also those written as entities and in code."""
    said = _text(card_tree("a\x1b[31m &#x202e; `\u202e`\n\n```\n\u200f\n```"))
    assert said == "a\\x1b[31m \\u202e \\u202e\\u200f\n"


def test_headings_skip_no_level() -> None:
    """Whatever levels a card uses, its headings begin below the panel's title and go down one at a time."""
    assert [
        tag for tag, _ in _tags(card_tree("## a\n#### b\n# c\n###### d\n## e"))
    ] == "h4 h5 h4 h5 h5".split()


def test_a_long_card_says_that_it_goes_on() -> None:
    """A card with too many parts, or too many letters, is cut, and ends with a sentence."""
    for markdown in ("* x\n" * (2 * MAX_NODES), "word " * 100_000):
        nodes = card_tree(markdown)
        assert len(list(_tags(nodes))) <= MAX_NODES + 10
        assert _text(nodes).endswith("The card goes on; this is its beginning.")


def test_deep_nesting_ends() -> None:
    """Thousands of quotes in quotes make no tree that a page could not walk."""
    nodes: Tree = card_tree(">" * 5_000 + " x")
    assert len(json.dumps(nodes)) < 10_000


def test_the_front_end_knows_every_tag() -> None:
    """Each element that a card can have is in the list of the front end's `build`."""
    blocks = "# a|- b|1. c|> d|---|`e` *f* **g** ~~h~~  \n[i](https://j) ![k](l)|```\nm\n```".split("|")
    everything = "\n\n".join([*blocks, "|n|\n|-|\n|o|"])
    source = (STATIC / "shared.js").read_text(encoding="utf-8")
    known = source.partition("TREE_TAGS")[2].partition('"')[2].partition('"')[0].split()
    assert {tag for tag, _ in _tags(card_tree(everything))} <= set(known)


@given(st.text(alphabet="<>&\"'`*_[]()!#|-\n ax\u202e\x1b:/", max_size=200))
def test_any_text_is_a_card(markdown: str) -> None:
    """Whatever is written, the tree is made of known tags, and its HTML has no others."""
    nodes = card_tree(markdown)
    tags = {tag for tag, _ in _tags(nodes)}
    assert tags <= set(
        "a blockquote br code del em h4 h5 h6 hr li ol p pre span strong table tbody td th thead tr ul".split()
    )
    html = card_html(nodes)
    assert "\u202e" not in html
    assert "\x1b" not in html
