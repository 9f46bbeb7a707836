"""What stays of a prompt from call to call."""

from __future__ import annotations

import pytest

from tests.prompts.examples import asked, case
from xprim_nb.prompts.identity import CHANGES_ANSWER
from xprim_nb.prompts.scaffold import PromptScaffold


def _hash(**changes: object) -> str:
    return PromptScaffold.of(asked(**changes)).hash  # type: ignore[arg-type]  # a test names what it wants


def test_blocks_stand_as_they_are_sent() -> None:
    """And their declared places with them."""
    made = PromptScaffold.of(case("whole", "anthropic", "claude-opus-5"))
    assert [each.type for each in made.blocks] == ["style_guide", "requirements", "file_map"]
    assert made.declared == (2, 0, 1)
    assert made.temperature == 0.5
    assert made.seed == 3
    assert [each.name for each in made.tools] == ["read", "stop"]
    assert made.settings["top_k"] == 7
    assert made.settings["stop"] == ["END", " "]
    assert "endpoint" not in made.settings


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "Other."},
        {"context": {"a": 1}},
        {"messages": [{"role": "user", "content": "x"}]},
        {"sample_index": 4},
        {"scaffold_type": "t"},
        {"cache": "bypass"},
    ],
)
def test_what_is_new_in_a_call_is_no_part_of_it(changes: dict[str, object]) -> None:
    """Another turn is made on the same scaffold."""
    assert _hash(**changes) == _hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": [{"type": "context", "content": "x"}]},
        {"model": "other"},
        {"provider": "vllm"},
        {"temperature": 1},
        {"seed": 0},
        {"tools": [{"name": "t"}]},
        {"response_schema": {"type": "object"}},
        {"parameters": {"effort": "low"}},
        {"endpoint": "http://x"},
    ],
)
def test_what_stays_is_part_of_it(changes: dict[str, object]) -> None:
    """One by one."""
    assert next(iter(changes)) in CHANGES_ANSWER
    assert _hash(**changes) != _hash()


def test_the_order_in_which_blocks_are_sent_is_part_of_it() -> None:
    """Two blocks that change places are another prefix, even where the declared order is the same."""
    blocks = [{"type": "context", "content": "a"}, {"type": "context", "content": "b"}]
    first, second = ([{**blocks[0], "volatility": each}, blocks[1]] for each in (10, 90))
    assert _hash(blocks=first) != _hash(blocks=second)
