"""What every checkpoint saver promises, as a pytest suite.

It needs pytest, pytest-asyncio in auto mode, and langgraph-checkpoint-conformance.

    class TestMySaver(CheckpointContract):
        @pytest.fixture
        def saver(self, tmp_path: Path) -> Iterator[Saver]:
            with SqliteSaver.open(tmp_path / "runs.sqlite") as saver:      # empty
                yield saver

The public suite of LangGraph is run twice: as it is, and through `SyncOnly`, which calls the methods without an `a` on the
event loop's own thread, where a notebook's cells call them. It reports success while it skips what it does not find,
so each of the eight capabilities must have been found.

Source: langgraph-checkpoint-conformance 0.0.2; spec 6 §Checkpoints; research prompts §0.1, §1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from xprim_nb.prompts.checkpoints import Saver
from xprim_nb.testing.checkpoints_given import Given, at, long, put, values_of
from xprim_nb.testing.checkpoints_shared import Shared

__all__ = ["CheckpointContract", "SyncOnly"]

_CONFORMANCE_TESTS = 81


class SyncOnly(BaseCheckpointSaver[Any]):
    """A saver whose methods for event loops call the others where they are."""

    def __init__(self, inner: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=inner.serde)
        self.inner = inner

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`get_tuple`, here."""
        return self.inner.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        **how: Any,  # handed on
    ) -> AsyncIterator[CheckpointTuple]:
        """`list`, here."""
        for each in self.inner.list(config, **how):
            yield each

    async def aput(self, *what: Any) -> RunnableConfig:
        """`put`, here."""
        return self.inner.put(*what)

    async def aput_writes(self, *what: Any, **how: Any) -> None:  # handed on
        """`put_writes`, here."""
        self.inner.put_writes(*what, **how)

    async def adelete_thread(self, thread_id: str) -> None:
        """`delete_thread`, here."""
        self.inner.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`delete_for_runs`, here."""
        self.inner.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`copy_thread`, here."""
        self.inner.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`prune`, here."""
        self.inner.prune(thread_ids, strategy=strategy)


_VALUES: list[object] = [
    None,
    0,
    "",
    long("text"),
    b"bytes" * 40,
    bytearray(b"bytes" * 40),
    [],
    [None, 1, 2.5, True, "x", b"y"],
    [long("a"), None, b"b" * 100, {"deep": [1, [2, {"er": long("c")}]]}, long("a")],
    [[long("nested")], [long("nested")]],
    list(range(1000)),
    [long(str(number)) for number in range(16)],
    [long(str(number)) for number in range(17)],
    [long(str(number)) for number in range(300)],
    {"a": 1, 2: "two"},
    {1, 2, 3},
    [HumanMessage("hello", id="1"), AIMessage(long("world"), id="2")],
    _DeltaSnapshot([long("a"), long("b")]),
    _DeltaSnapshot({"a": long("b")}),
]


async def _conformance(saver: BaseCheckpointSaver[Any]) -> None:
    @checkpointer_test(name=type(saver).__name__)
    async def opened() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        yield saver

    report = await validate(opened)
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert [name for name, result in report.results.items() if not result.detected] == []
    assert sum(result.tests_passed for result in report.results.values()) == _CONFORMANCE_TESTS


class _Conforming(Given):
    async def test_it_conforms_on_an_event_loop(self, saver: Saver) -> None:
        """LangGraph's own suite finds all eight capabilities, and every test of it passes."""
        await _conformance(saver)

    async def test_it_conforms_without_one(self, saver: Saver) -> None:
        """So it does by the methods without an `a`, called on the event loop's own thread."""
        await _conformance(SyncOnly(saver))


class _Values(Given):
    def test_a_value_comes_back_as_it_was(self, saver: Saver) -> None:
        """What was put is got, of the same type, whatever its size and shape, as a channel's value and as a write."""
        for number, value in enumerate(_VALUES):
            config = put(saver, at(f"thread {number}"), {"channel": value})
            saver.put_writes(config, [("channel", value)], "task")
            found = saver.get_tuple(config)
            assert found is not None
            assert found.pending_writes is not None
            for back in (found.checkpoint["channel_values"]["channel"], found.pending_writes[0][2]):
                assert back == value
                assert type(back) is type(value)

    def test_what_was_handed_in_may_be_changed(self, saver: Saver) -> None:
        """A list, its items and a message that change after they were put change nothing that was kept."""
        message, entry = HumanMessage(long("before"), id="1"), {"text": long("before")}
        values: dict[str, list[Any]] = {"messages": [message], "entries": [entry]}
        first = put(saver, at("t"), values)
        message.content, entry["text"] = "after", "after"
        values["entries"].append({"text": "more"})
        second = put(saver, first, values, version=2)
        assert values_of(saver, first) == {
            "messages": [HumanMessage(long("before"), id="1")],
            "entries": [{"text": long("before")}],
        }
        assert values_of(saver, second)["messages"][0].content == "after"
        assert values_of(saver, second)["entries"] == [{"text": "after"}, {"text": "more"}]

    def test_what_was_handed_out_may_be_changed(self, saver: Saver) -> None:
        """Whoever changes what they got changes nothing that others get."""
        values = {"messages": [HumanMessage(long("before"), id="1")], "map": {"text": long("before")}}
        config = put(saver, at("t"), values)
        saver.put_writes(config, [("messages", [{"text": long("write")}])], "task")
        for _ in range(3):
            given = saver.get_tuple(config)
            assert given is not None
            assert given.pending_writes == [("task", "messages", [{"text": long("write")}])]
            assert given.checkpoint["channel_values"] == values
            assert given.checkpoint["channel_versions"]["map"] == 1
            assert given.metadata["step"] == 1
            given.checkpoint["channel_values"]["messages"][0].content = "changed"
            given.checkpoint["channel_values"]["messages"][0].additional_kwargs["changed"] = True
            given.checkpoint["channel_values"]["map"]["text"] = "changed"
            given.checkpoint["channel_versions"]["map"] = 99
            given.pending_writes[0][2][0]["text"] = "changed"
            given.metadata["step"] = 99

    def test_what_was_listed_may_be_changed(self, saver: Saver) -> None:
        """Steps that have a value in common are listed with one each, and each belongs to whoever gets it."""
        items = [HumanMessage(long(str(number)), id=str(number)) for number in range(20)]
        config = at("t")
        for number in range(10):
            config = put(
                saver,
                config,
                {"messages": items[: 10 + number], "map": {"text": [long("x")]}},
                version=number,
            )
            saver.put_writes(config, [("messages", [items[0]])], "task")
        for number, each in enumerate(saver.list(at("t"))):
            assert each.checkpoint["channel_values"] == {
                "messages": items[: 19 - number],
                "map": {"text": [long("x")]},
            }
            assert each.pending_writes == [("task", "messages", [items[0]])]
            for message in (*each.checkpoint["channel_values"]["messages"], each.pending_writes[0][2][0]):
                message.content = "changed"
                message.additional_kwargs["changed"] = True
            each.checkpoint["channel_values"]["map"]["text"].append("changed")

    def test_true_and_one_are_not_confused(self, saver: Saver) -> None:
        """Values that are equal in Python and differ in type are kept apart."""
        first = put(saver, at("t"), {"items": [1, long("x")]})
        second = put(saver, first, {"items": [True, long("x")]}, version=2)
        third = put(saver, second, {"items": [1.0, long("x")]}, version=3)
        kinds = [type(values_of(saver, config)["items"][0]) for config in (first, second, third)]
        assert kinds == [int, bool, float]

    def test_nothing_is_pickled(self, saver: Saver) -> None:
        """What the serialiser cannot take is refused when it is put, and nothing of it is kept."""
        with pytest.raises(TypeError):
            put(saver, at("t"), {"channel": object()})
        assert saver.get_tuple(at("t")) is None

    def test_the_allow_list_is_respected(self, saver: Saver) -> None:
        """A type that is not allowed comes back as plain data; one that the graph allows comes back as itself."""
        config = put(saver, at("t"), {"channel": _Unregistered(long("x"))})
        saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        assert values_of(saver, config)["channel"] == {"text": long("x")}
        allowing = saver.with_allowlist([(_Unregistered.__module__, _Unregistered.__name__)])
        assert values_of(allowing, config)["channel"] == _Unregistered(long("x"))
        assert values_of(saver, config)["channel"] == {"text": long("x")}


class _Unregistered:
    """A type that LangGraph does not know."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def _asdict(self) -> dict[str, str]:  # how LangGraph's serialiser knows a named tuple
        return {"text": self.text}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unregistered) and other.text == self.text

    __hash__ = None  # type: ignore[assignment]  # compared, never a key


class CheckpointContract(_Conforming, _Values, Shared):
    """Subclass it as `Test…` and give it the fixture `saver`."""
