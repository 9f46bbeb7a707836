"""What a saver remembers has a limit, and is never needed."""

from __future__ import annotations

from collections.abc import Callable

from xprim_nb.prompts.checkpoints import Saver
from xprim_nb.prompts.checkpoints.least_used import LeastUsed
from xprim_nb.testing.checkpoints_given import at, long, put, values_of


def test_what_was_used_longest_ago_is_forgotten() -> None:
    """The limit holds by weight; what was asked for stays, what is kept again weighs once, what is too heavy goes."""
    memory: LeastUsed[str, str] = LeastUsed(10, len)
    memory.keep({"a": "aaaa", "b": "bbbb"})
    assert memory.get("a") == "aaaa"
    memory.keep({"a": "aaaa"})
    memory.keep({"c": "cccc"})
    assert memory.find(["a", "b", "c"]) == {"a": "aaaa", "c": "cccc"}
    memory.keep({"d": "d" * 11})
    assert memory.find(["a", "c", "d"]) == {}
    memory.keep({"e": "e" * 10})
    assert memory.get("e") == "e" * 10


def test_a_saver_without_memory_loses_nothing(open_saver: Callable[[], Saver]) -> None:
    """A saver that may remember nothing at all puts, grows, changes and gets as any other."""
    with open_saver() as other, type(other)(other.database, memory_bytes=0) as saver:
        items, config = [long(str(number)) for number in range(20)], at("t")
        for number in range(20, 25):
            items = [*items, long(str(number))]
            config = put(saver, config, {"items": items, "map": {"text": long("map")}}, version=number)
        items[3] = long("changed")
        last = put(
            saver, config, {"items": items, "map": {"text": long("map")}}, version=26, changed=["items"]
        )
        assert values_of(saver, last) == {"items": items, "map": {"text": long("map")}}
        assert values_of(saver, config)["items"][3] == long("3")
