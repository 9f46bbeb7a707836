"""Numbers and verdicts as people read them, and text that came from elsewhere made harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = [
    "STATUS_WORDS",
    "clean",
    "format_bytes",
    "format_count",
    "format_dollars",
    "format_paused",
    "format_seconds",
    "format_span",
]

# A verdict as a person hears it. Frames, JSON and the seed's reports keep the seed's values.
STATUS_WORDS = {"failed": "damaged", "degraded": "degraded", "healthy": "healthy"}

# They move the cursor, ring, end a line, or turn the reading direction (marks, embeddings, overrides, isolates).
_CONTROL = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (
        *range(32),
        *range(127, 160),
        *(0x061C, 0x200E, 0x200F),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
    )
    if chr(code) not in "\n\t"
}


def clean(text: str) -> str:
    r"""Text that cannot drive a terminal or turn a line around: control characters are shown, not obeyed.

    >>> clean("a\x1b[31mb\u200f")
    'a\\x1b[31mb\\u200f'
    """
    return text.translate(_CONTROL)


def format_bytes(size_bytes: float) -> str:
    """A size in the original client's manner: powers of 1024, one decimal from KB up.

    >>> format_bytes(79167488), format_bytes(512), format_bytes(10 * 1024**2)
    ('75.5 MB', '512 B', '10.0 MB')
    """
    if abs(size_bytes) < 1024:  # the base itself
        return f"{size_bytes:.0f} B"
    units = ["KB", "MB", "GB", "TB"]
    size_bytes /= 1024
    while abs(size_bytes) >= 1023.95 and len(units) > 1:  # what would print as 1024.0
        size_bytes /= 1024
        units.pop(0)
    return f"{size_bytes:.1f} {units[0]}"


def format_count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> format_count(1, "version"), format_count(2000, "version")
    ('1 version', '2,000 versions')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def format_dollars(amount: Decimal) -> str:
    """Money as a person compares it: cents from a dollar up, below that three digits that say something.

    >>> from decimal import Decimal
    >>> format_dollars(Decimal("12.3456")), format_dollars(Decimal("0.00123456")), format_dollars(Decimal(0))
    ('$12.35', '$0.00123', '$0')
    """
    if not amount:
        return "$0"
    digits = 2 if abs(amount) >= 1 else 2 - amount.adjusted()
    shown = f"{abs(amount):,.{digits}f}"
    # Of half a dollar nobody wants a third digit that is zero; its cents stay two.
    shown = shown.rstrip("0").ljust(shown.index(".") + 3, "0") if digits > 2 else shown
    return f"{'-' if amount < 0 else ''}${shown}"


def format_paused(progress: object) -> str:
    """What stopped work says; of a pull only verified bytes count, because only they are kept.

    Args:
        progress: A `PullProgress`, which can be resumed; a `CheckProgress`, which cannot; None while there is none.
    """
    total = getattr(progress, "bytes_total", 0)
    if not total:
        return "paused; run again to resume"
    if hasattr(progress, "models_total"):
        return "stopped"
    return f"paused at {100 * getattr(progress, 'bytes_completed', 0) // total} %; run again to resume"


def format_seconds(seconds: float) -> str:
    """A duration with the precision a person can use.

    >>> format_seconds(3.21), format_seconds(75), format_seconds(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_span(seconds: float) -> str:
    """A time span as a person says it, in one unit.

    >>> format_span(1), format_span(61), format_span(7300), format_span(200_000)
    ('1 second', '1 minute', '2 hours', '2 days')
    """
    seconds = max(0.0, seconds)
    for noun, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (noun == "minute" and seconds >= length):
            return format_count(round(seconds / length), noun)
    return format_count(int(seconds), "second")
