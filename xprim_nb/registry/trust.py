"""Trust on first use: remember what the index said, and notice when it changes its story.

    1. A version never seen before is remembered.
    2. The hash seen last again: nothing to say; an earlier notice about it still stands.
    3. A hash seen earlier and since superseded: a rollback.
    4. A new hash under an immutable (non-alias) version: rewritten.
    5. A new hash under an alias: that is what aliases are for.

Source: spec 1 §Client; TUF's remembered client state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xprim_nb.events import TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import Index

__all__ = ["Memory"]

# Enough to recognise a rollback over years of releases; the file stays small.
_MOST_HASHES = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """What one registry's index said so far.

    Attributes:
        seen: For each version, the manifest hashes in the order they were first offered.
        notices: What stands against a version now.
    """

    seen: Mapping[str, tuple[str, ...]]
    notices: Mapping[str, TrustNotice]

    @classmethod
    def empty(cls) -> Memory:
        """A memory that knows nothing yet."""
        return cls({}, {})

    def after(self, index: Index) -> tuple[Memory, tuple[TrustNotice, ...]]:
        """The memory with `index` taken in, and what is new against it."""
        seen, notices, news = dict(self.seen), dict(self.notices), []
        for model in index:
            key, offered = str(model.ref), model.manifest_hash
            known = seen.get(key, ())
            if known and known[-1] == offered:  # 2
                continue
            notice = None
            if offered in known:  # 3
                notice = TrustNotice("rollback", model.ref, known[-1], offered)
            elif known and model.alias_of is None:  # 4
                notice = TrustNotice("rewritten", model.ref, known[-1], offered)
            if notice is None:
                notices.pop(key, None)
            else:
                notices[key] = notice
                news.append(notice)
            seen[key] = (*(each for each in known if each != offered), offered)[-_MOST_HASHES:]
        return Memory(seen, notices), tuple(news)

    def notice_for(self, ref: ModelRef, offered: str) -> TrustNotice | None:
        """What stands against this version at this hash."""
        notice = self.notices.get(str(ref))
        return notice if notice is not None and notice.offered_hash == offered else None

    def to_json(self) -> dict[str, Any]:
        """As stored beside the cached index."""
        return {
            "seen": {key: list(hashes) for key, hashes in self.seen.items()},
            "notices": {
                key: [each.kind, each.known_hash, each.offered_hash] for key, each in self.notices.items()
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Memory:
        """From what `to_json` stored.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: The document has another form.
        """
        seen = {str(key): tuple(str(each) for each in hashes) for key, hashes in stored["seen"].items()}
        notices = {
            key: TrustNotice(kind, ModelRef.parse(key), str(known), str(offered))
            for key, (kind, known, offered) in stored["notices"].items()
        }
        return cls(seen, notices)
