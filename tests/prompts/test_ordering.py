"""The order in which a prompt is sent, and the text of its parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.prompts.examples import asked, case
from xprim_nb.prompts.identity import block_hash
from xprim_nb.prompts.ordering import block_text, context_block, ordered_blocks, ordered_parts, volatility_of
from xprim_nb.prompts.values import BLOCK_TYPES, PromptBlock


def _block(content: str, **more: object) -> PromptBlock:
    return PromptBlock.model_validate({"type": "context", "content": content, **more})


def test_the_seldom_changed_comes_first() -> None:
    """Tools, schema, style guide, requirements, file map, context, messages, turn: however they were declared."""
    whole = case("whole", "vllm", "m").model_copy(update={"messages": case("talk", "vllm", "m").messages})
    sent = [(each.kind, each.label) for each in ordered_parts(whole)]
    assert sent == [
        ("tools", "tools"),
        ("schema", "response_schema"),
        ("block", "house"),
        ("block", "requirements"),
        ("block", "file_map"),
        ("block", "context"),
        ("message", "system"),
        ("message", "user"),
        ("message", "assistant"),
        ("message", "tool"),
        ("turn", "turn"),
    ]


def test_the_declared_order_is_kept() -> None:
    """Each part knows the place that it was given; what is no block has none."""
    places = {each.label: each.declared for each in ordered_parts(case("whole", "vllm", "m"))}
    assert places["requirements"] == 0
    assert places["house"] == 2
    assert places["context"] == 3
    assert places["turn"] == -1


@given(st.lists(st.integers(min_value=0, max_value=3), max_size=8))
def test_equals_keep_their_order(volatilities: list[int]) -> None:
    """Sorted by how often each changes, and otherwise as they were declared."""
    blocks = [_block(str(place), volatility=each) for place, each in enumerate(volatilities)]
    order = [place for place, _ in ordered_blocks(blocks)]
    assert order == sorted(range(len(blocks)), key=lambda place: (volatilities[place], place))


def test_a_block_may_say_how_often_it_changes() -> None:
    """Its own word counts, and 0 is one."""
    assert [
        volatility_of(PromptBlock(type=each, files={} if each == "file_map" else None))
        for each in BLOCK_TYPES
    ] == [
        30,
        60,
        10,
        80,
    ]
    assert volatility_of(_block("x", volatility=0)) == 0


def test_files_are_sorted_by_path() -> None:
    """The order of a dictionary is not sent; a path is JSON, so that no quotation mark ends it."""
    one = PromptBlock(type="file_map", files={"b.py": "2\n", 'a"é.py': "1\n"})
    two = PromptBlock(type="file_map", files={'a"é.py': "1\n", "b.py": "2\n"})
    assert block_text(one) == block_text(two)
    assert block_text(one) == (
        '<file_map>\n<file path="a\\"é.py">\n1\n\n</file>\n<file path="b.py">\n2\n\n</file>\n</file_map>\n'
    )


@given(st.sampled_from(["", "n"]), st.sampled_from([None, 5]), st.text(max_size=5))
def test_equal_hashes_are_equal_texts(name: str, volatility: int | None, content: str) -> None:
    """What is no part of a block's identity is no part of what is sent."""
    one, two = _block(content), _block(content, name=name, volatility=volatility)
    assert block_hash(one) == block_hash(two)
    assert block_text(one) == block_text(two)


def test_the_facts_of_a_call_are_one_block() -> None:
    """Canonical JSON: their order in a dictionary changes nothing that is sent."""
    assert context_block({"b": 1.0, "a": [None]}).content == '{"a":[null],"b":1}'
    one, two = (ordered_parts(asked(context=each)) for each in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one == two


def test_no_facts_are_not_empty_facts() -> None:
    """`{}` is said, None is not."""
    assert [each.kind for each in ordered_parts(asked(context={}))] == ["block", "turn"]
    assert [each.kind for each in ordered_parts(asked())] == ["turn"]
