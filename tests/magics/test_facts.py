"""What values have to tell: every one has facts, and nothing a registry says can disturb their layout."""

from __future__ import annotations

import dataclasses

import pytest

from xprim_nb import ModelRef
from xprim_nb._hashing import Digest
from xprim_nb.cache import values
from xprim_nb.magics import faces
from xprim_nb.magics.facts import FACTS, facts_html, facts_of, facts_text
from xprim_nb.registry.index import RemoteModel

_REF = ModelRef("demo", "tiny", "v1")


def _facts_of(value: object) -> str:
    return facts_text(facts_of(value))


@pytest.mark.parametrize(
    "name", [name for name in values.__all__ if dataclasses.is_dataclass(getattr(values, name))]
)
def test_every_value_has_facts(name: str) -> None:
    """No value that leaves the cache shows as a row of raw fields in a notebook."""
    assert ("xprim_nb.cache.values", name) in FACTS


def test_every_value_with_facts_is_shown() -> None:
    """What the extension registers, without loading the facts, is what has some."""
    shown = {(module, name) for module, names in faces.SHOWN.items() for name in names.split()}
    assert shown == set(FACTS)


def test_facts_escape_and_align() -> None:
    """Facts are aligned lines, further lines under the first, and escaped table rows."""
    facts = {"Model": "a <b>", "Files": "one\ntwo"}
    assert facts_text(facts) == "Model:  a <b>\nFiles:  one\n        two"
    assert "a &lt;b&gt;" in facts_html(facts)


def test_pairs_are_two_columns() -> None:
    """Files stand in one column and their sizes in another, as text and as HTML."""
    facts = {"Files": (("model.safetensors", "3.2 MB"), ("<x>", "1 B"))}
    assert facts_text(facts) == "Files:  model.safetensors  3.2 MB\n        <x>                1 B"
    assert "<span>&lt;x&gt;</span><span>1 B</span>" in facts_html(facts)


def test_control_characters_are_shown() -> None:
    """Metadata can neither drive a terminal nor turn a line around in a page."""
    model = RemoteModel(_REF, Digest("0" * 64), metadata={"note": "\x1b[31mred \u202eabc\u200f"})
    facts = FACTS["xprim_nb.registry.index", "RemoteModel"](model)
    for shown in (facts_text(facts), facts_html(facts)):
        assert "\\x1b[31mred \\u202eabc\\u200f" in shown
        assert not set(shown) & set("\x1b\u202e\u200f")


def test_one_chunk_is_no_chunks() -> None:
    """Numbers agree with their nouns, and a plan says nothing of sources it does not use."""
    plan = values.PullPlan(
        ref=_REF,
        manifest_hash="0" * 64,
        status="install",
        installed_hash=None,
        files=(),
        total_size=2048,
        bytes_present=0,
        bytes_local=0,
        bytes_network=2048,
        bytes_repeated=0,
        chunks_total=1,
        chunks_present=0,
        chunks_local=0,
        chunks_network=1,
        local_models={},
        disk_needed=2048,
        disk_free=1024,
    )
    assert _facts_of(plan).splitlines()[3:] == [
        "To fetch:  2.0 KB in 1 chunk",
        "Disk:      2.0 KB needed, 1.0 KB free: 1.0 KB short",
    ]


def test_receipt_says_where_bytes_came_from() -> None:
    """A receipt names each source it used, and no other."""
    receipt = values.Receipt(
        bytes_network=1024,
        chunks_network=1,
        bytes_local=2048,
        chunks_local=2,
        local_models={"a/b v1": 2},
        seconds=1.5,
    )
    assert _facts_of(receipt).splitlines() == [
        "Fetched:       1.0 KB in 1 chunk",
        "This machine:  2.0 KB in 2 chunks, from a/b v1",
        "Written:       0 B",
        "Took:          1.5 s",
    ]
