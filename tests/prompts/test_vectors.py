"""The vectors that Python and JavaScript share, and that nobody may change: they are the format."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import xprim_nb
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.identity import (
    CHANGES_ANSWER,
    block_hash,
    canonical,
    file_map_hash,
    message_hash,
    prefix_hashes,
    rendered_hash,
    request_hash,
    schema_hash,
    tools_hash,
)
from xprim_nb.prompts.values import Message, PromptBlock, ResolveInput, Tool

_VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))
_ROOT = Path(xprim_nb.__file__).parents[1]
_SAFE = 2**53 - 1

# `ResolveInput` counts its fields in full: JavaScript has no defaults of ours.
_HASHES: dict[str, Callable[[Any], Any]] = {
    "file_maps": file_map_hash,
    "blocks": lambda value: block_hash(PromptBlock.model_validate(value)),
    "messages": lambda value: message_hash(Message.model_validate(value)),
    "schemas": schema_hash,
    "tools": lambda value: tools_hash(Tool.model_validate(each) for each in value),
    "requests": lambda value: request_hash(ResolveInput.model_validate(value)),
    "prefixes": lambda value: list(prefix_hashes(value["hashes"], root=value["root"])),
    "rendered": lambda value: rendered_hash(value["renderer"], value["body"].encode("utf-8")),
}


def decoded(value: Any) -> Any:
    """What JSON cannot say itself, said by an object of one key."""
    match value:
        case {"«int»": number, **rest} if not rest:
            return int(number)
        case {"«float»": number, **rest} if not rest:
            return float(number.replace("Infinity", "inf"))
        case dict():
            return {key: decoded(each) for key, each in value.items()}
        case list():
            return [decoded(each) for each in value]
        case _:
            return value


@pytest.mark.parametrize("vector", _VECTORS["canonical"], ids=lambda vector: vector["name"])
def test_canonical_json(vector: dict[str, Any]) -> None:
    """RFC 8785, and our own word for integers that are no double."""
    assert canonical(decoded(vector["value"])).decode("utf-8") == vector["canonical"]


@pytest.mark.parametrize("vector", _VECTORS["refused"], ids=lambda vector: vector["name"])
def test_what_is_refused(vector: dict[str, Any]) -> None:
    """Here as there."""
    with pytest.raises(ConfigError):
        canonical(decoded(vector["value"]))


@pytest.mark.parametrize(
    ("kind", "vector"),
    [(kind, vector) for kind in _HASHES for vector in _VECTORS[kind]],
    ids=lambda each: each["name"] if isinstance(each, dict) else each,
)
def test_hashes(kind: str, vector: dict[str, Any]) -> None:
    """Each kind, from what it is made of."""
    assert _HASHES[kind](decoded(vector["value"])) == vector["hash"]


def test_the_vectors_say_all_there_is_to_say() -> None:
    """Requests are written in full, and the fields that count are those that count."""
    assert _VECTORS["fields"] == sorted(CHANGES_ANSWER)
    for vector in _VECTORS["requests"]:
        assert set(vector["value"]) == set(ResolveInput.model_fields)


@pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed; CI runs the same file with it"
)
def test_javascript_agrees() -> None:
    """The same file, checked by a program that shares no line with ours."""
    done = subprocess.run(
        [
            "node",
            "--test",
            "--test-reporter=tap",
            str(_ROOT / "widgets" / "tests" / "prompt_vectors.test.js"),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    kinds = [*_HASHES, "canonical", "refused"]
    assert int(passed[1]) == sum(len(_VECTORS[kind]) for kind in kinds)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-_SAFE, max_value=_SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=12,
)


@given(_JSON)
def test_the_fast_way_writes_the_same_bytes(value: Any) -> None:
    """Whatever the value, it is what RFC 8785's own library makes of it, but for keys that begin with `$`."""
    if "$" not in repr(value):
        assert canonical(value) == rfc8785.dumps(value)
