"""Rows outlive the version that wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from tests.prompts.examples import CASES, MODELS, asked, case
from xprim_nb.errors import StorageError
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.resolve import redacted
from xprim_nb.prompts.rows import INPUTS, SCAFFOLDS, Rows
from xprim_nb.prompts.scaffold import PromptScaffold


class _Third(BaseModel):
    """What a value became after two changes: `title` was `name`, and `tags` a text."""

    model_config = ConfigDict(extra="forbid")

    title: str
    tags: tuple[str, ...] = ()


def _rename(value: dict[str, Any]) -> dict[str, Any]:
    return {"title": value.pop("name"), **value}


def _split(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "tags": value["tags"].split() if "tags" in value else []}


_ROWS = Rows(_Third, (_rename, _split))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("provider", MODELS)
def test_a_value_comes_back_from_disk(name: str, provider: str) -> None:
    """Through JSON text, and equal; what was set is not all that was said, so identity is what counts."""
    wanted = case(name, provider, "m")
    scaffold = PromptScaffold.of(wanted)
    assert INPUTS.value(json.loads(json.dumps(INPUTS.row(wanted)))) == wanted
    assert SCAFFOLDS.value(json.loads(json.dumps(SCAFFOLDS.row(scaffold)))) == scaffold


def test_a_row_says_its_schema_and_leaves_defaults_out() -> None:
    """A field that is new tomorrow is not missing in the rows of today."""
    assert INPUTS.row(asked()) == {
        "schema": 1,
        "value": {"prompt": "Go.", "provider": "anthropic", "model": "claude-opus-5"},
    }


@pytest.mark.parametrize(
    "row",
    [
        {"schema": 1, "value": {"name": "x", "tags": "a b"}},
        {"schema": 2, "value": {"title": "x", "tags": "a b"}},
        {"schema": 3, "value": {"title": "x", "tags": ["a", "b"]}},
    ],
)
def test_each_earlier_version_is_read(row: dict[str, Any]) -> None:
    """Through the steps that are missing, in order; and the row itself is left as it was."""
    before = json.dumps(row)
    assert _ROWS.version == 3
    assert _ROWS.value(row) == _Third(title="x", tags=("a", "b"))
    assert json.dumps(row) == before


def test_a_later_version_is_not_guessed_at() -> None:
    """Whoever goes back to an older package is told what to do."""
    with pytest.raises(StorageError, match="newer version") as caught:
        _ROWS.value({"schema": 4, "value": {}})
    assert "Update" in caught.value.hint


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"schema": 0, "value": {}},
        {"schema": "1", "value": {}},
        {"schema": 1, "value": []},
        {"schema": 1, "value": {}},
        {"schema": 3, "value": {"title": "x", "unheard": 1}},
    ],
)
def test_a_damaged_row_is_an_error(row: dict[str, Any]) -> None:
    """No half of a value comes back."""
    with pytest.raises(StorageError, match="cannot be read"):
        _ROWS.value(row)


def test_a_stored_prompt_holds_no_secret() -> None:
    """What is stored is what was redacted."""
    wanted = redacted(asked(prompt="ghp_" + "a" * 36), Redactor(b"k"))
    assert "aaaa" not in json.dumps(INPUTS.row(wanted))
