"""When to try again, decided without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.errors import HashMismatchError, NetworkError, OfflineError, RegistryError, XprimError
from xprim_nb.registry.retry import RetryPolicy, gravest, is_final
from xprim_nb.registry.sources import SourceError, SourceStalledError


def asked_to_wait(seconds: float | None) -> SourceError:
    """A 429 with a Retry-After."""
    return SourceError("slow down.", status=429, retry_after_s=seconds)


def test_the_wait_doubles() -> None:
    """Without jitter the waits are 1, 2, 4 s, and after the last try there is none."""
    policy = RetryPolicy(tries=4, jitter=0.0)
    assert [policy.delay_s(attempt, 0.5, []) for attempt in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, None]


@given(st.integers(1, 10), st.integers(1, 12), st.floats(0, 1), st.floats(0, 5))
def test_chance_moves_a_wait_by_its_share(tries: int, attempt: int, chance: float, backoff_s: float) -> None:
    """Whatever is drawn, a wait stays within the jitter's share of the plain one, and is none when no try is left."""
    policy = RetryPolicy(tries, backoff_s)
    wait_s = policy.delay_s(attempt, chance, [])
    if attempt >= tries:
        assert wait_s is None
    else:
        plain = backoff_s * 2 ** (attempt - 1)
        assert wait_s is not None
        assert plain * 0.75 <= wait_s <= plain * 1.25


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([asked_to_wait(7.0)], 7.0),
        ([asked_to_wait(7.0), asked_to_wait(9.0), NetworkError("down.")], 9.0),
        ([asked_to_wait(0.5)], 1.0),
        ([asked_to_wait(0.0)], 1.0),
        ([asked_to_wait(None), HashMismatchError("other bytes.")], 1.0),
    ],
)
def test_a_servers_wish_lengthens_the_wait(errors: list[XprimError], expected: float) -> None:
    """The longest Retry-After of a round is honoured, and never shortens our own wait."""
    assert RetryPolicy(jitter=0.0).delay_s(1, 0.5, errors) == expected


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (SourceError("reset."), False),
        (SourceStalledError("silent."), False),
        (HashMismatchError("other bytes."), False),
        (SourceError("404.", retryable=False), True),
        (RegistryError("no JSON."), True),
        (OfflineError("offline."), True),
    ],
)
def test_what_the_same_source_would_say_again_is_final(error: XprimError, final: bool) -> None:
    """A bad line or altered bytes may be better next time; a refusal or a broken format is not."""
    assert is_final(error) is final


def test_the_gravest_error_is_told() -> None:
    """Altered bytes are worse news than a broken format, and that than a bad line; of equals the first is told."""
    network, registry, other = NetworkError("a."), RegistryError("b."), HashMismatchError("c.")
    assert gravest([network, registry, other]) is other
    assert gravest([network, registry]) is registry
    assert gravest([network, NetworkError("later.")]) is network
