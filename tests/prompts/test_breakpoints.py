"""Where marks go: never too many, never too early, never where they do not pay."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from tests.prompts.examples import asked
from xprim_nb.prompts.breakpoints import PAYS_BELOW, place_breakpoints
from xprim_nb.prompts.ordering import Part, ordered_parts
from xprim_nb.prompts.rules import CacheRule, cache_rule


def _rule(provider: str = "anthropic", model: str = "claude-opus-5") -> CacheRule:
    rule = cache_rule(provider, model)
    assert rule is not None
    return rule


def _parts(*volatilities: int, talk: int = 0) -> tuple[Part, ...]:
    return ordered_parts(
        asked(
            blocks=[{"type": "context", "content": str(each), "volatility": each} for each in volatilities],
            messages=[{"role": "user", "content": "x"}] * talk,
        )
    )


def _placed(parts: tuple[Part, ...], **more: object) -> dict[int, str]:
    settings = {"markable": [True] * len(parts), "ttl": "5m", **more}
    return place_breakpoints(parts, _rule(), **settings)  # type: ignore[arg-type]  # a test names what it wants


def test_the_last_that_pays_is_marked() -> None:
    """What changes in four of five calls is written more dearly than it is read cheaply."""
    assert list(_placed(_parts(10, 10, PAYS_BELOW - 1, PAYS_BELOW))) == [1, 2]


def test_equal_neighbours_share_a_mark() -> None:
    """There is no seam between two that change equally often."""
    assert list(_placed(_parts(10, 10, 10))) == [2]


def test_the_deepest_seams_come_first() -> None:
    """With fewer places than seams, those with the greatest step are kept."""
    assert list(_placed(_parts(0, 5, 50, 55, 60, 70), most=2)) == [1, 5]


def test_a_conversation_is_marked_at_the_turn_and_before_it() -> None:
    """The next call sends this turn as history; the two places left are for the blocks."""
    assert list(_placed(_parts(0, 20, 40, talk=2))) == [0, 2, 4, 5]


def test_nothing_is_marked_where_nothing_can_be() -> None:
    """No place allowed, none markable, nothing but a turn."""
    parts = _parts(0, 20)
    assert _placed(parts, most=0) == {}
    assert _placed(parts, markable=[False] * len(parts)) == {}
    assert _placed(_parts()) == {}
    assert place_breakpoints(parts, _rule("vllm", "x"), markable=[True] * len(parts), ttl="5m") == {}


def test_an_hour_is_for_what_stays() -> None:
    """Blocks are kept as long as was asked, a conversation for minutes."""
    assert list(_placed(_parts(0, 20, talk=1), ttl="1h").values()) == ["1h", "1h", "5m", "5m"]


@given(
    st.lists(st.integers(0, 100), max_size=10),
    st.integers(0, 5),
    st.lists(st.integers(0, 3000), min_size=17, max_size=17),
    st.integers(0, 4),
)
def test_marks_keep_to_the_rules(volatilities: list[int], talk: int, sizes: list[int], most: int) -> None:
    """Never more than allowed, never below the minimum, the longer lifetimes first."""
    parts = _parts(*volatilities, talk=talk)
    counts = sizes[: len(parts)]
    placed = _placed(parts, counts=counts, most=most, ttl="1h")
    tokens = list(accumulate(counts))
    assert len(placed) <= most
    assert all(tokens[index] >= _rule().minimum_tokens for index in placed)
    lives = [placed[index] for index in sorted(placed)]
    assert lives == sorted(lives)  # "1h" before "5m"
