"""Real graphs on both databases: interrupts, subgraphs, delta channels, time travel, and what pruning leaves of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, interrupt

from xprim_nb.prompts.checkpoints import Saver

Open = Callable[[], Saver]


def _append(state: list[str], writes: Sequence[list[str]]) -> list[str]:
    return [*state, *(each for write in writes for each in write)]


class Chat(TypedDict):
    """Messages that grow, a log made of deltas, and a count."""

    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], DeltaChannel(_append, list, snapshot_frequency=4)]
    count: Annotated[int, operator.add]


def _config(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}}


def _chat(saver: Saver) -> Any:
    def answer(state: Chat) -> dict[str, Any]:
        number = state["count"]
        return {"messages": [HumanMessage(f"answer {number} " * 20)], "log": [f"step {number}"], "count": 1}

    builder = StateGraph(Chat)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


def _run_chat(graph: Any, thread: str, rounds: int) -> None:
    for number in range(rounds):
        graph.invoke({"messages": [HumanMessage(f"question {number} " * 20)]}, _config(thread))


class Approval(TypedDict):
    """What was done, and who said so."""

    done: Annotated[list[str], operator.add]


def _approval(saver: Saver, calls: list[str]) -> Any:
    """Two nodes at once, of which one asks, inside a subgraph that asks too."""

    def tool(state: Approval) -> dict[str, list[str]]:
        calls.append("tool")
        return {"done": ["tool"]}

    def ask(state: Approval) -> dict[str, list[str]]:
        return {"done": [f"asked {interrupt('may I?')}"]}

    def inside(state: Approval) -> dict[str, list[str]]:
        calls.append("inside")
        return {"done": ["inside"]}

    inner = StateGraph(Approval)
    inner.add_node("inside", inside)
    inner.add_node("ask", ask)
    inner.add_edge(START, "inside")
    inner.add_edge("inside", "ask")
    outer = StateGraph(Approval)
    outer.add_node("tool", tool)
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "tool")
    outer.add_edge(START, "inner")
    return outer.compile(checkpointer=saver)


def test_a_chat_goes_on_in_another_process(open_saver: Open) -> None:
    """A thread is continued by a saver that remembers nothing of it; state and history are whole."""
    with open_saver() as saver:
        _run_chat(_chat(saver), "t", 6)
    with open_saver() as saver:
        graph = _chat(saver)
        _run_chat(graph, "t", 1)
        values = graph.get_state(_config("t")).values
        assert values["log"] == [f"step {number}" for number in range(7)]
        assert len(values["messages"]) == 14
        history = list(graph.get_state_history(_config("t")))
        assert [len(each.values.get("log", [])) for each in history] == sorted(
            (len(each.values.get("log", [])) for each in history), reverse=True
        )


def test_delta_channels_survive_pruning(open_saver: Open) -> None:
    """After each number of steps a pruned thread still has its whole log, goes on, and is shorter than it was."""
    with open_saver() as saver:
        graph = _chat(saver)
        for rounds in (1, 3, 4, 5, 8):
            thread = f"t{rounds}"
            _run_chat(graph, thread, rounds)
            before = len(list(saver.list(_config(thread))))
            saver.prune([thread])
            kept = len(list(saver.list(_config(thread))))
            assert kept <= 4 * 3  # a full value comes every four rounds, and a round makes three checkpoints
            assert rounds < 5 or kept < before
            state = _chat(saver).get_state(_config(thread))
            assert state.values["log"] == [f"step {number}" for number in range(rounds)]
            _run_chat(graph, thread, 1)
            assert graph.get_state(_config(thread)).values["log"] == [
                f"step {each}" for each in range(rounds + 1)
            ]


async def test_delta_channels_are_read_on_an_event_loop(open_saver: Open) -> None:
    """The same graph runs and reads by the methods for event loops."""
    async with open_saver() as saver:
        graph = _chat(saver)
        for number in range(7):
            await graph.ainvoke({"messages": [HumanMessage(f"question {number}")]}, _config("t"))
        await saver.aprune(["t"])
        state = await graph.aget_state(_config("t"))
        assert state.values["log"] == [f"step {number}" for number in range(7)]


def test_a_pruned_thread_that_waits_goes_on_where_it_was(open_saver: Open) -> None:
    """What finished beside and inside the asking subgraph is not done again after pruning and reopening."""
    calls: list[str] = []
    with open_saver() as saver:
        graph = _approval(saver, calls)
        graph.invoke({"done": ["start"]}, _config("t"))
        assert sorted(calls) == ["inside", "tool"]
        saver.prune(["t"])
    with open_saver() as saver:
        graph = _approval(saver, calls)
        assert [each.value for each in graph.get_state(_config("t")).interrupts] == ["may I?"]
        saver.copy_thread("t", "copy")
        for thread in ("t", "copy"):
            done = graph.invoke(Command(resume="yes"), _config(thread))["done"]
            assert sorted(done) == ["asked yes", "inside", "start", "start", "tool"]
        assert sorted(calls) == ["inside", "tool"]


def test_a_branch_that_waits_is_kept(open_saver: Open) -> None:
    """A tip that waits for an answer is kept beside the newest, and can still be answered."""
    calls: list[str] = []
    with open_saver() as saver:
        graph = _approval(saver, calls)
        graph.invoke({"done": ["start"]}, _config("t"))
        waiting = graph.get_state(_config("t")).config
        first = list(graph.get_state_history(_config("t")))[-1].config
        graph.update_state(first, {"done": ["another way"]}, as_node="tool")
        saver.prune(["t"])
        assert graph.get_state(waiting).interrupts
        assert graph.get_state(_config("t")).values["done"] == ["another way"]


def test_finished_calls_of_subgraphs_go(open_saver: Open) -> None:
    """A thread that called a subgraph many times keeps nothing of the calls that are over."""
    with open_saver() as saver:
        graph = _approval(saver, [])
        for _ in range(3):
            graph.invoke({"done": ["start"]}, _config("t"))
            graph.invoke(Command(resume="yes"), _config("t"))
        saver.prune(["t"])
        assert len(list(saver.list(_config("t")))) == 1
        assert len(graph.invoke({"done": []}, _config("t"))["done"]) > 3


def test_time_travel_leaves_both_branches(open_saver: Open) -> None:
    """Going back and on from there makes a branch; both tips have their own values, delta channels included."""
    with open_saver() as saver:
        graph = _chat(saver)
        _run_chat(graph, "t", 3)
        old = graph.get_state(_config("t"))
        back = next(each for each in graph.get_state_history(_config("t")) if each.values["count"] == 1)
        other = graph.update_state(back.config, {"log": ["elsewhere"], "count": 10}, as_node="answer")
        assert graph.get_state(other).values["log"] == ["step 0", "elsewhere"]
        assert graph.get_state(old.config).values["log"] == ["step 0", "step 1", "step 2"]
        again = graph.invoke(None, back.config)
        assert again["log"][0] == "step 0"
        saver.copy_thread("t", "copy")
        saver.delete_thread("t")
        copied = {"configurable": {**old.config["configurable"], "thread_id": "copy"}}
        assert graph.get_state(copied).values["log"] == ["step 0", "step 1", "step 2"]
