"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["format_bytes", "format_seconds"]


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


def format_seconds(seconds: float) -> str:
    """A duration with the precision a person can use.

    >>> format_seconds(3.21), format_seconds(75), format_seconds(7300)
    ('3.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
