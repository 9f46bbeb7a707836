"""From what is asked to what is sent: secrets first, then all the rest, and nothing of it by the clock."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from functools import partial

import pytest

from tests.prompts.examples import MODELS, asked, case
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.answers import Cost, Usage
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.providers import Provider, provider_named
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.render.contract import compact_json
from xprim_nb.prompts.resolve import redacted, resolve_scaffold
from xprim_nb.prompts.values import ResolveInput

_SECRET = "ghp_" + "0123456789abcdefghijABCDEFGHIJ012345"
_PRICE = Cost(Decimal("0.5"), "estimated", "2026-10-01", "a test")


@dataclasses.dataclass(frozen=True)
class _Counted:
    tokens: int
    error_tokens: int


def _always(tokens: int, _: str) -> int:
    return tokens


@pytest.mark.parametrize(("provider", "models"), MODELS.items())
def test_what_comes_out(provider: str, models: tuple[str, ...]) -> None:
    """The scaffold, the bytes, the hash, the form; and no word on a cache that nobody looked into."""
    wanted = case("whole", provider, models[0])
    made = resolve_scaffold(wanted, count=len)
    assert made.asked is wanted
    assert made.request_hash == request_hash(wanted)
    assert made.provider_format == provider_named(provider).renderer.id == made.rendered.renderer
    assert (
        made.token_count == sum(len(each.text) for each in made.rendered.segments) == sum(made.segment_tokens)
    )
    assert made.token_bound is None
    assert made.cache_hit is None
    assert made.estimated_cost is None
    assert made.notes == provider_named(provider).renderer.notes(wanted)
    assert "And b?" in made.content
    assert [each.type for each in made.scaffold.blocks] == ["style_guide", "requirements", "file_map"]


@pytest.mark.parametrize(
    "place",
    [
        {"prompt": f"Use {_SECRET}."},
        {
            "blocks": [
                {"type": "requirements", "content": _SECRET, "name": _SECRET, "metadata": {"at": _SECRET}}
            ]
        },
        {"blocks": [{"type": "file_map", "files": {f"{_SECRET}.py": "x", "b": _SECRET}}]},
        {"context": {_SECRET: [_SECRET]}},
        {"messages": [{"role": "user", "content": _SECRET}]},
        {"tools": [{"name": "t", "description": _SECRET, "parameters": {"default": _SECRET}}]},
        {"response_schema": {"type": "object", "properties": {"a": {"const": _SECRET}}}},
        {"endpoint": "https://me:hunter22@host/v1"},
        {"stop": [_SECRET]},
        {"parameters": {"user": _SECRET}},
        {"cache_key": _SECRET},
    ],
    ids=lambda place: next(iter(place)),
)
def test_no_secret_is_hashed_stored_or_sent(place: dict[str, object]) -> None:
    """Wherever it stands, it is in nothing that comes out, and the hash is that of the prompt without it."""
    made = resolve_scaffold(asked("openai", "gpt-4o", **place), redact=Redactor(b"k"))
    out = compact_json(made.rendered.body) + made.asked.model_dump_json() + made.scaffold.model_dump_json()
    out += repr(made)
    assert "0123456789abcdefghij" not in out
    assert "hunter22" not in out
    assert "[redacted:" in made.asked.model_dump_json()
    assert made.request_hash == request_hash(made.asked)


def test_two_secrets_are_two_requests() -> None:
    """With a key the marks differ, and so do the answers that are looked up; the same secret is the same request."""
    redact = Redactor(b"k")
    one, two, again = (
        resolve_scaffold(asked(prompt=f"ghp_{letter * 36}"), redact=redact).request_hash for letter in "aba"
    )
    assert one == again != two


def test_a_known_value_is_redacted() -> None:
    """What the caller names has no shape of its own."""
    made = resolve_scaffold(asked(prompt="the blue-whale sings"), redact=Redactor(b"k", {"X": "blue-whale"}))
    assert "blue-whale" not in made.asked.prompt


def test_without_a_redactor_shapes_are_found_still() -> None:
    """Nobody has to remember it."""
    assert resolve_scaffold(asked(prompt=_SECRET)).asked.prompt == "[redacted:github]"


def test_nothing_to_redact_changes_nothing() -> None:
    """The very same object, and so what was set and what was left at its default stays known."""
    wanted = case("whole", "vllm", "m")
    assert redacted(wanted, Redactor()) is wanted
    secret = asked(prompt=_SECRET, temperature=0.0)
    assert redacted(secret, Redactor()).model_fields_set == secret.model_fields_set


def test_a_role_is_no_place_for_a_secret() -> None:
    """Names that are not free text are left as they are: `user` as a value of the environment is no secret here."""
    with pytest.raises(ConfigError, match="where a name should"):
        redacted(
            asked(messages=[{"role": "assistant", "content": "x"}]), Redactor(b"k", {"ROLE": "assistant"})
        )


def test_an_unknown_provider_is_told_which_there_are() -> None:
    """By name, all of them."""
    with pytest.raises(ConfigError, match="no provider") as caught:
        resolve_scaffold(asked("nobody", "m"))
    assert caught.value.subject == "nobody"
    assert all(name in caught.value.hint for name in MODELS)


def test_rulepacks_are_checked_where_they_are_known() -> None:
    """A misspelt one would check nothing; without a list nobody can tell."""
    wanted = asked(rulepacks=["py/clean"])
    assert resolve_scaffold(wanted).asked.rulepacks == ("py/clean",)
    assert resolve_scaffold(wanted, known_rulepacks={"py/clean"}).asked.rulepacks == ("py/clean",)
    with pytest.raises(ConfigError, match="no rulepack") as caught:
        resolve_scaffold(wanted, known_rulepacks={"ts/clean", "a"})
    assert caught.value.hint == "There are a, ts/clean."


def test_counts_carry_their_bound() -> None:
    """Of a sum the bounds add up."""
    made = resolve_scaffold(
        asked(blocks=[{"type": "context", "content": "x"}]), count=lambda text: _Counted(100, 7)
    )
    assert (made.token_count, made.token_bound) == (200, 14)


def test_a_prompt_below_the_minimum_is_not_marked() -> None:
    """Anthropic would keep nothing of it; where nobody counts, marks stand to be sure."""
    wanted = asked(blocks=[{"type": "style_guide", "content": "x"}])
    assert any(each.breakpoint for each in resolve_scaffold(wanted).rendered.segments)
    short, long = (resolve_scaffold(wanted, count=partial(_always, size)) for size in (100, 600))
    assert not any(each.breakpoint for each in short.rendered.segments)
    assert any(each.breakpoint for each in long.rendered.segments)


def test_a_price_is_of_the_prompt_alone() -> None:
    """Counted here, so an estimate; without tokens or a price there is none."""
    seen: list[Usage] = []

    def price(_: ResolveInput, usage: Usage) -> Cost:
        seen.append(usage)
        return _PRICE

    made = resolve_scaffold(asked(), count=lambda text: 7, price=price)
    assert made.estimated_cost == _PRICE
    assert seen == [Usage(input_tokens=7, reported=False)]
    assert resolve_scaffold(asked(), price=price).estimated_cost is None


def test_a_provider_may_count_and_price_itself() -> None:
    """What is handed in wins; the provider's own is asked where nothing is."""
    own = Provider(
        "anthropic",
        provider_named("anthropic").renderer,
        estimate=lambda model, text: 11,
        price=lambda model, usage: _PRICE,
    )
    made = resolve_scaffold(asked(), provider=own)
    assert (made.token_count, made.estimated_cost) == (11, _PRICE)
    other = resolve_scaffold(asked(), provider=own, count=lambda text: 3, price=lambda *_: None)
    assert (other.token_count, other.estimated_cost) == (3, _PRICE)


def test_it_is_frozen() -> None:
    """What was resolved is what is sent."""
    made = resolve_scaffold(asked())
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.cache_hit = True  # type: ignore[misc]  # that it cannot be is the point
