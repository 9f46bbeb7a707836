"""The core names commands as a terminal has them; a notebook says them its own way.

Source: spec 3 §Magics.
"""

from __future__ import annotations

import re

__all__ = ["in_notebook"]

_MODELS = "pull|remove|info|path|update"
_CACHE = (
    "status|validate|repair|refresh|rollback|cleanup|free|pin|unpin|why|adopt|archive|restore|backups|pins|"
    "archived|adopted"
)
# As text: they are compiled with the first sentence, not with the extension.
_IN_NOTEBOOKS = (
    (r"`xprim models list", "`%xprim models"),
    (rf"`xprim (?:models )?({_MODELS}|config)\b", r"`%xprim \1"),
    (rf"`xprim cache ({_CACHE})(?=[ `])", r"`%xprim \1"),
    (r"`xprim maintain\b", "`%xprim maintain"),
    (r"`xprim ai run\b", "`%%generate"),
    (r"`xprim ai (pin|unpin) ([^`]+)`", r"`%xprim \1 \2 --awake`"),
    (r"`xprim ai (ps|load|evict|plan|timeline|why|doctor)\b", r"`%xprim \1"),
    (r"`xprim ai models", "`%xprim models --remote"),
)


def in_notebook(text: str) -> str:
    """A sentence of the core, with commands as cells have them.

    >>> in_notebook("Run `xprim cache repair demo/tiny v1`.")
    'Run `%xprim repair demo/tiny v1`.'
    >>> in_notebook("Load it first: `xprim ai load`.")
    'Load it first: `%xprim load`.'
    """
    for pattern, replacement in _IN_NOTEBOOKS:
        text = re.sub(pattern, replacement, text)
    return text
