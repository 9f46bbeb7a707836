"""Trust on first use: remember what the index said, and notice when it changes its story.

    1. A version never seen before is remembered.
    2. The hash seen last again: nothing to say; an earlier notice about it still stands.
    3. A hash seen earlier and since superseded: a rollback.
    4. A new hash under an immutable (non-alias) version: rewritten, also where the version becomes an alias with the
       new hash, or became one before with the old.
    5. A new hash under an alias: that is what aliases are for.

Source: spec 1 §Client; TUF's remembered client state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        fixed: For each version that ever was an immutable one, the hash it last had as such.
    """

    seen: Mapping[str, tuple[str, ...]]
    notices: Mapping[str, TrustNotice]
    fixed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Memory:
        """A memory that knows nothing yet."""
        return cls({}, {})

    def after(self, index: Index) -> tuple[Memory, tuple[TrustNotice, ...]]:
        """The memory with `index` taken in, and what is new against it."""
        seen, notices, fixed, news = dict(self.seen), dict(self.notices), dict(self.fixed), []
        for model in index:
            key, offered = str(model.ref), model.manifest_hash
            known, was_fixed = seen.get(key, ()), fixed.get(key)
            if model.alias_of is None:
                fixed[key] = offered
            if known and known[-1] == offered:  # 2
                continue
            notice = None
            if offered in known:  # 3
                notice = TrustNotice("rollback", model.ref, known[-1], offered)
            elif known and (model.alias_of is None or known[-1] == was_fixed):  # 4
                notice = TrustNotice("rewritten", model.ref, known[-1], offered)
            if notice is None:
                notices.pop(key, None)
            else:
                notices[key] = notice
                news.append(notice)
            seen[key] = (*(each for each in known if each != offered), offered)[-_MOST_HASHES:]
        return Memory(seen, notices, fixed), tuple(news)

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
            "fixed": dict(self.fixed),
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
        fixed = stored.get("fixed", {})  # not remembered before it was asked for
        return cls(seen, notices, {str(key): str(digest) for key, digest in fixed.items()})
