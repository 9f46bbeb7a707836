"""The bridge from prompts to the engine: who answers a prompt, which weights that are, and how they count tokens.

    1. A provider's plug-in that answers itself is asked itself.
    2. `local` is a model on this machine, named as for `Engine.generate`; it gets the prompt or the messages.
    3. Any other provider is the backend of the endpoint that the request names, of the provider's own name, or, of vllm,
       sglang and llama-cpp, `openai_compatible`; it gets the request as it was rendered.

What a model is must be part of what its answers are kept under, or an updated model would answer with the words of the
one before. It stands in the request's `endpoint`: `manifest:<hash>` of an installed model, `directory:<hash>` of one's own,
the server's own fingerprint of an Ollama model, each followed by the LoRA layers' hashes, and by `loaded:<settings>` where
the request names no settings of loading (`dtype`, `quantization` …) and the model was loaded with some; of other servers
their URL, where it was configured. A model that is not installed has no such name yet: it is installed before the cache is
looked at, where that is allowed.

Source: spec 6 §Identity, §Caches; DESIGN §The rooms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from xprim_nb.config import mask_url
from xprim_nb.config.database import database_password
from xprim_nb.errors import ConfigError
from xprim_nb.manager import Manager
from xprim_nb.manager.weights import ModelTokens, Weights, fingerprint
from xprim_nb.prompts.answers import Answer, OnText, Usage
from xprim_nb.prompts.counting import CountTokens
from xprim_nb.prompts.desk import Prompts
from xprim_nb.prompts.identity import canonical
from xprim_nb.prompts.models import ModelChangedError
from xprim_nb.prompts.providers import provider_named
from xprim_nb.prompts.rendered import Rendered
from xprim_nb.prompts.usage import usage_from
from xprim_nb.prompts.values import ResolveInput
from xprim_nb.scheduling.asking import Asking
from xprim_nb.scheduling.engine import Engine
from xprim_nb.scheduling.held import OUR_SETTINGS
from xprim_nb.scheduling.naming import ModelName
from xprim_nb.scheduling.values import Reply

__all__ = ["LOCAL", "Answering", "EngineAnswers", "open_prompts"]

LOCAL: Final = "local"
"""The provider of models on this machine."""

# They all speak OpenAI's protocol.
_SERVERS: Final = frozenset({"vllm", "sglang", "llama-cpp"})
# What the engine's `generate` calls as the renderer does; any other field is a setting that the model is loaded with.
_ASKED: Final = frozenset(
    {"prompt", "messages", "temperature", "top_p", "top_k", "seed", "max_tokens", "stop"}
)
_OURS: Final = frozenset({"model", "chat", "loras"})

OpenEngine: TypeAlias = Callable[[], Awaitable[Engine]]
EngineNow: TypeAlias = Callable[[], Engine | None]


def open_prompts(manager: Manager, answers: EngineAnswers) -> Prompts:
    """The prompts of a manager; enter them inside the manager's own `async with`.

    Its keys and headers are secrets: they are in no prompt that is sent or kept.

    Args:
        manager: Whose base directory it is.
        answers: Who answers.
    """
    config = manager.config
    answering = answers.answering()
    database = config.database_url or ""
    return Prompts(
        config.base_dir / "prompts",
        generate=answering,
        models=answering,
        secrets={**config.ai.keys, **config.headers, "database_url": database_password(database)},
        database=database,
        offline=config.offline,
    )


class EngineAnswers:
    """Answers with an engine, which is opened with the first prompt that needs it. Its owner closes the engine.

    Args:
        manager: The models on this machine.
        engine: Opens the engine, or returns the one that is open.
        now: The engine that is open, whoever opened it; None while none is. When not given, the one that prompts opened.
    """

    def __init__(self, manager: Manager, engine: OpenEngine, now: EngineNow | None = None) -> None:
        self._manager, self._open, self._now = manager, engine, now
        self._weights = Weights(manager)
        self._opened: Engine | None = None

    def answering(
        self, *, asking: Asking | None = None, install: bool | None = None, **options: Any
    ) -> Answering:
        """Who answers one call, with these options of `Engine.generate` that change no answer.

        Args:
            asking: Where the progress is told.
            install: Whether a model may be installed; None for the setting.
            **options: `note`, `priority`, `timeout`.
        """
        return Answering(self, asking, install, options)

    async def answer(
        self,
        asked: ResolveInput,
        rendered: Rendered,
        on_text: OnText | None,
        *,
        install: bool | None = None,
        **options: Any,
    ) -> Answer:
        """The answer to what was asked, by the rules above; see `answering` for the options.

        Raises:
            ModelChangedError: Other weights would answer than those that the request is kept under.
            ConfigError, EngineError, NotInstalledError: As `Engine.generate`.
        """
        execute = provider_named(asked.provider).execute
        if execute is not None:
            return await execute(asked, rendered, on_text)
        engine = await self._engine()
        told = {**options, "install": install, "stream": on_text}
        if asked.provider == LOCAL:
            await self._the_same(engine, asked, rendered, install=install)
            reply = await engine.generate(asked.model, **_of_a_model(rendered.body), **told)
            await self._loaded_alike(asked)
        else:
            model = f"{self._backend_of(asked, engine.backends.names())}:{asked.model}"
            reply = await engine.generate(model, body=rendered.body, **told)
        return _answer(asked, reply)

    # --- which model that is ----------------------------------------------------------------------

    async def pinned(
        self,
        asked: ResolveInput,
        *,
        install: bool,
        wish: bool | None = None,
        asking: Asking | None = None,
    ) -> ResolveInput:
        """See `Models.pinned`. A model on this machine is named in full, and chats where it has a template for that.

        Args:
            asked: What is asked.
            install: Whether a model may be installed, as far as the call goes.
            wish: The same, as far as its user goes; None for the setting.
            asking: Where the progress is told.

        Raises:
            InvalidRefError, NotInstalledError, ModelNotFoundError, NetworkError, StorageError: It is not to be had.
            ConfigError: The endpoint is no endpoint of the settings.
            EngineError: Its server does not answer.
        """
        if asked.provider != LOCAL:
            return asked if asked.endpoint else _at(asked, self._url_of(asked.provider))
        if _names_a_backend(asked.model):
            engine = await self._engine()
            name = ModelName.parse(asked.model, engine.backends.names())
            if not engine.backends.get(name.backend).capabilities.uses_library:
                asking = asking or Asking(asked.model)
                held = await engine.ready(asked.model, {}, asking, install=wish if install else False)
                layers = await self._weights.layers(asked.loras, install=wish if install else False)
                told = f"{held.key} {held.facts.fingerprint}{layers}{await self._loaded(asked)}"
                return _at(_chatting(asked, chats=True), told)
        found = await self._weights.find(_bare(asked.model))
        if found is None and install:
            engine = await self._engine()
            await engine.ready(asked.model, {}, asking or Asking(asked.model), install=wish)
            found = await self._weights.find(_bare(asked.model))
        if found is None:
            return _at(asked, "")
        tokenizer = await self._weights.tokenizer(found)
        layers = await self._weights.layers(asked.loras, install=wish if install else False)
        pinned = _at(asked, f"{await fingerprint(found)}{layers}{await self._loaded(asked)}")
        pinned = _chatting(pinned, chats=tokenizer is not None and tokenizer.chats)
        before, colon, _ = asked.model.rpartition(":") if _names_a_backend(asked.model) else ("", "", "")
        return _with(pinned, model=f"{before}{colon}{found.name}")

    async def counter(self, asked: ResolveInput) -> CountTokens | None:
        """See `Models.counter`: the tokenizer of an installed model, where it can be read."""
        if asked.provider != LOCAL or not asked.endpoint.startswith(("manifest:", "directory:")):
            return None
        found = await self._weights.find(_bare(asked.model))
        tokenizer = await self._weights.tokenizer(found) if found is not None else None
        return ModelTokens(tokenizer) if tokenizer is not None else None

    async def _engine(self) -> Engine:
        self._opened = await self._open()
        return self._opened

    async def _loaded(self, asked: ResolveInput) -> str:
        """With which settings a model that is loaded would answer a request that names none; empty for its own.

        They are part of what the answer is kept under, as those that a request names are.
        """
        engine = self._now() if self._now is not None else self._opened
        if engine is None or any(name not in _ASKED | _OURS for name in asked.parameters):
            return ""
        settings = {
            name: value
            for name, value in (await engine.settings_of(asked.model)).items()
            if name not in OUR_SETTINGS
        }
        return f" loaded:{_spelt(settings)}" if settings else ""

    async def _loaded_alike(self, asked: ResolveInput) -> None:
        """Return when the model was not loaded with other settings while it answered.

        Raises:
            ModelChangedError: It was.
        """
        _, mark, before = asked.endpoint.partition(" loaded:")
        if await self._loaded(asked) != f"{mark}{before}":
            raise ModelChangedError(
                f"{asked.model} was loaded with other settings while it was asked.", subject=asked.model
            )

    async def _the_same(
        self, engine: Engine, asked: ResolveInput, rendered: Rendered, *, install: bool | None
    ) -> None:
        """Return when the weights that will answer are those that the request is kept under.

        Raises:
            ModelChangedError: They are not any more.
        """
        settings = _of_a_model(rendered.body, settings_only=True)
        held = await engine.ready(asked.model, settings, Asking(asked.model), install=install)
        if held.backend.capabilities.uses_library:
            found = await self._weights.find(held.name)
            # The files were updated since it was loaded: what is awake are the weights of before.
            if (
                held.runner is not None
                and found is not None
                and found.manifest_hash not in ("", held.facts.fingerprint)
            ):
                await engine.evict(held.key)
        now = await self.pinned(asked, install=False)
        if (now.model, now.endpoint) != (asked.model, asked.endpoint):
            raise ModelChangedError(f"{asked.model} was changed while it was asked.", subject=asked.model)

    # --- which server that is ---------------------------------------------------------------------

    def _url_of(self, provider: str) -> str:
        """Where its requests go, passwords masked; empty for the provider's own address."""
        endpoints = self._manager.config.ai.endpoints
        name = provider if provider in endpoints or provider not in _SERVERS else "openai_compatible"
        return mask_url(endpoints.get(name, ""))

    def _backend_of(self, asked: ResolveInput, backends: list[str]) -> str:
        """The backend that a request goes to, by rule 3.

        Raises:
            ConfigError: There is none.
        """
        endpoints = self._manager.config.ai.endpoints
        same = [name for name, url in endpoints.items() if _same_url(url, asked.endpoint)]
        if asked.endpoint and not same:
            raise ConfigError(
                f"{mask_url(asked.endpoint)} is no endpoint of the settings.",
                subject="endpoint",
                hint="Name it there: Config(ai=AICapabilities(endpoints={...})), with its key in `keys`.",
            )
        if same:
            return asked.provider if asked.provider in same else same[0]
        if asked.provider in backends:
            return asked.provider
        if asked.provider in _SERVERS:
            return "openai_compatible"
        raise ConfigError(
            f"There is nobody to answer for {asked.provider}.",
            subject=asked.provider,
            hint=f"Give it an endpoint in the settings; there are {', '.join(backends)}.",
        )


class Answering:
    """Who answers one call, and knows its model: a `Generate` and a `Models` with the options of its user."""

    def __init__(
        self,
        answers: EngineAnswers,
        asking: Asking | None,
        install: bool | None,
        options: Mapping[str, Any],
    ) -> None:
        self._answers, self._asking, self._install, self._options = answers, asking, install, dict(options)

    async def __call__(
        self, asked: ResolveInput, rendered: Rendered, on_text: OnText | None = None, /
    ) -> Answer:
        """See `EngineAnswers.answer`."""
        return await self._answers.answer(
            asked, rendered, on_text, install=self._install, asking=self._asking, **self._options
        )

    async def pinned(self, asked: ResolveInput, *, install: bool) -> ResolveInput:
        """See `EngineAnswers.pinned`."""
        return await self._answers.pinned(asked, install=install, wish=self._install, asking=self._asking)

    async def counter(self, asked: ResolveInput) -> CountTokens | None:
        """See `EngineAnswers.counter`."""
        return await self._answers.counter(asked)


def _spelt(settings: Mapping[str, object]) -> str:
    """Settings as they are compared: canonical JSON, and in Python's words what JSON does not know."""
    try:
        return canonical(settings).decode()
    except ConfigError:
        return canonical({name: repr(value) for name, value in settings.items()}).decode()


def _of_a_model(body: Mapping[str, Any], *, settings_only: bool = False) -> dict[str, Any]:
    """The arguments of `Engine.generate` that a body makes, or those of them that the model is loaded with."""
    settings = {name: value for name, value in body.items() if name not in _ASKED | _OURS}
    if settings_only:
        return settings
    loras = [(name, weight) for name, weight in body.get("loras", ())]
    asked = {name: body[name] for name in _ASKED if name in body}
    # An answer that ends by itself can be kept; the engine's own limit would cut most of them before.
    return {**settings, "max_tokens": None, **asked, "loras": loras}


def _answer(asked: ResolveInput, reply: Reply) -> Answer:
    """A reply in this room's words; the engine ends its answers with a subset of the room's."""
    usage = usage_from(asked.provider, reply.usage, ttl=asked.prefix_ttl) if reply.usage else Usage()
    if not usage.reported or not reply.usage:
        counted = asked.provider == LOCAL and reply.prompt_tokens > 0
        usage = Usage(reply.prompt_tokens, reply.tokens, reported=counted)
    extra = {"seed": reply.seed, "device": reply.device, "degraded": reply.degraded}
    return Answer(
        text=reply.text,
        finish=reply.finish_reason,
        usage=usage,
        model=reply.model,
        tool_calls=reply.tool_calls,
        latency_s=reply.timings.generate_s,
        first_token_s=reply.timings.first_token_s,
        extra={name: value for name, value in extra.items() if value},
        cut=reply.cut,
    )


def _with(asked: ResolveInput, **fields: object) -> ResolveInput:
    """The request with other fields; checked already, and so not checked again."""
    return asked.model_copy(update=fields)


def _at(asked: ResolveInput, endpoint: str) -> ResolveInput:
    return asked if asked.endpoint == endpoint else _with(asked, endpoint=endpoint)


def _chatting(asked: ResolveInput, *, chats: bool) -> ResolveInput:
    """The request in the form that the model takes, unless it says so itself."""
    if not chats or "chat" in asked.parameters:
        return asked
    return _with(asked, parameters={**asked.parameters, "chat": True})


def _names_a_backend(model: str) -> bool:
    """True for `backend:model`; a path, a drive and a reference have no such beginning."""
    before, colon, _ = model.partition(":")
    return bool(colon) and "/" not in before and "\\" not in before and len(before) > 1


def _bare(model: str) -> str:
    return model.partition(":")[2] if _names_a_backend(model) else model


def _same_url(url: str, endpoint: str) -> bool:
    return bool(endpoint) and endpoint.rstrip("/") in (url.rstrip("/"), mask_url(url).rstrip("/"))
