"""What tokens cost, checked against sums made by hand; and what has no price is never given one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xprim_nb.errors import MissingExtraError
from xprim_nb.prompts import pricing
from xprim_nb.prompts.answers import Cost, Usage
from xprim_nb.prompts.pricing import Rates, cost_of, drift, price_at, priced, rates, table_date, total
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.tokens import counter_for
from xprim_nb.prompts.usage import usage_from
from xprim_nb.prompts.values import ResolveInput

# A day on which the bundled table's prices were in force.
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)

# Claude Sonnet 4.5 and GPT-4o, in dollars for a million tokens, as their price pages have had them since they came out.
SONNET = Rates(Decimal("3"), Decimal("0.30"), Decimal("3.75"), Decimal("6"), Decimal("15"))
GPT_4O = Rates(Decimal("2.50"), Decimal("1.25"), Decimal("2.50"), Decimal("2.50"), Decimal("10"))


@pytest.mark.parametrize(
    ("provider", "model", "raw", "amount"),
    [
        # 3 000 000 × 3 + 1 000 000 × 15, before any tier: 10 000 tokens and 1 000 of answer.
        ("anthropic", "claude-sonnet-4-5", {"input_tokens": 10_000, "output_tokens": 1_000}, "0.045"),
        # fresh 50 × 3 + read 100 000 × 0.30 + 148 × 3.75 + 400 × 6 + 7 × 15, in millionths: 150 + 30 000 + 555 + 2 400 + 105
        (
            "anthropic",
            "claude-sonnet-4-5",
            {
                "input_tokens": 50,
                "output_tokens": 7,
                "cache_read_input_tokens": 100_000,
                "cache_creation_input_tokens": 548,
                "cache_creation": {"ephemeral_5m_input_tokens": 148, "ephemeral_1h_input_tokens": 400},
            },
            "0.033210",
        ),
        # fresh 86 × 2.50 + read 1 920 × 1.25 + 300 × 10, in millionths: 215 + 2 400 + 3 000
        (
            "openai",
            "gpt-4o",
            {
                "prompt_tokens": 2006,
                "completion_tokens": 300,
                "prompt_tokens_details": {"cached_tokens": 1920},
            },
            "0.005615",
        ),
    ],
)
def test_the_bill_is_what_a_hand_computes(
    provider: str, model: str, raw: dict[str, object], amount: str
) -> None:
    """Both conventions, with reads and both writes, to the last digit."""
    found = cost_of(usage_from(provider, raw), provider, model, at=AT)
    assert found.cost is not None
    assert found.cost.amount == Decimal(amount)
    assert found.cost.kind == "billed"
    assert found.cost.price_date <= "2026-11-20"
    assert found.cost.source.startswith("genai-prices ")


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [("anthropic", "claude-sonnet-4-5", SONNET), ("openai", "gpt-4o", GPT_4O)],
)
def test_the_table_is_read_as_the_price_page_is(provider: str, model: str, expected: Rates) -> None:
    """Read and write tiers come from the right columns; where a model has none, the plain price stands."""
    found = rates(provider, model, at=AT)
    assert isinstance(found, Rates)
    ours = (found.fresh, found.read, found.write_5m, found.write_1h, found.output)
    assert ours == (expected.fresh, expected.read, expected.write_5m, expected.write_1h, expected.output)


@given(
    model=st.sampled_from(
        [
            ("openai", "gpt-5.6"),
            ("openai", "gpt-5.1"),
            ("anthropic", "claude-opus-5"),
            ("anthropic", "claude-sonnet-4-5"),
        ]
    ),
    fresh=st.integers(0, 400_000),
    read=st.integers(0, 400_000),
    write_5m=st.integers(0, 50_000),
    write_1h=st.integers(0, 50_000),
    output=st.integers(0, 50_000),
)
def test_the_library_itself_comes_to_the_same_sum(
    model: tuple[str, str], fresh: int, read: int, write_5m: int, write_1h: int, output: int
) -> None:
    """Our split by kind, tiers of length included, adds up to what genai-prices computes in one go."""
    write_1h = write_1h if model[0] == "anthropic" else 0
    whole = fresh + read + write_5m + write_1h
    ours = cost_of(Usage(whole, output, read, write_5m, write_1h), *model, at=AT)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=whole,
            output_tokens=output,
            cache_read_tokens=read,
            cache_write_tokens=write_5m + write_1h,
            **({"cache_write_5m_tokens": write_5m, "cache_write_1h_tokens": write_1h} if write_1h else {}),
        ),
        model[1],
        provider_id=model[0],
        genai_request_timestamp=AT,
    )
    assert ours.cost is not None
    assert ours.cost.amount == theirs.total_price


def test_a_long_prompt_is_paid_at_its_own_price() -> None:
    """Beyond the tier's start the whole prompt costs more, not only what lies beyond."""
    short, long = (rates("openai", "gpt-5.6", at=AT, input_tokens=tokens) for tokens in (272_000, 272_001))
    assert isinstance(short, Rates)
    assert isinstance(long, Rates)
    assert long.fresh == 2 * short.fresh


def test_what_was_counted_here_is_an_estimate() -> None:
    """Only what the provider told is a bill."""
    assert priced(Usage(1000, 0, reported=False), SONNET).kind == "estimated"
    assert priced(Usage(1000, 0), SONNET).kind == "billed"
    assert priced(Usage(1000, 0), SONNET).amount == Decimal("0.003")


def test_an_estimate_and_a_bill_have_no_sum() -> None:
    """Adding them is an error of type, in pairs and in lists; adding bills is not, and keeps the older date."""
    billed = Cost(Decimal("0.1"), "billed", "2026-11-03", "a")
    estimated = Cost(Decimal("0.1"), "estimated", "2026-11-03", "a")
    with pytest.raises(TypeError, match="estimated and a cost billed"):
        estimated + billed
    with pytest.raises(TypeError):
        total([billed, billed, estimated])
    with pytest.raises(TypeError):
        billed + Decimal(1)  # type: ignore[operator]  # what is tested
    older = Cost(Decimal("0.2"), "billed", "2026-10-01", "b")
    assert total([billed, older]) == Cost(Decimal("0.3"), "billed", "2026-10-01", "a, b")
    assert total([]) is None


@pytest.mark.parametrize(
    ("provider", "model", "endpoint", "reason"),
    [
        ("openai", "a-model-of-nobody", "", "does not know 'a-model-of-nobody' of openai"),
        ("somebody-new", "gpt-4o", "", "does not know 'gpt-4o' of somebody-new"),
        ("openai", "gpt-4o", "http://127.0.0.1:8000/v1", "of http://127.0.0.1:8000/v1"),
        ("openai", "text-embedding-3-small", "", "no price of its tokens"),
        ("vllm", "meta-llama/Llama-3.3-70B", "", "bill no tokens"),
        ("llama-cpp", "any", "", "bill no tokens"),
    ],
)
def test_what_has_no_price_has_a_reason(provider: str, model: str, endpoint: str, reason: str) -> None:
    """No zero and no neighbour's price stands in for one that nobody knows."""
    found = cost_of(Usage(1000, 10), provider, model, at=AT, endpoint=endpoint)
    assert found.cost is None
    assert reason in found.reason


def test_another_door_of_the_same_provider_has_its_prices() -> None:
    """An endpoint that is the provider's own is known by its address."""
    at_home = rates("openai", "gpt-4o", at=AT, endpoint="https://api.openai.com/v1")
    assert at_home == rates("openai", "gpt-4o", at=AT)


def test_an_old_table_warns() -> None:
    """A year after the last look the prices are called old, with their age; the day after they are not."""
    known = table_date(AT)
    assert known is not None
    looked = datetime(known.year, known.month, known.day, tzinfo=UTC)
    assert drift(looked) == ""
    later = looked.replace(year=looked.year + 2)
    warned = drift(later)
    assert f"{(later - looked).days} days ago" in warned.replace(",", "")
    assert known.isoformat() in warned
    assert drift(looked.replace(year=looked.year + 2), max_age_days=1000) == ""


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing costs zero because nobody could look it up."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(MissingExtraError) as caught:
        cost_of(Usage(1, 1), "openai", "gpt-4o", at=AT)
    assert caught.value.hint == 'pip install "xprim-nb[prompts]"'
    assert pricing.rates("vllm", "m", at=AT) == "vllm runs on machines of your own, which bill no tokens."


def test_a_resolver_prices_with_it() -> None:
    """The prompt of a resolved scaffold has an estimated cost: its tokens at the plain price."""
    asked = ResolveInput(prompt="One two three.", provider="openai", model="gpt-4o")
    resolved = resolve_scaffold(asked, count=counter_for("openai", "gpt-4o"), price=price_at(AT))
    assert resolved.token_count is not None
    assert resolved.token_bound == 0
    assert resolved.estimated_cost is not None
    assert resolved.estimated_cost.amount == Decimal("2.50") * resolved.token_count / 1_000_000
    assert resolved.estimated_cost.kind == "estimated"
    unknown = asked.model_copy(update={"model": "a-model-of-nobody"})
    assert resolve_scaffold(unknown, count=len, price=price_at(AT)).estimated_cost is None
