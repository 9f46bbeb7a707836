"""From what is asked to what is sent: redacted, ordered, rendered, counted and priced. Pure, and knows no clock.

    1  secrets out, before anything is hashed
    2  the rulepacks that it names are known
    3  parts in the order in which they are sent
    4  the provider's body, with marks where its cache can be told
    5  tokens, and what they cost if nothing is cached

Source: seeds/001 (resolveScaffold, ResolvedScaffold); spec 6 §Resolve.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from pydantic import ValidationError

from xprim_nb._hashing import Digest
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.answers import Cost, Usage
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.ordering import ordered_parts
from xprim_nb.prompts.providers import ProviderPlugin, provider_named
from xprim_nb.prompts.redaction import Redactor
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.scaffold import PromptScaffold
from xprim_nb.prompts.values import JsonValue, ResolveInput

__all__ = ["Count", "PriceOf", "ResolvedScaffold", "TokenCount", "redacted", "resolve_scaffold"]


class TokenCount(Protocol):
    """Tokens of a text, and how far off that may be."""

    @property
    def tokens(self) -> int:
        """So many."""
        ...

    @property
    def error_tokens(self) -> int:
        """Give or take."""
        ...


Count: TypeAlias = Callable[[str], "TokenCount | int"]
"""Counts the tokens of a text."""
PriceOf: TypeAlias = Callable[[ResolveInput, Usage], Cost | None]
"""What tokens cost; None where nobody knows."""

# Values by which a provider, a model or a rule is named: no place for a secret, and no name any more with a mark in it.
_NAMES = frozenset({"provider", "model", "scaffold_type", "rulepacks", "loras", "cache", "prefix_ttl"})


@dataclass(frozen=True, slots=True)
class ResolvedScaffold:
    """A prompt, ready to be sent.

    Attributes:
        asked: What was asked, without its secrets.
        scaffold: What stays of it from call to call.
        rendered: What is sent.
        request_hash: Everything that can change the answer.
        token_count: Of what is sent; None where nobody counted.
        token_bound: The true number lies within so many of it; None where nobody knows.
        estimated_cost: Of the prompt if nothing is cached, without an answer; None where nobody knows the price.
        cache_hit: Whether an answer is kept; None until it was looked up.
        notes: What was asked and is not sent as it was asked, a sentence each.
        segment_tokens: For each segment of what is sent, its tokens; empty where nobody counted.
    """

    asked: ResolveInput
    scaffold: PromptScaffold
    rendered: Rendered
    request_hash: Digest
    token_count: int | None = None
    token_bound: int | None = None
    estimated_cost: Cost | None = None
    cache_hit: bool | None = None
    notes: tuple[str, ...] = ()
    segment_tokens: tuple[int, ...] = ()

    @property
    def provider_format(self) -> str:
        """What form it is in: the renderer's name and version."""
        return self.rendered.renderer

    @property
    def content(self) -> str:
        """All of it in one piece, as people read it."""
        return self.rendered.text


def resolve_scaffold(
    asked: ResolveInput,
    *,
    redact: Redactor | None = None,
    count: Count | None = None,
    price: PriceOf | None = None,
    known_rulepacks: Collection[str] = (),
    provider: ProviderPlugin | None = None,
) -> ResolvedScaffold:
    """What is sent for what is asked.

    Args:
        asked: Blocks, tools, settings and a turn.
        redact: Takes secrets out; one of known shapes alone, with marks that all look alike, where none is handed in.
        count: Counts tokens; without it the provider's own estimate, and without that nobody counts.
        price: Knows prices; without it the provider's own.
        known_rulepacks: Those there are; when empty, none is checked.
        provider: Instead of the one of the name that is asked for.

    Raises:
        ConfigError: There is no such provider or rulepack, or a setting cannot be sent.
    """
    clean = redacted(asked, redact or Redactor())
    _check_rulepacks(clean, known_rulepacks)
    whom = provider or provider_named(clean.provider)
    parts = ordered_parts(clean)
    rendered = whom.renderer.render(clean, parts)
    estimate, own_price = whom.estimate, whom.price
    if count is None and estimate is not None:
        count = lambda text: estimate(clean.model, text)  # noqa: E731  # two lines for a name that is read once
    tokens, bounds = _counted(rendered, count)
    if any(segment.breakpoint for segment in rendered.segments) and tokens:
        # A mark below the model's minimum would be in vain, and take the place of one that is not.
        rendered = whom.renderer.render(clean, parts, counts=tokens)
    usage = Usage(input_tokens=sum(tokens), reported=False)
    cost = price(clean, usage) if price and tokens else None
    if cost is None and own_price is not None and tokens:
        cost = own_price(clean.model, usage)
    return ResolvedScaffold(
        asked=clean,
        scaffold=PromptScaffold.of(clean),
        rendered=rendered,
        request_hash=request_hash(clean),
        token_count=sum(tokens) if tokens else None,
        token_bound=sum(bounds) if bounds else None,
        estimated_cost=cost,
        notes=whom.renderer.notes(clean),
        segment_tokens=tuple(tokens),
    )


def redacted(asked: ResolveInput, redact: Redactor) -> ResolveInput:
    """What is asked, without its secrets; the very same object where there are none.

    Raises:
        ConfigError: Without its secrets it is no prompt any more: a mark stands where a name should.
    """
    said: dict[str, JsonValue] = asked.model_dump(exclude_unset=True)
    clean = {name: value if name in _NAMES else redact.json(value) for name, value in said.items()}
    # Lists stand where tuples did, and compare unequal to them.
    if clean == {name: _listed(value) for name, value in said.items()}:
        return asked
    try:
        return ResolveInput.model_validate(clean)
    except ValidationError as error:
        raise ConfigError(
            f"A secret stands where a name should: {error.errors()[0]['loc']}",
            subject="prompt",
            hint="Take it out of names of tools, and of the types of blocks.",
        ) from error


def _listed(value: JsonValue) -> JsonValue:
    match value:
        case dict():
            return {name: _listed(each) for name, each in value.items()}
        case list() | tuple():
            return [_listed(each) for each in value]
        case _:
            return value


def _check_rulepacks(asked: ResolveInput, known: Collection[str]) -> None:
    unknown = [each for each in asked.rulepacks if each not in known] if known else []
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r:.80} is no rulepack.",
            subject=unknown[0][:80],
            hint=f"There are {', '.join(sorted(known))}.",
        )


def _counted(rendered: Rendered, count: Count | None) -> tuple[Sequence[int], Sequence[int]]:
    """Tokens of each segment, and how far off each may be; nothing where nobody counts, or nobody knows."""
    if count is None:
        return (), ()
    told = [count(segment.text) for segment in rendered.segments]
    tokens = [each if isinstance(each, int) else each.tokens for each in told]
    return tokens, [each.error_tokens for each in told if not isinstance(each, int)]
