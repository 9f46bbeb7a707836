"""An index is parsed without trust: a broken entry blocks itself and nothing else."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb._hashing import is_digest
from xprim_nb.errors import ModelNotFoundError, RegistryError, VersionNotFoundError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.index import MAX_ALIAS_DEPTH, Index, parse_index
from xprim_nb.testing.hostile_names import ASKED, HOSTILE_INDEXES, HostileIndex

_A, _B = "a" * 64, "b" * 64
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([_A, "v1", "v2", 1.5]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["v1"]), inner)
    ),
    max_leaves=8,
)
_ENTRY = st.fixed_dictionaries(
    {"hash": st.sampled_from([_A, _B]) | _JSON},
    optional={
        "alias": st.sampled_from(["v1", "v2", "v3"]) | _JSON,
        "total_size": _JSON,
        "metadata": _JSON,
        "x": _JSON,
    },
)
_VERSIONS = st.dictionaries(st.sampled_from(["v1", "v2", "v3", "../x", ""]), _ENTRY | _JSON)
_INDEXES = st.dictionaries(
    st.sampled_from(["group", "other", "..", "cache"]),
    st.dictionaries(st.sampled_from(["model", "con", "b/c"]), _VERSIONS | _JSON) | _JSON,
)


def _parsed(index: dict[str, Any]) -> Index:
    return parse_index(json.dumps(index).encode())


def _versions(versions: dict[str, Any]) -> Index:
    return _parsed({"group": {"model": versions}})


def _ref(version: str) -> ModelRef:
    return ModelRef("group", "model", version)


def test_entries_are_read() -> None:
    """Hash, size and metadata are there; unknown keys do no harm."""
    entry = {"hash": _A, "total_size": 7, "metadata": {"license": "MIT"}, "from": "the future"}
    model = _versions({"v1": entry}).get(_ref("v1"))
    assert (model.ref, model.manifest_hash, model.total_size) == (_ref("v1"), _A, 7)
    assert (model.alias_of, dict(model.metadata)) == (None, {"license": "MIT"})
    bare = _versions({"v1": {"hash": _A}}).get(_ref("v1"))
    assert (bare.total_size, dict(bare.metadata)) == (None, {})


def test_the_index_is_sorted() -> None:
    """Models come by group, model and version, however the file is ordered."""
    index = _parsed({"b": {"x": {"2": {"hash": _A}, "1": {"hash": _A}}}, "a": {"y": {"1": {"hash": _B}}}})
    assert [str(model.ref) for model in index] == ["a/y 1", "b/x 1", "b/x 2"]
    assert [model.ref.version for model in index.versions(ModelRef("b", "x"))] == ["1", "2"]


def test_an_alias_is_followed_to_its_end() -> None:
    """An alias of an alias names the real version, and has its size and metadata unless it has its own."""
    index = _versions(
        {
            "v1": {"hash": _A, "total_size": 7, "metadata": {"k": 1}},
            "stable": {"hash": _A, "alias": "v1"},
            "latest": {"hash": _A, "alias": "stable", "metadata": {"k": 2}},
        }
    )
    stable, latest = index.get(_ref("stable")), index.get(_ref("latest"))
    assert (stable.alias_of, stable.total_size, dict(stable.metadata)) == ("v1", 7, {"k": 1})
    assert (latest.alias_of, latest.total_size, dict(latest.metadata)) == ("v1", 7, {"k": 2})
    assert index.get(_ref("v1")).alias_of is None


@pytest.mark.parametrize("depth", [1, MAX_ALIAS_DEPTH, MAX_ALIAS_DEPTH + 1, 50])
def test_chains_have_a_largest_depth(depth: int) -> None:
    """Eight aliases in a row are followed, nine are refused, and the shorter rest of a long chain still works."""
    versions: dict[str, Any] = {f"a{n}": {"hash": _A, "alias": f"a{n - 1}"} for n in range(1, depth + 1)}
    index = _versions({"a0": {"hash": _A}, **versions})
    assert index.get(_ref(f"a{min(depth, MAX_ALIAS_DEPTH)}")).alias_of == "a0"
    if depth > MAX_ALIAS_DEPTH:
        with pytest.raises(RegistryError, match="8 deep"):
            index.get(_ref(f"a{depth}"))


@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_loops_are_refused(length: int) -> None:
    """Aliases in a circle are an error for each of them, and for nothing else."""
    versions: dict[str, Any] = {f"a{n}": {"hash": _A, "alias": f"a{(n + 1) % length}"} for n in range(length)}
    index = _versions({**versions, "v1": {"hash": _A}})
    for n in range(length):
        with pytest.raises(RegistryError, match="loop"):
            index.get(_ref(f"a{n}"))
    assert index.get(_ref("v1")).manifest_hash == _A


@pytest.mark.parametrize("case", HOSTILE_INDEXES, ids=lambda case: case.name)
def test_hostile_indexes_name_no_model(case: HostileIndex) -> None:
    """What is asked for in a hostile index is a typed error with a short message, never a model."""
    with pytest.raises((RegistryError, ModelNotFoundError)) as caught:
        parse_index(case.raw).get(ModelRef.parse(ASKED))
    assert len(str(caught.value)) < 600
    assert caught.value.message.isprintable()


def test_a_broken_entry_blocks_itself_only() -> None:
    """The good versions of a model stay usable beside a broken one, and the reason for that one is known."""
    index = _versions({"v1": {"hash": _A}, "v2": {"hash": "short"}, "../v3": {"hash": _A}})
    assert [model.ref.version for model in index] == ["v1"]
    with pytest.raises(RegistryError, match="64 lower-case") as caught:
        index.get(_ref("v2"))
    assert caught.value.subject == "group/model v2"
    assert len(index.unnamed_problems) == 1
    assert "../v3" in index.unnamed_problems[0]


def test_what_a_log_is_told_has_an_end() -> None:
    """A thousand broken entries are a hundred sentences and their number; each can still be asked for."""
    broken = {f"v{number:03}": {"hash": "none"} for number in range(1000)}
    index = parse_index(json.dumps({"group": {"model": broken}}).encode())
    told = index.told_problems()
    assert (len(told), told[-1]) == (101, "900 more entries are left out.")
    assert "group/model v000" in told[0]
    with pytest.raises(RegistryError, match="v999"):
        index.get(ModelRef.parse("group/model v999"))


def test_what_is_missing_comes_with_what_is_there() -> None:
    """An unknown version lists the known ones, an unknown model the ones of a similar name."""
    index = _parsed(
        {"fast": {"tiny": {"v1": {"hash": _A}, "v2": {"hash": _A}}, "tiny.en": {"v1": {"hash": _A}}}}
    )
    with pytest.raises(VersionNotFoundError) as version:
        index.get(ModelRef("fast", "tiny", "v3"))
    assert version.value.hint == "It has: v1, v2."
    with pytest.raises(ModelNotFoundError) as model:
        index.get(ModelRef("slow", "tiny", "v1"))
    assert not isinstance(model.value, VersionNotFoundError)
    assert model.value.hint == "Did you mean fast/tiny, fast/tiny.en?"
    with pytest.raises(XprimError, match="names no version"):
        index.get(ModelRef("fast", "tiny"))


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        (("demo", "nope"), ModelNotFoundError.default_hint),
        (("demo", "tiny-lama"), "Did you mean demo/tiny-llama?"),
        (("demp", "tiny-lama"), "Did you mean demo/tiny-llama?"),
        (("group1", "model1"), "Did you mean group01/model1, group02/model1?"),
        (("else", "lora"), "Did you mean demo/lora-prose?"),
    ],
)
def test_only_what_may_have_been_meant_is_suggested(wanted: tuple[str, str], hint: str) -> None:
    """A group in common makes no two models alike, and the likeliest name comes first."""
    one = {"v1": {"hash": _A}}
    index = _parsed(
        {
            "demo": {"lora-prose": one, "tiny-llama": one},
            "group02": {"model1": one},
            "group01": {"model1": one},
        }
    )
    with pytest.raises(ModelNotFoundError) as model:
        index.get(ModelRef(*wanted, "v1"))
    assert model.value.hint == hint


def test_a_hostile_index_takes_no_more_memory_than_it_must() -> None:
    """A megabyte of broken entries under a long name is refused without a message for each of them all."""
    raw = json.dumps({"!" * 200_000: {"m": {str(n): 0 for n in range(50_000)}}}).encode()
    tracemalloc.start()
    try:
        index = parse_index(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20
    assert len(index.unnamed_problems) <= 101
    assert sum(map(len, index.unnamed_problems)) < 200_000


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused_or_an_index(raw: bytes) -> None:
    """Arbitrary bytes and arbitrary JSON give a RegistryError or an index."""
    try:
        index = parse_index(raw)
    except RegistryError:
        return
    _assert_consistent(index)


@given(_INDEXES)
def test_any_index_is_consistent(document: dict[str, Any]) -> None:
    """Whatever the entries say, each listed model can be asked for, and each problem raises when asked for."""
    _assert_consistent(_parsed(document))


def _assert_consistent(index: Index) -> None:
    assert list(index.models) == sorted(index.models)
    assert not set(index.models) & set(index.problems)
    for ref, model in index.models.items():
        assert index.get(ref) is model
        assert is_digest(model.manifest_hash)
        assert model.total_size is None or (type(model.total_size) is int and model.total_size >= 0)
        assert model in index.versions(ref)
        if model.alias_of is not None:
            end = index.get(ref.with_version(model.alias_of))
            assert end.alias_of is None
            assert end.manifest_hash == model.manifest_hash
    for ref in index.problems:
        with pytest.raises(RegistryError):
            index.get(ref)
