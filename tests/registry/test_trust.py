"""What is remembered of an index, and when it changes its story."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb._hashing import Digest
from xprim_nb.events import TrustNotice
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import Index, RemoteModel
from xprim_nb.registry.trust import Memory

_REF = ModelRef("group", "model", "v1")
_LATEST = ModelRef("group", "model", "latest")
_A, _B, _C = ("a" * 64, "b" * 64, "c" * 64)


def index(digest: str, *, alias: bool = False) -> Index:
    """An index with one entry."""
    ref = _LATEST if alias else _REF
    return Index({ref: RemoteModel(ref, Digest(digest), alias_of="v1" if alias else None)}, {})


def _entry(digest: str, *, alias: bool) -> Index:
    """An index in which v1 is a version of its own, or an alias."""
    found = RemoteModel(_REF, Digest(digest), alias_of="v2" if alias else None)
    return Index({_REF: found}, {})


def told(*digests: str, alias: bool = False) -> list[list[str]]:
    """The kinds of news after each of these, offered one after the other."""
    memory, kinds = Memory.empty(), list[list[str]]()
    for digest in digests:
        memory, news = memory.after(index(digest, alias=alias))
        kinds.append([str(each.kind) for each in news])
    return kinds


@pytest.mark.parametrize(
    ("digests", "kinds"),
    [
        ([_A], [[]]),
        ([_A, _A, _A], [[], [], []]),
        ([_A, _B], [[], ["rewritten"]]),
        ([_A, _B, _A], [[], ["rewritten"], ["rollback"]]),
        ([_A, _B, _C, _A], [[], ["rewritten"], ["rewritten"], ["rollback"]]),
        ([_A, _B, _B], [[], ["rewritten"], []]),
    ],
)
def test_an_immutable_version_must_not_move(digests: list[str], kinds: list[list[str]]) -> None:
    """A version that names another manifest is news once for each move: rewritten, or rolled back."""
    assert told(*digests) == kinds


@pytest.mark.parametrize(
    ("digests", "kinds"),
    [
        ([_A, _B, _C], [[], [], []]),
        ([_A, _B, _A], [[], [], ["rollback"]]),
        ([_A, _B, _A, _C], [[], [], ["rollback"], []]),
    ],
)
def test_an_alias_may_move_forward(digests: list[str], kinds: list[list[str]]) -> None:
    """Following new releases is what aliases are for; going back to an old one is told."""
    assert told(*digests, alias=True) == kinds


@pytest.mark.parametrize("first_as_alias", [False, True])
def test_a_version_cannot_be_rewritten_by_making_it_an_alias(first_as_alias: bool) -> None:
    """A version that was immutable is told when its hash moves under an alias entry, in one step or in two."""
    memory, _ = Memory.empty().after(_entry(_A, alias=False))
    if first_as_alias:
        memory, news = memory.after(_entry(_A, alias=True))
        assert news == ()
    memory = Memory.from_json(json.loads(json.dumps(memory.to_json())))
    memory, news = memory.after(_entry(_B, alias=True))
    assert [each.kind for each in news] == ["rewritten"]
    memory, news = memory.after(_entry(_C, alias=True))
    assert news == (), "an alias since then, it may move on"


def test_a_memory_of_before_is_read() -> None:
    """A file that does not say which versions were immutable is no error, and tells what it can."""
    stored = Memory.empty().after(_entry(_A, alias=False))[0].to_json()
    del stored["fixed"]
    memory, news = Memory.from_json(stored).after(_entry(_B, alias=False))
    assert [each.kind for each in news] == ["rewritten"]
    assert memory.fixed == {str(_REF): _B}


def test_a_notice_stands_until_it_is_resolved() -> None:
    """What was told stays findable while the same hash is offered, and is gone when the alias moves on."""
    memory = Memory.empty()
    for digest in (_A, _B, _A):
        memory, _ = memory.after(index(digest, alias=True))
    for _ in range(3):
        memory, news = memory.after(index(_A, alias=True))
        assert news == ()
        assert memory.notice_for(_LATEST, _A) == TrustNotice("rollback", _LATEST, _B, _A)
    assert memory.notice_for(_LATEST, _B) is None
    memory, _ = memory.after(index(_C, alias=True))
    assert memory.notice_for(_LATEST, _C) is None
    assert dict(memory.notices) == {}


def test_a_version_that_disappears_is_not_forgotten() -> None:
    """Taking a version out of the index for a while does not hide that it was rewritten."""
    memory, _ = Memory.empty().after(index(_A))
    memory, news = memory.after(Index({}, {}))
    assert news == ()
    _, news = memory.after(index(_B))
    assert [each.kind for each in news] == ["rewritten"]


def test_a_rollback_is_recognised_over_many_releases() -> None:
    """Thirty releases later an old manifest is still known; memory does not grow without end."""
    digests = [f"{number:064x}" for number in range(200)]
    memory = Memory.empty()
    for digest in digests:
        memory, news = memory.after(index(digest, alias=True))
        assert news == ()
    assert len(memory.seen[str(_LATEST)]) < 100
    _, news = memory.after(index(digests[-30], alias=True))
    assert [each.kind for each in news] == ["rollback"]


@given(st.lists(st.sampled_from([_A, _B, _C]), max_size=12), st.booleans())
def test_memory_survives_the_disk(digests: list[str], alias: bool) -> None:
    """Stored as JSON and read again at any moment, memory tells the same from then on."""
    kept = stored = Memory.empty()
    for digest in digests:
        kept, news = kept.after(index(digest, alias=alias))
        stored, again = Memory.from_json(json.loads(json.dumps(stored.to_json()))).after(
            index(digest, alias=alias)
        )
        assert again == news
    assert stored.to_json() == kept.to_json()


@given(st.lists(st.sampled_from([_A, _B, _C]), min_size=1, max_size=12))
def test_every_move_of_a_version_is_told(digests: list[str]) -> None:
    """However a version moves: as many notices as moves, each a rollback exactly when the hash was seen before."""
    kinds = told(*digests)
    for number, kind in enumerate(kinds):
        if number == 0 or digests[number] == digests[number - 1]:
            assert kind == []
        else:
            assert kind == ["rollback" if digests[number] in digests[:number] else "rewritten"]
