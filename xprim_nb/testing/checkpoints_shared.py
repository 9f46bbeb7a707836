"""What is kept once and for whom, what is taken away, and what is found: a part of the checkpoint saver's suite."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, RESUME

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.checkpoints import Saver
from xprim_nb.testing.checkpoints_given import Given, at, long, put, values_of

__all__ = ["Shared"]

# The deepest tree of these tests has three levels, and an item of its own is one value more.
_MOST_NEW_VALUES = 4


class _Once(Given):
    def test_a_growing_list_costs_its_new_items(self, saver: Saver, count_values: Callable[[], int]) -> None:
        """A list of three hundred that grows by one stores the item and a node a level, however long it is."""
        items = [long(str(number)) for number in range(300)]
        config = put(saver, at("t"), {"items": items})
        for number in range(300, 310):
            before = count_values()
            items = [*items, long(str(number))]
            config = put(saver, config, {"items": items}, version=number)
            assert count_values() - before <= _MOST_NEW_VALUES
        assert values_of(saver, config)["items"] == items

    def test_equal_values_are_kept_once(self, saver: Saver, count_values: Callable[[], int]) -> None:
        """Whatever thread, namespace, channel or write has a value, it is stored once."""
        value = {"text": long("shared")}
        config = put(saver, at("one"), {"a": value, "b": value})
        put(saver, at("two", namespace="child:1"), {"c": value})
        saver.put_writes(config, [("d", value)], "task")
        assert count_values() == 1

    def test_what_did_not_change_is_not_looked_at(
        self, saver: Saver, count_values: Callable[[], int]
    ) -> None:
        """A channel whose version has not moved keeps its value, also where nothing is remembered of the parent."""
        first = put(saver, at("t"), {"map": {"text": long("map")}, "step": 1})
        saver = type(saver)(saver.database)
        second = put(saver, first, {"map": {"text": long("map")}, "step": 2}, changed=["step"])
        assert count_values() == 1
        assert values_of(saver, second) == {"map": {"text": long("map")}, "step": 2}

    def test_a_parent_that_went_away_is_no_loss(self, saver: Saver) -> None:
        """A step whose parent somebody else has taken away meanwhile stores all that it needs."""
        items = [long(str(number)) for number in range(40)]
        first = put(saver, at("t"), {"items": items, "map": {"text": long("map")}})
        type(saver)(saver.database).delete_thread("t")
        second = put(saver, first, {"items": [*items, "x"], "map": {"text": long("map")}}, changed=["items"])
        fresh = type(saver)(saver.database)
        assert values_of(fresh, second) == {"items": [*items, "x"], "map": {"text": long("map")}}


class _Gone(Given):
    def test_a_thread_leaves_what_others_have(self, saver: Saver, count_values: Callable[[], int]) -> None:
        """Of a thread that is deleted, the values go that no other has; those of others stay, and can be read."""
        put(saver, at("one"), {"items": [long("shared"), long("mine")]})
        put(saver, at("two"), {"items": [long("shared"), long("yours")]})
        saver.delete_thread("one")
        assert values_of(type(saver)(saver.database), at("two")) == {"items": [long("shared"), long("yours")]}
        assert count_values() == 3  # two items, and the list
        saver.delete_thread("two")
        assert count_values() == 0

    @pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
    def test_a_pruned_thread_leaves_no_value_behind(
        self, saver: Saver, count_values: Callable[[], int], strategy: str
    ) -> None:
        """What is pruned takes its values along, those of its writes too; what is kept can be read."""
        config = at("t")
        for number in range(20):
            config = put(
                saver, config, {"items": [long(str(each)) for each in range(number)]}, version=number
            )
            saver.put_writes(config, [("items", [long(f"write {number}")])], "task")
        saver.prune(["t"], strategy=strategy)
        saver.prune(["t"], strategy=strategy)
        kept = list(type(saver)(saver.database).list(at("t")))
        if strategy == "delete":
            assert (kept, count_values()) == ([], 0)
            return
        [last] = kept
        assert last.checkpoint["channel_values"] == {"items": [long(str(each)) for each in range(19)]}
        assert last.pending_writes == [("task", "items", [long("write 19")])]
        assert last.parent_config is None
        saver.delete_thread("t")
        assert count_values() == 0

    def test_what_a_write_replaced_is_no_value_after_pruning(
        self, saver: Saver, count_values: Callable[[], int]
    ) -> None:
        """An interrupt that came again leaves the one before until its thread is pruned, also where no checkpoint goes."""
        config = put(saver, at("t"), {"text": long("kept")})
        for number in range(3):
            saver.put_writes(config, [(INTERRUPT, long(f"question {number}"))], "task")
        assert count_values() == 4
        saver.prune(["t"])
        assert count_values() == 2
        found = type(saver)(saver.database).get_tuple(config)
        assert found is not None
        assert found.pending_writes == [("task", INTERRUPT, long("question 2"))]
        assert found.checkpoint["channel_values"] == {"text": long("kept")}

    def test_a_deleted_run_leaves_no_value_behind(
        self, saver: Saver, count_values: Callable[[], int]
    ) -> None:
        """The checkpoints of a run go from every thread, with what only they had."""
        first = put(saver, at("t"), {"text": long("kept")}, run_id="keep")
        put(saver, first, {"text": long("gone")}, version=2, run_id="drop")
        put(saver, at("other"), {"text": long("gone too")}, run_id="drop")
        saver.delete_for_runs(["drop", "unknown"])
        assert [each.metadata["run_id"] for each in saver.list(None)] == ["keep"]
        assert values_of(saver, at("t")) == {"text": long("kept")}
        assert count_values() == 1

    def test_a_copy_shares_and_outlives(self, saver: Saver, count_values: Callable[[], int]) -> None:
        """A copied thread costs no value, goes on by itself, and stays when its source goes."""
        first = put(saver, at("source"), {"items": [long("a")]})
        saver.put_writes(first, [("items", [long("b")])], "task")
        before = count_values()
        saver.copy_thread("source", "target")
        assert count_values() == before
        saver.copy_thread("nowhere", "target")
        put(saver, at("target", first["configurable"]["checkpoint_id"]), {"items": [long("c")]}, version=2)
        saver.delete_thread("source")
        fresh = type(saver)(saver.database)
        newest, oldest = fresh.list(at("target"))
        assert newest.checkpoint["channel_values"] == {"items": [long("c")]}
        assert oldest.checkpoint["channel_values"] == {"items": [long("a")]}
        assert oldest.pending_writes == [("task", "items", [long("b")])]
        saver.delete_thread("target")
        assert count_values() == 0

    def test_no_value_is_lost_between_writers_and_a_remover(
        self, saver: Saver, count_values: Callable[[], int]
    ) -> None:
        """Threads that share values are written and taken away at once, and every one that stays can be read."""
        stop = threading.Event()

        def write(number: int) -> int:
            config, rounds = at(f"writer {number}"), 0
            while not stop.is_set():
                items = [long(str(each % 7)) for each in range(rounds % 25)]
                config = put(saver, config, {"items": items}, version=rounds)
                rounds += 1
            return rounds

        def remove() -> None:
            for number in range(30):
                put(saver, at("victim"), {"items": [long(str(each % 7)) for each in range(number)]})
                saver.delete_thread("victim")
                saver.prune(["writer 0"])

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write, number) for number in range(3)]
            try:
                pool.submit(remove).result(20)
            finally:
                stop.set()
            rounds = [each.result(20) for each in writers]
        fresh = type(saver)(saver.database)
        for number in (1, 2):
            found = list(fresh.list(at(f"writer {number}")))
            assert [each.metadata["step"] for each in found] == list(reversed(range(rounds[number])))
            assert all(
                len(each.checkpoint["channel_values"]["items"]) == each.metadata["step"] % 25
                for each in found
            )
        saver.prune([f"writer {number}" for number in range(3)], strategy="delete")
        assert count_values() == 0


class _Found(Given):
    def test_a_filter_with_a_strange_key_is_refused(self, saver: Saver) -> None:
        """A key of a filter is letters, digits, dots, hyphens and underscores (CVE-2025-67644)."""
        put(saver, at("t"), {})
        for key in ("x' OR 1=1 --", "a b", "", "$.x", "é", "x\n"):
            with pytest.raises(ConfigError, match="filter"):
                list(saver.list(None, filter={key: 1}))

    def test_filters_compare_values_as_they_are(self, saver: Saver) -> None:
        """A filter finds by equality, whatever a value looks like; an absent key is not an empty one."""
        put(saver, at("t"), {}, user="x' OR 1=1 --", tags=["a"], nothing=None)
        put(saver, at("t"), {}, user="ann")
        assert len(list(saver.list(at("t"), filter={"user": "x' OR 1=1 --"}))) == 1
        assert len(list(saver.list(at("t"), filter={"tags": ["a"], "nothing": None}))) == 1
        assert list(saver.list(at("t"), filter={"user": "%"})) == []
        assert list(saver.list(at("t"), filter={"absent": None})) == []

    async def test_long_lists_come_in_pages_and_whole(self, saver: Saver) -> None:
        """Two hundred checkpoints of two threads come newest first, once each, filtered and limited, both ways."""
        for number in range(100):
            for thread in ("one", "two"):
                put(saver, at(thread), {"step": number}, version=number, parity=number % 2)
        found = [each.config["configurable"]["checkpoint_id"] for each in saver.list(None)]
        assert found == sorted(found, reverse=True)
        assert len(set(found)) == 200
        assert [each.config["configurable"]["checkpoint_id"] async for each in saver.alist(None)] == found
        odd = [each.metadata["step"] for each in saver.list(at("one"), filter={"parity": 1}, limit=40)]
        assert odd == list(range(99, 19, -2))
        before = at("one", found[150])
        assert (
            len(list(saver.list(at("one"), before=before))) + len(list(saver.list(at("two"), before=before)))
            == 49
        )
        assert list(saver.list(None, limit=0)) == []

    def test_a_list_waits_for_nobody(self, saver: Saver) -> None:
        """A list that is half read keeps nobody from writing or taking away."""
        for number in range(10):
            put(saver, at("t"), {"step": number}, version=number)
        listed = saver.list(at("t"))
        next(listed)
        saver.delete_thread("t")
        assert len(list(listed)) < 9

    def test_special_writes_replace_and_others_do_not(self, saver: Saver) -> None:
        """A task that fails or asks again says the latest; what it wrote once stands. Writes are in the order of tasks."""
        config = put(saver, at("t"), {})
        saver.put_writes(config, [("channel", 1), (ERROR, "first"), (INTERRUPT, "first")], "b", "path 1")
        saver.put_writes(config, [("channel", 2), (ERROR, "second"), (RESUME, "yes")], "b", "path 1")
        saver.put_writes(config, [("channel", 3)], "a", "path 2")
        saver.put_writes(config, [("channel", 4)], "c")
        found = saver.get_tuple(config)
        assert found is not None
        assert found.pending_writes == [
            ("c", "channel", 4),
            ("b", RESUME, "yes"),
            ("b", INTERRUPT, "first"),
            ("b", ERROR, "second"),
            ("b", "channel", 1),
            ("a", "channel", 3),
        ]

    def test_what_lacks_a_thread_is_refused(self, saver: Saver) -> None:
        """A configuration without a thread, writes without a checkpoint, and unknown strategies are said to be so."""
        with pytest.raises(ConfigError, match="thread"):
            saver.get_tuple({"configurable": {}})
        with pytest.raises(ConfigError, match="checkpoint"):
            saver.put_writes(at("t"), [("channel", 1)], "task")
        with pytest.raises(ConfigError, match="strategy"):
            saver.prune(["t"], strategy="keep_some")
        with pytest.raises(ConfigError, match="limit"):
            list(saver.list(None, limit=-1))

    def test_versions_go_on_as_they_began(self, saver: Saver) -> None:
        """Channel versions are whole numbers; a thread that came with LangGraph's texts goes on with them."""
        assert [saver.get_next_version(None, None), saver.get_next_version(4, None)] == [1, 5]
        text = saver.get_next_version("00000000000000000000000000000007.0.25", None)
        assert text.startswith("00000000000000000000000000000008.")


class Shared(_Once, _Gone, _Found):
    """The tests of this module."""
