"""Three caches, never one "hit rate": what was rendered, what was answered, and what a provider keeps of a prefix.

In come a request's hash, what was rendered for it and its answer; out go the answer when the same is asked again, the
reason when nothing is found, who else is asking just now, and the record of what was sent. One SQLite file,
`<base>/prompts/cache.sqlite`.
"""

from xprim_nb.prompts.caches.answers import KEPT, Found, redacted_answer
from xprim_nb.prompts.caches.calls import Call, CallPart
from xprim_nb.prompts.caches.reasons import MissKind, MissReason, Remembered
from xprim_nb.prompts.caches.rotation import Entry, Limits, Rotation
from xprim_nb.prompts.caches.store import Caches, CacheStats

__all__ = [
    "KEPT",
    "CacheStats",
    "Caches",
    "Call",
    "CallPart",
    "Entry",
    "Found",
    "Limits",
    "MissKind",
    "MissReason",
    "Remembered",
    "Rotation",
    "redacted_answer",
]
