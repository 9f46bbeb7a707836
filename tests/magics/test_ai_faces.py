"""How an answer looks: its text, harmlessly, and a line of where the time went."""

from __future__ import annotations

from dataclasses import replace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from markdown_it import MarkdownIt

from xprim_nb.magics import ai_faces, bars
from xprim_nb.scheduling.values import GenerateProgress

from ..fake_engine import MODEL, REPLY

_HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202e```\n![x](http://tracker.example.org)\n````"


def test_a_stamp_says_what_and_where_and_how_long() -> None:
    """Model, device, tokens and times are always there; what is out of the ordinary is told too."""
    assert ai_faces.stamp_line(REPLY) == f"{MODEL} on cpu · 3 tokens · {REPLY.stamp}"
    told = ai_faces.stamp_line(
        replace(
            REPLY,
            finish_reason="length",
            evicted=("numpy:other v1",),
            loras=("demo/lora-json v1",),
            seed=7,
            degraded="context of 2,048 tokens",
            retries=1,
        )
    )
    for part in (
        "3 tokens, cut there",
        "evicted numpy:other v1",
        "with demo/lora-json v1",
        "seed 7",
        "less than was asked for: context of 2,048 tokens",
        "its worker was replaced 1 time",
    ):
        assert part in told
    assert "stopped there" in ai_faces.stamp_line(replace(REPLY, finish_reason="cancelled"))


def test_an_eviction_is_told_once() -> None:
    """The stamp itself names who left when loading took long enough to be told; otherwise the line does."""
    quick = replace(REPLY, evicted=("x",), timings=replace(REPLY.timings, load_s=0.0))
    assert ai_faces.stamp_line(quick).count("evicted x") == 1
    assert ai_faces.stamp_line(replace(REPLY, evicted=("x",))).count("evicted x") == 1


def test_a_models_text_is_a_strangers() -> None:
    """In no face does it become markup, an image, an escape sequence, or text that runs backwards."""
    reply = replace(REPLY, text=_HOSTILE)
    text, html, marked = (
        show(reply) for show in (ai_faces.reply_text, ai_faces.reply_html, ai_faces.reply_markdown)
    )
    assert "\\x1b[31m\\u202e" in text
    assert "<img" not in html
    assert "&lt;img" in html
    assert not set(text + html + marked) & set("\x1b\u202e")
    rendered = MarkdownIt("commonmark").render(marked)
    assert "<img" not in rendered
    assert rendered.startswith('<pre><code class="language-text">&lt;img')
    assert rendered.count("<pre>") == 1


@pytest.mark.parametrize("text", ["plain", "ends\n", "```", "`````\n```", ""])
def test_the_fence_cannot_be_closed(text: str) -> None:
    """Whatever the text holds, all of it is inside one block, and the stamp is outside."""
    rendered = MarkdownIt("commonmark").render(ai_faces.reply_markdown(replace(REPLY, text=text)))
    assert rendered.count("<pre>") == 1
    assert rendered.rpartition("</pre>")[2].strip().startswith("<p>numpy:demo/tiny-llama v2 on cpu")


def test_an_answer_as_a_value(shell: InteractiveShell) -> None:
    """A reply that a cell returns has all three faces; among others it is one line."""
    assert shell.display_formatter is not None
    data, _ = shell.display_formatter.format(replace(REPLY, text="Once."))
    assert data["text/plain"].startswith("Once.\n\n[numpy:")
    assert 'class="xprim-reply"' in data["text/html"]
    assert data["text/markdown"].startswith("```text\nOnce.\n```")
    several, _ = shell.display_formatter.format([replace(REPLY, text="Once.\nTwice.")])
    assert several["text/plain"] == "[<Reply Once.>]"


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (GenerateProgress("a/b", "installing"), "installing"),
        (
            GenerateProgress("a/b", "installing", fraction=0.4, reason="40% of 12 MB"),
            "installing 40 %: 40% of 12 MB",
        ),
        (
            GenerateProgress("a/b", "queued", position=2, reason="c/d answers"),
            "number 2 in the queue: c/d answers",
        ),
        (GenerateProgress("a/b", "queued"), "waiting"),
        (
            GenerateProgress("a/b", "queued", position=1, reason="b is being loaded"),
            "waiting: b is being loaded",
        ),
        (GenerateProgress("a/b", "queued", fraction=0.5), "loading 50 %"),
        (GenerateProgress("a/b", "loading", fraction=0.5, reason="reading"), "loading 50 %: reading"),
        (GenerateProgress("a/b", "reading"), "reading the prompt"),
        (GenerateProgress("a/b", "answering", "x", 1), "1 token"),
    ],
)
def test_what_is_waited_for(progress: GenerateProgress, said: str) -> None:
    """Each phase is told in words; a bar shows what has a fraction, and says the same."""
    assert bars.answering(progress) == f"a/b: {said}"
    html = bars.answering_html(progress)
    assert said in html
    assert ('role="progressbar"' in html) == bool(progress.fraction)
