"""A listing of the registry carries how much it can be relied on."""

from __future__ import annotations

from xprim_nb.events import TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import IndexAnswer
from xprim_nb.registry.index import parse_index
from xprim_nb.registry.listing import RemoteListing
from xprim_nb.registry.trust import Memory

_A, _B = "a" * 64, "b" * 64


def answer() -> IndexAnswer:
    """A stale answer with three models in no order, one of them rewritten since it was first seen."""
    old, _ = Memory.empty().after(parse_index(b'{"g": {"m": {"v1": {"hash": "%s"}}}}' % _B.encode()))
    index = parse_index(
        b'{"z": {"m": {"v1": {"hash": "%(a)s"}}}, "g": {"m": {"v2": {"hash": "%(a)s"}, "v1": {"hash": "%(a)s"}}}}'
        % {b"a": _A.encode()}
    )
    memory, news = old.after(index)
    return IndexAnswer(index, "https://models.example.org", 12.5, True, "the line is down", news, memory)


def test_a_listing_is_sorted_and_says_where_it_is_from() -> None:
    """Models come sorted by ref, with the source, the age and the reason of staleness of their answer."""
    listing = RemoteListing.of(answer())
    assert [str(model.ref) for model in listing] == ["g/m v1", "g/m v2", "z/m v1"]
    assert (listing.source, listing.age_s, listing.stale, listing.why_stale) == (
        "https://models.example.org",
        12.5,
        True,
        "the line is down",
    )
    assert listing.notices == (TrustNotice("rewritten", ModelRef("g", "m", "v1"), _B, _A),)


def test_a_part_of_a_listing_is_as_reliable_as_the_whole() -> None:
    """Keeping some of the models keeps everything that is known of the answer, an empty part included."""
    listing = RemoteListing.of(answer())
    for kept, expected in (
        (listing.keeping(lambda model: model.ref.group == "z"), ["z/m v1"]),
        (listing.keeping(lambda model: False), []),
    ):
        assert isinstance(kept, RemoteListing)
        assert [str(model.ref) for model in kept] == expected
        assert (kept.source, kept.age_s, kept.stale, kept.why_stale) == (
            listing.source,
            listing.age_s,
            listing.stale,
            listing.why_stale,
        )
        assert kept.notices == listing.notices
