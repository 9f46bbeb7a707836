"""How prompts look in a cell: an answer and where it is from, what would be sent, and what a provider's cache does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from markdown_it import MarkdownIt

from xprim_nb.magics import prompt_faces, prompt_tables
from xprim_nb.prompts.caches import CacheStats, MissReason
from xprim_nb.prompts.mending import mending_of

from ..prompting import ASKED, CLAUDE, answered, asking, explained, resolved

_HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e```\n![x](http://tracker.example.org)\n````"


@pytest.mark.parametrize(
    ("asked", "stamp"),
    [
        (answered(), f"{CLAUDE} · generated · 3 tokens · 2.5 s · $0.00123 billed"),
        (answered(source="cache"), f"{CLAUDE} · from the cache · 3 tokens · 0.4 ms · saved $0.50"),
        (
            answered(source="joined", total_s=0.2),
            f"{CLAUDE} · joined an equal one in flight · 3 tokens · 0.2 s",
        ),
        (
            answered(cost=None, reason=MissReason("first"), not_kept="Cut."),
            f"{CLAUDE} · generated · 3 tokens · 2.5 s · Nothing was asked of this model before. · not kept. Cut.",
        ),
    ],
)
def test_a_stamp_says_where_an_answer_is_from_and_why(asked: object, stamp: str) -> None:
    """Source, tokens, time and money, and the reason why it was not answered from the cache."""
    assert prompt_faces.asked_stamp(asked) == stamp  # type: ignore[arg-type]  # of this list


def test_an_answer_that_was_cut_or_calls_a_tool() -> None:
    """How it ended is told, and a call of a tool is shown when there is no text."""
    cut = answered()
    cut = replace(cut, answer=replace(cut.answer, finish="length"))
    assert "3 tokens, cut there" in prompt_faces.asked_stamp(cut)
    calls = replace(cut.answer, text="", tool_calls=({"name": "look_up", "arguments": '{"word": "sky"}'},))
    assert prompt_faces.asked_text(replace(cut, answer=calls)).startswith('→ look_up({"word": "sky"})\n\n[')


def test_a_models_text_is_a_strangers() -> None:
    """In no face does it become markup, an image, an escape sequence, or text that runs backwards."""
    bundle = prompt_faces.asked_bundle(answered(_HOSTILE))
    assert "<img" not in bundle["text/html"]
    assert not set("".join(bundle.values())) & set("\x1b\u202e")
    rendered = MarkdownIt("commonmark").render(bundle["text/markdown"])
    assert rendered.startswith('<pre><code class="language-text">&lt;img')
    assert rendered.count("<pre>") == 1


def test_values_have_faces_in_a_shell(shell: InteractiveShell) -> None:
    """An answer in three forms, an X-ray as a bar, what would be sent as facts; among others each is one line."""
    assert shell.display_formatter is not None
    show: Any = shell.display_formatter.format
    data, _ = show(answered())
    assert data["text/plain"].startswith("Because.\n\n[claude")
    assert set(data) == {"text/plain", "text/html", "text/markdown"}
    found = explained(asking("2026-11-27"), asking())
    data, _ = show(found)
    assert "breaks here" in data["text/plain"]
    assert 'class="xprim-cache-bar ' in data["text/html"]
    sent = resolved(asking())
    data, _ = show(sent)
    assert "Format:" in data["text/plain"]
    assert "kept up to here" in data["text/plain"]
    assert sent.request_hash in data["text/html"]
    data, _ = show(CacheStats(1_200, 3, 1, 2, 4096, ()))
    assert "1,200" in data["text/plain"]
    data, _ = show([answered("word " * 50), sent, found])
    first, second, third = data["text/plain"].strip("[]").split(",\n ")
    assert first == "<Asked generated: " + "word " * 11 + "word…>"
    assert second.startswith(f"<ResolvedScaffold anthropic: {CLAUDE}, ")
    assert third.startswith(f"<Explanation anthropic: {CLAUDE}, ")


def test_faces_are_taken_back(shell: InteractiveShell) -> None:
    """After `%unload_ext` an X-ray is shown by its own repr again."""
    assert shell.display_formatter is not None
    shell.run_line_magic("unload_ext", "xprim_nb")
    show: Any = shell.display_formatter.format
    data, _ = show(explained(None, asking()))
    assert "text/html" not in data


def test_samples_are_a_table() -> None:
    """A row for each answer with its place, its source and the beginning of its text; the values are the answers."""
    answers = [answered(source="cache"), answered("one two " * 40)]
    rows = prompt_tables.samples(answers)
    assert list(rows) == answers
    lines = repr(rows).splitlines()
    assert lines[0].split() == ["sample", "from", "tokens", "took", "cost", "text"]
    assert lines[1].split() == ["0", "cache", "3", "0.4", "ms", "Because."]
    assert lines[2].endswith("…")
    assert lines[3] == "1 answer from the cache, 1 asked for."


def test_findings_are_a_table_with_what_to_do() -> None:
    """What changes from call to call, where, and how to mend it; nothing found is said."""
    rows = prompt_tables.findings(mending_of(asking()))
    assert [(each.rule, each.found) for each in rows] == [("date", "2026-11-28")]
    assert "style guide:1:7" in repr(rows)
    assert "behind the last breakpoint" in rows._repr_html_()
    assert "+As of 2026-11-28." in repr(rows)
    assert "<pre" in rows._repr_html_()
    clean = prompt_tables.findings(mending_of(ASKED))
    assert "Nothing in what should be kept" in repr(clean)
    assert "<pre" not in clean._repr_html_()
