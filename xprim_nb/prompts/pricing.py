"""What tokens cost: list prices from `genai-prices`, exact, dated, and never a guess.

The table travels with the library and is read offline. A model it does not know has no price: `Priced` then says why, and
nothing is assumed in its place. Prices of one model may change with the length of the prompt (the whole prompt is then
paid at the higher price), so `rates` wants to know it.

Source: spec 6 §Resolve; research/prompts §6 (13: dated, split by read and write, Decimal, estimate or bill), §9 (9: drift).
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final

from xprim_nb._text import format_count
from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts.answers import Cost, Usage
from xprim_nb.prompts.values import ResolveInput

__all__ = ["Priced", "Rates", "cost_of", "drift", "price_at", "priced", "rates", "table_date", "total"]

_MILLION: Final = Decimal(1_000_000)

# These run on machines of one's own: nobody bills their tokens.
_UNBILLED: Final = frozenset({"vllm", "sglang", "llama-cpp", "local"})

# How the table's authors say until when a price was looked at: "verified on 2026-10-12", "as of 2026-10-14".
_CHECKED: Final = re.compile(r"(?:verified|checked|as) (?:on|of|at) (\d{4}-\d{2}-\d{2})")

# Providers change list prices a few times a year; a table older than a quarter has probably missed one.
MAX_AGE_DAYS: Final = 90


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars for a million tokens of each kind.

    Attributes:
        fresh: Of the input, neither read nor written.
        read: Of the input, read from the provider's cache.
        write_5m: Of the input, written to it for minutes.
        write_1h: Of the input, written to it for an hour.
        output: Of the answer.
        model: As the table names it; an alias was resolved.
        price_date: Until when the price was looked at, ISO date.
        source: Library and version.
    """

    fresh: Decimal
    read: Decimal
    write_5m: Decimal
    write_1h: Decimal
    output: Decimal
    model: str = ""
    price_date: str = ""
    source: str = ""

    def amount(self, usage: Usage) -> Decimal:
        """What these tokens cost, in US dollars."""
        parts = (
            (self.fresh, usage.fresh_tokens),
            (self.read, usage.cache_read_tokens),
            (self.write_5m, usage.cache_write_5m_tokens),
            (self.write_1h, usage.cache_write_1h_tokens),
            (self.output, usage.output_tokens),
        )
        return sum((rate * tokens for rate, tokens in parts), Decimal(0)) / _MILLION


@dataclass(frozen=True, slots=True)
class Priced:
    """A cost, or why there is none.

    Attributes:
        cost: None where nobody knows the price.
        reason: One sentence; empty when there is a cost.
        rates: What it was computed with.
    """

    cost: Cost | None
    reason: str = ""
    rates: Rates | None = None


def priced(usage: Usage, rates: Rates) -> Cost:
    """The cost at these rates: billed where the provider told the tokens, estimated where they were counted here."""
    return Cost(
        rates.amount(usage), "billed" if usage.reported else "estimated", rates.price_date, rates.source
    )


def cost_of(usage: Usage, provider: str, model: str, *, at: datetime, endpoint: str = "") -> Priced:
    """What an answer cost, or would cost.

    Args:
        usage: Its tokens; whether they were reported makes the cost a bill or an estimate.
        provider: Whose price.
        model: As the provider calls it.
        at: When, with a time zone: prices have start dates.
        endpoint: Base URL, where it is not the provider's own; then the price is that server's.

    Raises:
        MissingExtraError: `genai-prices` is not installed.
    """
    found = rates(provider, model, at=at, input_tokens=usage.input_tokens, endpoint=endpoint)
    if isinstance(found, str):
        return Priced(None, found)
    return Priced(priced(usage, found), rates=found)


def price_at(at: datetime) -> Callable[[ResolveInput, Usage], Cost | None]:
    """What a resolver asks for prices: those of one moment; None where nobody knows one.

    The callable raises `MissingExtraError` where `genai-prices` is not installed.
    """

    def price(asked: ResolveInput, usage: Usage) -> Cost | None:
        return cost_of(usage, asked.provider, asked.model, at=at, endpoint=asked.endpoint).cost

    return price


def rates(
    provider: str, model: str, *, at: datetime, input_tokens: int = 0, endpoint: str = ""
) -> Rates | str:
    """The prices of a model, or a sentence that says why there are none.

    Args:
        provider: Whose price.
        model: As the provider calls it.
        at: When, with a time zone.
        input_tokens: Length of the prompt, which may lift it into another tier.
        endpoint: Base URL, where it is not the provider's own.

    Raises:
        MissingExtraError: `genai-prices` is not installed.
    """
    if provider in _UNBILLED:
        return f"{provider} runs on machines of your own, which bill no tokens."
    snapshot = _snapshot()
    whom = {"provider_id": None, "provider_api_url": endpoint} if endpoint else {"provider_id": provider}
    try:
        _, info = snapshot.find_provider_model(model, None, whom["provider_id"], whom.get("provider_api_url"))
    except LookupError:
        return f"The price table of {_dated(at)} does not know {model!r} of {endpoint or provider}."
    table = info.get_prices(at)

    def rate(*names: str) -> Decimal | None:
        found = next((value for name in names if (value := getattr(table, name)) is not None), None)
        return None if found is None else _tier(found, input_tokens)

    fresh, output = rate("input_mtok"), rate("output_mtok")
    if fresh is None or output is None:
        return f"The price table of {_dated(at)} knows {model!r}, and no price of its tokens."
    return Rates(
        fresh=fresh,
        # What has no price of its own is paid like the rest of the prompt.
        read=rate("cache_read_mtok", "input_mtok") or Decimal(0),
        write_5m=rate("cache_write_5m_mtok", "cache_write_mtok", "input_mtok") or Decimal(0),
        write_1h=rate("cache_write_1h_mtok", "cache_write_mtok", "input_mtok") or Decimal(0),
        output=output,
        model=info.id,
        price_date=max(_checked_dates(info.price_comments, at), default=_dated(at)),
        source=f"genai-prices {_library().__version__}",
    )


def total(costs: Iterable[Cost]) -> Cost | None:
    """All of them in one; None of none.

    Raises:
        TypeError: Some are estimated and some billed.
    """
    return functools.reduce(Cost.__add__, each) if (each := list(costs)) else None


def table_date(at: datetime) -> date | None:
    """The youngest day up to `at` that the table knows anything of; None for a table that says nothing.

    A table fetched anew counts from its fetching. One that came with the library has no date of its own: the youngest
    check that its authors noted is the latest moment of which it is known to be true.

    Raises:
        MissingExtraError: `genai-prices` is not installed.
    """
    snapshot = _snapshot()
    if snapshot.from_auto_update:
        fetched: datetime = snapshot.timestamp
        return fetched.date()
    days = [day for day in _table_days(_library().__version__) if day <= at.astimezone(UTC).date()]
    return max(days, default=None)


def drift(at: datetime, *, max_age_days: int = MAX_AGE_DAYS) -> str:
    """A warning when prices are older than they should be; empty while they are not.

    Raises:
        MissingExtraError: `genai-prices` is not installed.
    """
    known = table_date(at)
    if known is None:
        return "The price table has no date, so that its prices may be of any age; update genai-prices."
    age = (at.astimezone(UTC).date() - known).days
    if age <= max_age_days:
        return ""
    return (
        f"Prices are of {known.isoformat()}, {format_count(age, 'day')} ago; what changed since is not in them: "
        "pip install --upgrade genai-prices."
    )


def _tier(price: Any, input_tokens: int) -> Decimal:  # noqa: ANN401  # the library's Decimal or TieredPrices
    if isinstance(price, Decimal):
        return price
    passed = [tier.price for tier in price.tiers if input_tokens > tier.start]
    found: Decimal = passed[-1] if passed else price.base
    return found


def _dated(at: datetime) -> str:
    known = table_date(at)
    return known.isoformat() if known else "unknown date"


def _checked_dates(comments: str | None, at: datetime) -> list[str]:
    last = at.astimezone(UTC).date().isoformat()
    return [found for found in _CHECKED.findall(comments or "") if found <= last]


@functools.cache
def _table_days(version: str) -> tuple[date, ...]:
    """Each day that a comment of the table names as one of looking; read once for each version of the library."""
    del version
    days = set()
    for provider in _snapshot().providers:
        for holder in (provider, *provider.models):
            days.update(_CHECKED.findall(holder.price_comments or ""))
    return tuple(date.fromisoformat(day) for day in sorted(days))


def _library() -> Any:  # noqa: ANN401  # an optional package
    try:
        return importlib.import_module("genai_prices")
    except ImportError as error:
        raise MissingExtraError.for_extra("prompts", "A price") from error


def _snapshot() -> Any:  # noqa: ANN401  # an optional package
    _library()
    return importlib.import_module("genai_prices.data_snapshot").get_snapshot()
