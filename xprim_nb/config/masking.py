"""URLs that may be printed: the secrets before their `@` masked."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["mask_url"]


def mask_url(url: str) -> str:
    """The URL with the secrets before its `@` replaced by `***`, fit for logs and messages.

    >>> mask_url("https://ann:pw@example.com/models"), mask_url("https://token@example.com/models")
    ('https://ann:***@example.com/models', 'https://***@example.com/models')
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL at all; a message about it must not fail, nor tell what stands before an '@'
        return re.sub(r"//.*@", "//***@", url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        return url
    # A name alone is a token: whoever has no password to give would not have to be named.
    shown = f"{user.partition(':')[0]}:***" if ":" in user else "***"
    return urlunsplit(parts._replace(netloc=f"{shown}@{host}"))
