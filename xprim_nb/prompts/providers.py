"""Whom a prompt can be sent to: those that come with this package, and those that others add by entry point.

A distribution adds its own under `xprim_nb.providers`: the name is the provider's, the object a callable without
arguments that makes a `ProviderPlugin`. One that cannot be used is warned of once and left out; nobody takes the name of
one that comes with this package.

Source: spec 6 §Resolve (entry points `xprim_nb.providers`).
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol, TypeAlias

from xprim_nb.errors import ConfigError
from xprim_nb.prompts.answers import Cost, Generate, Usage
from xprim_nb.prompts.render.anthropic import AnthropicRenderer
from xprim_nb.prompts.render.contract import Renderer
from xprim_nb.prompts.render.llama_cpp import LlamaCppRenderer
from xprim_nb.prompts.render.local import LocalRenderer
from xprim_nb.prompts.render.openai import OpenAIRenderer
from xprim_nb.prompts.render.sglang import SglangRenderer
from xprim_nb.prompts.render.vllm import VllmRenderer

__all__ = [
    "ENTRY_POINTS",
    "Estimate",
    "Price",
    "Provider",
    "ProviderPlugin",
    "provider_named",
    "provider_names",
]

ENTRY_POINTS = "xprim_nb.providers"
"""The group under which distributions add their providers."""

Estimate: TypeAlias = Callable[[str, str], int]
"""Tokens of a text: model, text."""
Price: TypeAlias = Callable[[str, Usage], Cost | None]
"""What tokens cost: model, tokens; None where nobody knows."""

_log = logging.getLogger("xprim_nb.prompts")


class ProviderPlugin(Protocol):
    """A provider: how to write to it, and what it is known of its tokens and prices."""

    @property
    def name(self) -> str:
        """As in `ResolveInput.provider`."""
        ...

    @property
    def models(self) -> Sequence[str]:
        """Patterns of `fnmatch` of the models that it is known to have; `*` for any."""
        ...

    @property
    def renderer(self) -> Renderer:
        """What makes the bodies of its requests."""
        ...

    @property
    def estimate(self) -> Estimate | None:
        """Its own count of tokens; None to have them counted as for anybody."""
        ...

    @property
    def price(self) -> Price | None:
        """Its own prices; None to have them looked up as for anybody."""
        ...

    @property
    def execute(self) -> Generate | None:
        """Who answers; None where somebody has to be handed in."""
        ...


@dataclass(frozen=True, slots=True)
class Provider:
    """A `ProviderPlugin` made of its parts; what each is, that protocol says."""

    name: str
    renderer: Renderer
    models: Sequence[str] = ("*",)
    estimate: Estimate | None = None
    price: Price | None = None
    execute: Generate | None = None


def openai() -> Provider:
    """OpenAI."""
    return Provider("openai", OpenAIRenderer(), models=("gpt-*", "o[0-9]*", "chatgpt-*", "codex-*"))


def anthropic() -> Provider:
    """Anthropic."""
    return Provider("anthropic", AnthropicRenderer(), models=("claude-*",))


def vllm() -> Provider:
    """A server of vLLM."""
    return Provider("vllm", VllmRenderer())


def sglang() -> Provider:
    """A server of SGLang."""
    return Provider("sglang", SglangRenderer())


def llama_cpp() -> Provider:
    """A server of llama.cpp."""
    return Provider("llama-cpp", LlamaCppRenderer())


def local() -> Provider:
    """Models that run on this machine."""
    return Provider("local", LocalRenderer())


_BUILT_IN: Mapping[str, Callable[[], Provider]] = MappingProxyType(
    {
        "openai": openai,
        "anthropic": anthropic,
        "vllm": vllm,
        "sglang": sglang,
        "llama-cpp": llama_cpp,
        "local": local,
    }
)
# Functions alone would be bound to a class that holds them; and a plug-in that lacks one of these is no provider.
_NEEDED = ("name", "models", "renderer")


def provider_names() -> list[str]:
    """Everything that may stand in `ResolveInput.provider`, sorted."""
    return sorted(_known())


def provider_named(name: str) -> ProviderPlugin:
    """The provider of this name.

    Raises:
        ConfigError: There is none.
    """
    found = _known().get(name)
    if found is None:
        raise ConfigError(
            f"{name!r:.80} is no provider.",
            subject=name[:80],
            hint=f"There are {', '.join(provider_names())}.",
        )
    return found


@cache
def _known() -> Mapping[str, ProviderPlugin]:
    known: dict[str, ProviderPlugin] = {name: make() for name, make in _BUILT_IN.items()}
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name in _BUILT_IN:
            # This package's own, declared like everybody's; any other would take what is written for it.
            if point.value != f"{__name__}:{point.name.replace('-', '_')}":
                _log.warning("the provider %s of %s is left out: the name is taken", point.name, point.value)
            continue
        plugin = _loaded(point)
        if plugin is not None:
            known[point.name] = plugin
    return MappingProxyType(known)


def _loaded(point: importlib.metadata.EntryPoint) -> ProviderPlugin | None:
    try:
        plugin: ProviderPlugin = point.load()()
        missing = [each for each in _NEEDED if not hasattr(plugin, each)]
        if missing:
            raise TypeError(f"it has no {', '.join(missing)}")
        if plugin.name != point.name:
            raise ValueError(f"it calls itself {plugin.name}")
        plain = Provider(
            plugin.name,
            plugin.renderer,
            tuple(plugin.models),
            getattr(plugin, "estimate", None),
            getattr(plugin, "price", None),
            getattr(plugin, "execute", None),
        )
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the plug-in's, and others still work
        _log.warning("the provider %s of %s cannot be used: %s", point.name, point.value, error)
        return None
    return plain
