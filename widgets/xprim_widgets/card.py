"""A model card's Markdown as a tree of nodes from a short list, and that tree as HTML.

A card is somebody else's text. HTML in it stays text, images become what they are said to show, links lead to the web
or to a mail address and nowhere else. A node is a text, or `[tag, attributes, child…]`: the front end makes elements
of it (`build` in shared.js), the static form makes HTML of it.

Source: spec 3 §Views (ModelBrowser: "model card side panel"); CommonMark 0.31, tables and strikethrough of GFM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from itertools import islice
from typing import Any, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from xprim_nb._text import clean

__all__ = ["MAX_NODES", "Tree", "card_html", "card_tree"]

# A text, or a list: tag, attributes, children. JSON, as traits carry it.
Tree: TypeAlias = str | list[Any]

# Cards of thousands of paragraphs exist; a panel beside a table is no place to read them.
MAX_NODES = 4_000
_MAX_CHARS = 200_000

# The panel's own title is an `h3`: what the card has below it begins at 4.
_FIRST_LEVEL = 4
_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
_PLAIN = {
    "blockquote": "blockquote",
    "bullet_list": "ul",
    "em": "em",
    "hr": "hr",
    "list_item": "li",
    "ordered_list": "ol",
    "s": "del",
    "strong": "strong",
    "table": "table",
    "tbody": "tbody",
    "td": "td",
    "thead": "thead",
    "tr": "tr",
}


def card_tree(text: str) -> list[Tree]:
    """What a Markdown text says, as nodes; a text that is too long ends with a sentence that says so."""
    shown = text[:_MAX_CHARS]
    walk = _Walk(cut=len(text) > len(shown))
    nodes = list(walk.children(SyntaxTreeNode(_parser().parse(shown))))
    if walk.cut:
        nodes.append(["p", {}, ["em", {}, "The card goes on; this is its beginning."]])
    return nodes


def card_html(nodes: Iterable[Tree]) -> str:
    """The same nodes as HTML.

    >>> card_html([["p", {}, "1 < 2"]])
    '<p>1 &lt; 2</p>'
    """
    return "".join(_html(node) for node in nodes)


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class _Walk:
    """From markdown-it's nodes to ours, at most `MAX_NODES` of them."""

    def __init__(self, *, cut: bool) -> None:
        self.cut = cut
        self._left = MAX_NODES
        self._levels: list[int] = []

    def children(self, node: SyntaxTreeNode) -> Iterator[Tree]:
        for child in node.children:
            if self._left <= 0:
                self.cut = True
                return
            self._left -= 1
            yield from self._node(child)

    def _node(self, node: SyntaxTreeNode) -> Iterator[Tree]:
        match node.type:
            case "text" | "html_inline" | "html_block":
                yield clean(node.content)  # here, since "&#x202e;" is a character only now
            case "softbreak":
                yield " "
            case "hardbreak":
                yield ["br", {}]
            case "code_inline":
                yield ["code", {}, clean(node.content)]
            case "fence" | "code_block":
                yield ["pre", {}, ["code", {}, clean(node.content)]]
            case "image":
                yield ["span", {}, clean(_words(node)) or "(an image)"]
            case "heading":
                yield [self._heading(int(node.tag[1:])), {}, *self.children(node)]
            case "paragraph":
                hidden = bool(node.hidden)  # in a list without blank lines
                inside = list(self.children(node))
                yield from inside if hidden else [["p", {}, *inside]]
            case "link":
                href = str(node.attrs.get("href", ""))
                given = {"href": href} if _LINK.match(href) else {}
                yield ["a" if given else "span", given, *self.children(node)]
            case "th":
                yield ["th", {"scope": "col"}, *self.children(node)]
            case kind if kind in _PLAIN:
                yield [_PLAIN[kind], {}, *self.children(node)]
            case _:
                yield from self.children(node)

    def _heading(self, level: int) -> str:
        """A tag that skips no level, whatever the card skips."""
        while self._levels and self._levels[-1] >= level:
            self._levels.pop()
        self._levels.append(level)
        return f"h{min(6, _FIRST_LEVEL - 1 + len(self._levels))}"


def _words(node: SyntaxTreeNode) -> str:
    inside = "".join(_words(child) for child in islice(node.children or (), MAX_NODES))
    return inside or (node.content if node.type == "text" else "")


def _html(node: Tree) -> str:
    if isinstance(node, str):
        return escape(node)
    tag, given, *children = node
    attributes = "".join(f' {name}="{escape(str(value))}"' for name, value in given.items())
    if tag == "a":
        attributes += ' rel="noopener noreferrer nofollow"'
    if tag in ("br", "hr"):
        return f"<{tag}>"
    return f"<{tag}{attributes}>{card_html(children)}</{tag}>"
