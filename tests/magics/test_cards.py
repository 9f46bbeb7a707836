"""Errors of ours: a short card, a traceback one click away, a cell that counts as failed."""

from __future__ import annotations

import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.errors import NotInstalledError, OfflineError, XprimError
from xprim_nb.magics import cards
from xprim_nb.registry.sources import SourceError

from .kernels import Kernel


def test_card_says_what_where_and_what_to_do() -> None:
    """The text has the kind, the sentence, the place and the hint; the place only when the sentence lacks it."""
    error = OfflineError("Not on this machine.", subject="demo/tiny v1", hint="Go online.")
    assert (
        cards.text_card(error) == "OfflineError: Not on this machine.\nwhere: demo/tiny v1\nhint: Go online."
    )
    assert cards.text_card(SourceError("No answer.")).startswith("NetworkError: No answer.")
    assert "where" not in cards.text_card(XprimError("demo/tiny v1 is gone.", subject="demo/tiny v1"))


def test_hints_speak_of_magics() -> None:
    """What the core says of its commands becomes the notebook's way of saying it."""
    hint = "`xprim models list --remote` or `xprim models pull a/b v1`; `xprim config` shows all."
    shown = cards.text_card(NotInstalledError("Gone.", hint=hint))
    assert shown.endswith(
        "hint: `%xprim models --remote` or `%xprim pull a/b v1`; `%xprim config` shows all."
    )


def test_hints_of_the_cache_speak_of_magics() -> None:
    """The cache's commands are the notebook's too; one that it does not have stays the terminal's."""
    hint = "`xprim cache repair a/b v1`, `xprim maintain`, or `xprim cache bundle derive a/b`."
    shown = cards.text_card(NotInstalledError("Run `xprim cache rollback a/b v1`.", hint=hint))
    assert "Run `%xprim rollback a/b v1`." in shown
    assert shown.endswith(
        "hint: `%xprim repair a/b v1`, `%xprim maintain`, or `xprim cache bundle derive a/b`."
    )


def test_html_escapes_what_it_shows() -> None:
    """Names from a registry cannot become markup."""
    error = XprimError("<script>x</script>", subject="<b>", hint="a & b")
    shown = cards.html_card(error, "File <stdin>")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<code>&lt;b&gt;</code>" in shown
    assert "<details><summary>Traceback</summary>" in shown
    assert 'role="alert"' in shown


def test_card_shows_control_characters() -> None:
    """What a server or a registry wrote cannot turn the card around, or drive the terminal."""
    error = XprimError("It said \u202eno.", subject="\x1b[2Jx.txt", hint="Ask \u200f it.")
    for shown in (cards.text_card(error), cards.html_card(error, "")):
        assert not set(shown) & set("\x1b\u202e\u200f")
        assert "\\x1b[2Jx.txt" in shown


def test_long_messages_are_cut_and_kept() -> None:
    """A card shows the beginning and says how much there is; all of it is folded up below."""
    error = XprimError("<b>" + "x" * 10_000 + "END", subject="s" * 5_000, hint="h" * 5_000)
    text, html = cards.text_card(error), cards.html_card(error, "File <stdin>")
    assert len(text) < 1_700
    assert "… (10,006 characters in all)" in text
    before, _, folded = html.partition("<details><summary>All of it</summary>")
    assert len(before) < 3_000
    assert "END" not in before
    assert "&lt;b&gt;" in folded
    assert "END" in folded
    lines = cards.text_card(XprimError("\n".join(f"line {number}" for number in range(100))))
    assert "line 7 …" in lines
    assert "line 8" not in lines
    assert "All of it" not in cards.html_card(XprimError("short"), "")


def test_folded_traceback_is_clean_too() -> None:
    """The traceback quotes the message: it obeys nothing of it either."""
    shown = cards.html_card(XprimError("x"), "XprimError: \x1b[31m\u202e</pre><script>")
    assert not set(shown) & set("\x1b\u202e")
    assert "<script>" not in shown


def test_hostile_error_in_a_kernel(kernel: Kernel) -> None:
    """Markup, escapes, marks and ten thousand letters reach a notebook as text, also in the line under the card."""
    said = "'<img src=x onerror=alert(1)>\\x1b[2J\\u202e' + 'y' * 10_000"
    outcome = kernel.run(
        f"from xprim_nb import XprimError\nraise XprimError({said}, subject='<s>\\x9b', hint='<h>\\u2066')"
    )
    (card,) = outcome.of("display_data")
    (error,) = outcome.of("error")
    html, text = card["data"]["text/html"], card["data"]["text/plain"]
    for shown in (html, text, error["evalue"]):
        assert not set(shown) & set("\x1b\x9b\u202e\u2066")
        assert "\\x1b[2J" in shown
    assert "<img" not in html
    assert "<s>" not in html
    assert html.count("y" * 10_000) >= 1
    assert len(text) < 1_000
    assert len(error["evalue"]) < 300
    assert kernel.run("print(1)").text() == "1\n"


def test_card_in_a_terminal(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal shows the text once, without frames; `%tb` still has them, and the cell has failed."""
    result = shell.run_cell("%xprim path other/base v1")
    assert isinstance(result.error_in_exec, NotInstalledError)
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("NotInstalledError") == 1
    assert "hint: " in shown.out + shown.err
    assert "commands.py" not in shown.out + shown.err
    assert sys.last_value is result.error_in_exec
    shell.run_line_magic("tb", "")
    assert "commands.py" in capsys.readouterr().out


def test_card_in_a_kernel(kernel: Kernel) -> None:
    """A notebook gets the card as HTML and text, an `error` output, and a reply that says the cell failed."""
    outcome = kernel.run("%xprim path other/base v1")
    (card,) = outcome.of("display_data")
    assert card["data"]["text/plain"].startswith("NotInstalledError: other/base v1 is not installed.\nhint: ")
    assert "<details>" in card["data"]["text/html"]
    assert "commands.py" in card["data"]["text/html"]
    (error,) = outcome.of("error")
    assert (error["ename"], error["traceback"]) == ("NotInstalledError", [])
    assert (outcome.reply["status"], outcome.reply["ename"]) == ("error", "NotInstalledError")


def test_errors_of_the_library_get_the_card_too(kernel: Kernel) -> None:
    """A call of the library in a cell fails with the same card; another error keeps its traceback."""
    called = kernel.run("from xprim_nb import ModelRef\nModelRef.parse('../..')")
    assert called.of("display_data")[0]["data"]["text/plain"].startswith("InvalidRefError: ")
    other = kernel.run("1 / 0")
    assert other.of("display_data") == []
    assert any("ZeroDivisionError" in line for line in other.of("error")[0]["traceback"])
