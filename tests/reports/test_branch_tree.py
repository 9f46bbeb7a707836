"""Checkpoints and their branches as a tree: what follows on one level, what forks set in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict
from xml.etree import ElementTree

from langgraph.graph import START, StateGraph

from xprim_nb.prompts.checkpoints import CheckpointStore, SqliteSaver
from xprim_nb.reports import BranchNode, BranchTree

_HOSTILE = '<img src=x onerror="alert(1)">\x1b[31m\u202e'


def _chain(count: int, name: str = "main", parent: str = "", first: int = 0) -> list[BranchNode]:
    """So many checkpoints after each other; the last is the tip."""
    nodes: list[BranchNode] = []
    for number in range(first, first + count):
        before = nodes[-1].id if nodes else parent
        is_tip = number == first + count - 1
        nodes.append(BranchNode(f"{number:08}" * 8, before, name, f"step {number}", is_tip))
    return nodes


def _tree(*chains: list[BranchNode], title: str = "") -> BranchTree:
    return BranchTree(tuple(node for chain in chains for node in chain), title)


def test_a_branch_goes_on_where_it_is_and_others_are_set_in() -> None:
    """At a fork the branch's own next step stays on its level, whichever was made first; tips are marked and named."""
    main = _chain(2)
    tried = _chain(2, "try", main[0].id, first=10)
    deeper = _chain(1, "deeper", tried[0].id, first=20)
    tree = _tree(main[:1], tried, deeper, main[1:], title="review")
    assert repr(tree).splitlines() == [
        "review: 5 checkpoints on 3 branches.",
        "○ step 0 00000000 on main",
        "├─ ○ step 10 00000010 on try",
        "│  ├─ ● step 20 00000020 [tip of deeper]",
        "│  ● step 11 00000011 [tip of try]",
        "● step 1 00000001 [tip of main]",
    ]
    assert {name: node.label for name, node in tree.tips.items()} == {
        "main": "step 1", "try": "step 11", "deeper": "step 20",
    }  # fmt: skip


def test_html_is_nested_lists_with_the_same_words() -> None:
    """Each checkpoint is one item, in the list of its line; a fork is a list inside the item that it forks from."""
    main = _chain(2)
    root = ElementTree.fromstring(_tree(main, _chain(1, "try", main[0].id, first=10))._repr_html_())
    lines = root.findall("ul")
    assert len(lines) == 1
    first, second = lines[0].findall("li")
    assert "".join(second.itertext()) == "● step 1 00000001tip of main"
    (fork,) = first.findall("ul")
    assert ["".join(item.itertext()) for item in fork] == ["● step 10 00000010tip of try"]


def test_a_long_run_is_folded_and_nothing_is_lost() -> None:
    """Of 300 steps a few are shown; the others are behind one summary, which a keyboard reaches."""
    tree = _tree(_chain(300))
    assert "⋮ 295 more steps" in tree.text().splitlines()
    root = ElementTree.fromstring(tree.html())
    assert len(root.findall(".//li")) == 301
    assert [each.text for each in root.findall(".//summary")] == ["295 more steps"]
    assert "more steps" not in _tree(_chain(11)).text()


def test_what_went_on_from_a_deleted_one_says_so() -> None:
    """A checkpoint whose parent is gone begins a line of its own, and tells why."""
    tree = _tree(_chain(1), _chain(1, "try", "f" * 64, first=10))
    assert repr(tree).splitlines()[1:] == [
        "● step 0 00000000 [tip of main]",
        "● step 10 00000010, went on from one that is deleted [tip of try]",
    ]


def test_nothing_and_what_is_no_tree() -> None:
    """An empty store is a sentence; a row that names itself as its parent is shown once, and ends."""
    assert repr(BranchTree(())) == "No checkpoint is kept yet."
    circle = BranchTree((BranchNode("a", "b", "main"), BranchNode("b", "a", "main", is_tip=True)))
    assert repr(circle).splitlines() == ["2 checkpoints on 1 branch.", "○ a on main", "● b [tip of main]"]


def test_names_are_a_strangers_text() -> None:
    """Neither a branch nor a label becomes markup, an escape sequence, or text that runs backwards."""
    tree = BranchTree((BranchNode(_HOSTILE, "", _HOSTILE, _HOSTILE, is_tip=True),), _HOSTILE)
    assert "<img" not in tree.html()
    assert not set(tree.html() + tree.text()) & set("\x1b\u202e")


def test_a_threads_history_is_a_tree(tmp_path: Path) -> None:
    """A real graph that is sent back in time and goes on otherwise: two tips, and the fork where it was made."""

    class State(TypedDict):
        count: int

    builder = StateGraph(State)
    builder.add_node("one", lambda state: {"count": state["count"] + 1})
    builder.add_node("two", lambda state: {"count": state["count"] * 10})
    builder.add_edge(START, "one")
    builder.add_edge("one", "two")
    with SqliteSaver.open(tmp_path / "runs.sqlite") as saver:
        graph = builder.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke({"count": 1}, config)
        assert repr(BranchTree.of_thread(graph.get_state_history(config))).endswith("[tip]")
        after_one = next(each for each in graph.get_state_history(config) if each.next == ("two",))
        graph.invoke(None, graph.update_state(after_one.config, {"count": 5}))
        tree = BranchTree.of_thread(graph.get_state_history(config), "t")
        assert [each.id for each in tree.nodes] == [
            each.config["configurable"]["checkpoint_id"] for each in list(saver.list(config))[::-1]
        ]
    assert sum(each.is_tip for each in tree.nodes) == 2
    (fork,) = {
        each.parent for each in tree.nodes if sum(each.parent == other.parent for other in tree.nodes) > 1
    }
    assert fork == after_one.config["configurable"]["checkpoint_id"]
    assert tree.verdict.startswith("t: 6 checkpoints on 2 branches.")
    # LangGraph's ids begin with the time, and of one second all begin alike.
    assert all(f"…{each.id[-8:]}" in tree.text() for each in tree.nodes)


async def test_a_stores_checkpoints_are_a_tree_with_named_branches(tmp_path: Path) -> None:
    """A real store: a branch that begins where another stands is told there, and moves on with its next checkpoint."""
    async with CheckpointStore.open(tmp_path / "runs.sqlite") as store:
        first = await store.save("review", {"plan": ["read"]}, label="plan")
        await store.save("review", {"plan": ["read", "write"]}, label="module")
        await store.branch_from(first.id, "bolder")
        at_fork = BranchTree.of_checkpoints(await store.tree())
        await store.save("review", {"plan": ["dare"]}, "bolder", label="file")
        tree = BranchTree.of_checkpoints(await store.tree(), "review")
    assert at_fork.tips["bolder"].id == first.id
    assert f"● plan {first.id[:8]} on main [tip of bolder]" in repr(at_fork).splitlines()
    assert (tree.tips["main"].label, tree.tips["bolder"].label) == ("module", "file")
    assert tree.verdict == "review: 3 checkpoints on 2 branches."
    assert repr(tree).splitlines()[2].startswith("├─ ● file ")
