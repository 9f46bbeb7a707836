"""Records as tests of this room want them."""

from __future__ import annotations

import hashlib
from typing import Any

from xprim_nb._hashing import Digest
from xprim_nb.prompts.telemetry import Record


def digest(text: str) -> Digest:
    """Some hash."""
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def record(number: int = 0, **changes: Any) -> Record:
    """A call of day `number`, unless a test wants something else."""
    told = {
        **{"at_s": 86_400.0 * number, "operation": "ask", "provider": "openai", "model": "gpt-5.6"},
        **{"request": digest(str(number)), "finish": "stop", "is_sent": True},
        **changes,
    }
    return Record(**told)
