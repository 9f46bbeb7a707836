"""One prompt, one hash: on every machine, in every process, whatever the order of a dictionary."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from types import MappingProxyType

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.identity import (
    CHANGES_ANSWER,
    SAME_ANSWER,
    block_hash,
    canonical,
    prefix_hashes,
    request_hash,
)
from xprim_nb.prompts.values import PromptBlock, ResolveInput


def test_every_field_is_classified() -> None:
    """Each setting either changes the answer or does not; a new one that nobody has thought about fails here."""
    assert not CHANGES_ANSWER & SAME_ANSWER
    assert set(ResolveInput.model_fields) == CHANGES_ANSWER | SAME_ANSWER


def test_an_integer_of_ours_is_never_a_mapping_of_somebody_else() -> None:
    """What stands for a large integer cannot be written by a user."""
    assert canonical(2**53) == b'{"$int":"9007199254740992"}'
    assert canonical({"$int": "9007199254740992"}) == b'{"$$int":"9007199254740992"}'
    assert canonical(2**53 - 1) == b"9007199254740991"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"a": [object()]}, {1: 2}, "\ud800", {"\udc00": 1}]
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    """No NaN, infinity, object, key that is no text, or half of a surrogate pair."""
    with pytest.raises(ConfigError, match="what JSON cannot"):
        canonical(value)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, {"b": float("nan")}]}, r"\$\.a\[1\]\.b is nan"),
        ({"a": {"b": object()}}, r"\$\.a\.b is object"),
        ({"a": {7: 1}}, r"a key of \$\.a is 7"),
        (["x", "\ud800"], r"\$\[1\] holds half of a surrogate pair"),
        ({"a": {"\udc00": 1}}, r"a key of \$\.a is"),
    ],
)
def test_what_json_cannot_hold_is_found(value: object, where: str) -> None:
    """The error says where it lies."""
    with pytest.raises(ConfigError, match=where):
        canonical(value)


def test_a_value_of_a_finer_type_is_its_value() -> None:
    """An enumeration, a read-only mapping: what they hold counts."""

    class Kind(enum.StrEnum):
        ONE = "one"

    class Number(enum.IntEnum):
        TWO = 2

    finer = MappingProxyType({"kind": Kind.ONE, "n": Number.TWO, "big": 2**60, "t": (True,), Kind.ONE: 1})
    assert canonical(finer) == canonical({"kind": "one", "n": 2, "big": 2**60, "t": [True], "one": 1})


def _asked(**changes: object) -> ResolveInput:
    whole: dict[str, object] = {"prompt": "Write it.", "provider": "openai", "model": "gpt-5.6", **changes}
    return ResolveInput.model_validate(whole)


def test_the_order_of_a_dictionary_and_the_style_of_a_path_are_no_part_of_it() -> None:
    """Two orders and two machines' paths: one hash."""
    there = _asked(
        blocks=[{"type": "file_map", "files": {"src/a.py": "1\r\n", "src/b.py": "2"}}],
        context={"a": 1, "b": 2.0},
    )
    here = _asked(
        blocks=[{"type": "file_map", "files": {"src\\b.py": "2", "./src/a.py": "1\n"}}],
        context={"b": 2, "a": 1},
    )
    assert request_hash(there) == request_hash(here)


def test_two_processes_agree() -> None:
    """Another interpreter, with another seed of its hashes, comes to the same."""
    code = (
        "from xprim_nb.prompts.identity import request_hash; from xprim_nb.prompts.values import ResolveInput\n"
        "print(request_hash(ResolveInput(prompt='é😀', provider='vllm', model='m', context={'ü': [1.5, None], 'a': 0})))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(seen.pop().strip()) == 64


def test_each_field_that_changes_the_answer_changes_the_hash() -> None:
    """One by one; and none of the others does."""
    other: dict[str, object] = {
        **{
            "prompt": "Other.",
            "provider": "vllm",
            "model": "gpt-6",
            "blocks": [{"type": "context", "content": "x"}],
        },
        **{"context": {"a": 1}, "messages": [{"role": "user", "content": "x"}], "tools": [{"name": "t"}]},
        **{
            "response_schema": {"type": "object"},
            "endpoint": "http://x",
            "temperature": 1,
            "top_p": 0.5,
            "top_k": 3,
        },
        **{"seed": 0, "max_tokens": 5, "stop": ["x"], "parameters": {"effort": "low"}, "loras": [("l", 1.0)]},
        **{"sample_index": 1, "scaffold_type": "t", "rulepacks": ["r"], "cache": "only", "prefix_ttl": "1h"},
        "cache_key": "k",
    }
    assert set(other) == CHANGES_ANSWER | SAME_ANSWER
    plain = request_hash(_asked())
    changed = {name for name, value in other.items() if request_hash(_asked(**{name: value})) != plain}
    assert changed == CHANGES_ANSWER


def test_a_name_or_a_note_is_no_part_of_a_block() -> None:
    """What people call a block, keep with it, or think of how often it changes, is not what it says."""
    plain = PromptBlock(type="context", content="x")
    assert block_hash(plain) == block_hash(
        PromptBlock(type="context", content="x", name="n", volatility=3, metadata={"at": "2026-01-01"})
    )
    assert block_hash(plain) != block_hash(PromptBlock(type="requirements", content="x"))


def test_prefixes_are_chained() -> None:
    """Equal up to the first difference, and different for ever after; another root shares nothing."""
    one, two = prefix_hashes(["a", "b", "c"]), prefix_hashes(["a", "x", "c"])
    assert one[0] == two[0]
    assert not set(one[1:]) & set(two[1:])
    assert not set(one) & set(prefix_hashes(["a", "b", "c"], root="tenant"))


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_scalars = (
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False) | _texts
)
_values = st.recursive(
    _scalars.filter(lambda value: not isinstance(value, float) or math.isfinite(value)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_texts.filter(lambda key: not key.startswith("$")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_values)
def test_the_fast_spelling_is_the_canonical_one(value: object) -> None:
    """Whatever is written by the faster library, the canonical one writes to the same byte."""
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # any JSON value


@given(st.sampled_from([-1, 1]), st.floats(1e-4, 1e16), st.integers(0, 17))
def test_a_number_has_one_spelling(sign: int, number: float, digits: int) -> None:
    """Fractions at and around the edges of what is written without an exponent."""
    value = sign * round(number, digits)
    assert canonical([value]) == rfc8785.dumps([value])


@pytest.mark.parametrize(
    "number", [1e-3, 9.999e-4, 0.1, 1e15 + 0.5, 1e15 - 0.125, 1e21, 1e-7, 5e-324, 2.0**53, -0.0]
)
def test_a_number_at_an_edge_has_one_spelling(number: float) -> None:
    """Where one library would change to an exponent and the other would not."""
    assert canonical({"a": number}) == rfc8785.dumps({"a": number})
