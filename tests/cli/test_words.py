"""How sizes, dates, tables and odd characters read."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest

from xprim_nb.cli import words


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1229, "1.2 KB"),
        (41104384, "39.2 MB"),
        (79167488, "75.5 MB"),
        (1610612736, "1.5 GB"),
        (None, "-"),
    ],
)
def test_sizes_read_as_in_the_seed(size_bytes: int | None, text: str) -> None:
    """79167488 bytes are 75.5 MB: powers of 1024, one decimal."""
    assert words.size(size_bytes) == text


def test_chunk_sizes_have_no_empty_decimal() -> None:
    """A chunk of ten megabytes is "10 MB", another keeps its decimal."""
    assert (words.short_size(10 << 20), words.short_size(10_000_000)) == ("10 MB", "9.5 MB")


def test_times_are_utc() -> None:
    """A time from another zone is shown as `registry.json` has it."""
    moment = datetime(2024, 1, 15, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert words.stamp(moment) == "2024-01-14 22:30:00"
    assert words.date(moment) == "2024-01-14"
    assert words.stamp(datetime(2024, 1, 15, 10, 30, tzinfo=UTC)) == "2024-01-15 10:30:00"


def test_table_columns_fit_the_longest_cell() -> None:
    """A cell wider than the seed's columns widens its own column only."""
    shown = words.table(("A", "B", "C"), [("long-group-name", "x", "1")], (4, 5))
    assert shown == ["A                 B    C", "long-group-name   x    1"]


def _said(text: str, encoding: str, monkeypatch: pytest.MonkeyPatch, **options: bool) -> bytes:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    words.say(text, **options)
    sys.stdout.flush()
    return raw.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_any_terminal_can_show_any_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal cannot encode is replaced by what it can; nothing raises."""
    shown = _said("a → b × 模型", encoding, monkeypatch).decode(encoding)
    assert shown == ("a → b × 模型\n" if encoding == "utf-8" else "a -> b x \\u6a21\\u578b\n")


def test_names_cannot_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape sequences and direction marks from a registry are shown, not obeyed."""
    shown = _said("\x1b[31mred\x07 \u202eabc\u200f\u2028\x9b", "utf-8", monkeypatch)
    assert shown == b"\\x1b[31mred\\x07 \\u202eabc\\u200f\\u2028\\x9b\n"


def test_paths_come_out_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with bytes that are no text is printed byte for byte."""
    assert _said("/models/\udcff\x01", "utf-8", monkeypatch, raw=True) == b"/models/\xff\x01\n"
