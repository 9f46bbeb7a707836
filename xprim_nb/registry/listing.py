"""What the registry lists, together with how much that can be relied on.

Source: research pull §5 ("honest offline": every answer carries source, age and a stale badge).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

from xprim_nb.events import TrustNotice
from xprim_nb.registry.client import IndexAnswer
from xprim_nb.registry.index import RemoteModel

__all__ = ["RemoteListing"]


class RemoteListing(tuple[RemoteModel, ...]):
    """Index entries, sorted by ref.

    Attributes:
        source: The base URL that gave them.
        age_s: Seconds since the registry confirmed them.
        stale: True when the registry was not asked now.
        why_stale: The reason; empty when fresh.
        notices: What the index says now that it should not.
    """

    source: str
    age_s: float
    stale: bool
    why_stale: str
    notices: tuple[TrustNotice, ...]

    @classmethod
    def of(cls, answer: IndexAnswer) -> Self:
        """The listing in an answer."""
        standing = (answer.notice_for(model.ref) for model in answer.index)
        return cls._made(answer.index, answer, tuple(each for each in standing if each is not None))

    def keeping(self, wanted: Callable[[RemoteModel], bool]) -> Self:
        """The same listing with only the entries for which `wanted` is true."""
        return self._made((model for model in self if wanted(model)), self, self.notices)

    @classmethod
    def _made(
        cls,
        models: Iterable[RemoteModel],
        told: IndexAnswer | RemoteListing,
        notices: tuple[TrustNotice, ...],
    ) -> Self:
        made = cls(models)
        made.source, made.age_s = told.source, told.age_s
        made.stale, made.why_stale, made.notices = told.stale, told.why_stale, notices
        return made
