"""How sizes, dates and tables read, and how text reaches a terminal that may not be able to show it.

Source: seeds/002 §CLI Command Interface.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import click

from xprim_nb._text import clean, format_bytes
from xprim_nb._text import format_count as count
from xprim_nb.errors import StorageError

__all__ = ["clean", "count", "date", "duration", "say", "short_size", "size", "stamp", "stream", "table"]

# What a terminal without these characters shows instead.
_PLAIN = str.maketrans({"→": "->", "×": "x", "…": "...", "–": "-", "—": "-", "’": "'", "≤": "<=", "≥": ">="})


def size(size_bytes: int | None) -> str:
    """Bytes for a person; `-` when nobody said how many."""
    return "-" if size_bytes is None else format_bytes(size_bytes)


def short_size(size_bytes: int) -> str:
    """The same without `.0`, as the seed shows the length of chunks.

    >>> short_size(10 << 20)
    '10 MB'
    """
    return size(size_bytes).replace(".0 ", " ")


def date(moment: datetime) -> str:
    """The day, in UTC as `registry.json` has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def stamp(moment: datetime) -> str:
    """The second, in UTC as `registry.json` has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """A span of time, roughly.

    >>> duration(42), duration(7200), duration(200_000)
    ('42 s', '2 h', '2 days')
    """
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit != "days" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], least: Sequence[int] = ()) -> list[str]:
    """Lines of left-aligned columns, three spaces apart.

    Args:
        headers: The first line.
        rows: The others, as many cells each.
        least: Smallest widths of the leading columns, in characters: the seed's tables are laid out by hand.
    """
    lines = [list(headers), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) + 3 for column in range(len(headers))]
    for column, width in enumerate(least[: len(widths)]):
        widths[column] = max(widths[column], width)
    return [
        "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def say(text: str, *, err: bool = False, raw: bool = False) -> None:
    """Print one or more lines, whatever the terminal can encode.

    Args:
        text: What to print.
        err: To stderr instead of stdout.
        raw: Leave control characters alone: a path must come out as it is.

    Raises:
        BrokenPipeError: Nobody reads any more.
        StorageError: Stdout goes to a file that cannot take it.
    """
    encoding = _encoding(sys.stderr if err else sys.stdout)
    written: str | bytes = text if raw else clean(text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        # What is raw are bytes that are no text in this locale, as the file system gave them.
        written = text.encode(encoding, "surrogateescape") if raw else _plainly(clean(text), encoding)
    _put(written, err=err, newline=True)


def stream(text: str, *, harmless: bool) -> None:
    """Print a piece of a text that goes on.

    Args:
        text: What to print; a stranger's.
        harmless: Show control characters instead of letting them act: a terminal obeys them, a pipe's reader gets what
            there is.

    Raises:
        BrokenPipeError, StorageError: As `say` does.
    """
    encoding = _encoding(sys.stdout)
    # As bytes: of text click would strip what looks like a colour.
    written: str | bytes = clean(text) if harmless else text.encode(encoding, errors="backslashreplace")
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        written = _plainly(clean(text), encoding) if harmless else written
    _put(written, err=False, newline=False)


def _encoding(stream: object) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _plainly(text: str, encoding: str) -> str:
    return text.translate(_PLAIN).encode(encoding, "backslashreplace").decode(encoding)


def _put(written: str | bytes, *, err: bool, newline: bool) -> None:
    try:
        click.echo(written, err=err, nl=newline)
    except BrokenPipeError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise StorageError(
            f"The answer could not be written: {why}.",
            subject="stderr" if err else "stdout",
            hint="Check where the output goes.",
        ) from error
