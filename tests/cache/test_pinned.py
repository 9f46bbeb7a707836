"""What a damaged `registry.json` still says of pins, and what a model's own directory says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.cache.layout import Layout
from xprim_nb.cache.pinned import pin_beside, pins_left_in, repeat_pin

_names = st.sampled_from(["a", "b", 'c"{', "pinned", "d}"])
_values = st.sampled_from(
    [{"at": "2026-01-01", "reason": 'mine "}{'}, True, "yes", {"pinned": {"x": [1, "{"]}}]
)
_entries = st.fixed_dictionaries(
    {"manifest_hash": st.just("f" * 8)}, optional={"pinned": _values, "x": _values}
)
_documents = st.dictionaries(_names, st.dictionaries(_names, st.dictionaries(_names, _entries)))


def _pins(document: dict[str, Any]) -> dict[tuple[str, str, str], Any]:
    return {
        (group, model, version): entry["pinned"]
        for group, models in document.items()
        for model, versions in models.items()
        for version, entry in versions.items()
        if "pinned" in entry
    }


@given(document=_documents, share=st.floats(0, 1), indented=st.booleans())
def test_what_is_left_tells_no_pin_that_was_not(
    document: dict[str, Any], share: float, indented: bool
) -> None:
    """Of a list that ends anywhere each pin before the end is found, and nothing is made up; of a whole one all are."""
    raw = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indented else 0)
    assert pins_left_in(raw) == _pins(document)
    for key, value in pins_left_in(raw[: int(len(raw) * share)]).items():
        assert _pins(document)[key] == value


@given(raw=st.binary(max_size=200))
def test_garbage_is_read_to_its_end(raw: bytes) -> None:
    """Whatever lies there, nothing is raised, and every pin that is found has the names that it needs."""
    for torn in (raw, b'{"g": {"m": {"v": {"pinned": ' + raw):
        assert all(len(key) == 3 for key in pins_left_in(torn))


def test_what_cannot_be_written_is_told_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The list has the pin; a model in a place that cannot be written only lacks its repetition."""
    layout, model = Layout(tmp_path, ".xprim"), tmp_path / "g" / "m" / "v"
    repeat_pin(layout, model, {"reason": "mine"})
    assert not model.exists()
    layout.pin_file(model).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        repeat_pin(layout, model, {"reason": "mine"})
        assert pin_beside(layout, model) == {"reason": ""}
    assert "the pin lies in registry.json alone" in caplog.text
