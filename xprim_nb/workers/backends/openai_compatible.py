"""Any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp's, LM Studio, `transformers serve`, others.

    GET  /v1/models             what it serves        POST /v1/load_lora_adapter   vLLM, where it allows it
    POST /v1/completions        a prompt as it is     GET  /is_sleeping            vLLM in development mode
    POST /v1/chat/completions   messages              POST /sleep, /wake_up        the same

Over httpx2, so that the base install can talk to all of them.

Source: spec 4 §Install on first use; platform.openai.com/docs/api-reference; vLLM docs/features/{lora,sleep_mode}.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from xprim_nb.errors import ConfigError, LoadFailedError, ProviderError, UnsupportedModelError
from xprim_nb.workers.backends.failures import line_failure
from xprim_nb.workers.backends.http import Server, events
from xprim_nb.workers.backends.laid_out import ToolCalls, finish_of
from xprim_nb.workers.backends.remote import SLOTS, Listed, RemoteBackend, turns
from xprim_nb.workers.backends.remote_runner import Served
from xprim_nb.workers.backends.shapes import count, items, mapping, number, text
from xprim_nb.workers.contract import BackendContext
from xprim_nb.workers.values import Capabilities, Ended, GenerateRequest, LoadOptions, LoraChoice, Piece

__all__ = ["OpenAICompatibleBackend", "base_url", "create", "create_named"]

# `chat`: send a prompt as a user's message even where the server completes. `extra_body`: fields of its own.
_SETTINGS = frozenset({"chat", "extra_body"})
# Of a completion that nobody gave a limit.
_COMPLETION_TOKENS = 256
# What it looks like when a server has no such endpoint.
_NO_ENDPOINT = {404, 405, 501}
# How the servers name the longest context of a model, first found wins: vLLM and SGLang, LM Studio, routers.
_CONTEXT = ("max_model_len", "max_context_length", "context_length")


def create(context: BackendContext) -> OpenAICompatibleBackend:
    """The backend `openai_compatible`, at `endpoints["openai_compatible"]`."""
    return create_named(context, "openai_compatible")


def create_named(context: BackendContext, name: str) -> OpenAICompatibleBackend:
    """A backend under a name of one's own, `{"lab": "http://127.0.0.1:8000/v1"}`, with the key of that name."""
    return OpenAICompatibleBackend(context, name)


def base_url(url: str) -> str:
    """The address that paths like `/models` are appended to: `/v1` is added where there is no path.

    >>> base_url("http://127.0.0.1:8000/"), base_url("http://127.0.0.1:8000/v1/")
    ('http://127.0.0.1:8000/v1', 'http://127.0.0.1:8000/v1')
    """
    url = url.strip().rstrip("/")
    return url if urlsplit(url).path.strip("/") else f"{url}/v1"


@dataclass(slots=True)
class _Manners:
    """What a server was seen not to have; learned once for each loaded model."""

    completes: bool = True
    tells_usage: bool = True


class OpenAICompatibleBackend(RemoteBackend):
    """One server.

    Args:
        context: Its address and key stand under `name`. Without an address every question raises ConfigError.
        name: As it stands before the colon in `backend:model`.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, context: BackendContext, name: str) -> None:
        able = Capabilities(
            has_process=False, is_remote=True, slots=SLOTS, lora="server", can_install=False, takes_body=True
        )
        super().__init__(name, able, _SETTINGS)
        url = context.endpoints.get(name)
        self._asked: Server | None = None
        if url:
            self._asked = Server(name, base_url(url), key=context.keys.get(name, ""), offline=context.offline)
        self._loading_layer = asyncio.Lock()

    async def listed(self) -> Sequence[Listed]:
        """What it serves, adapters included.

        Raises:
            ProviderError, OfflineError: It cannot be asked.
            ConfigError: Nobody said where it is.
        """
        return [_listed(each) for each in items(await self._server.question("GET", "/models"), "data")]

    async def serve(self, found: Listed, options: LoadOptions) -> Served:
        """Wake it, if it sleeps; there is nothing to load.

        Raises:
            LoadFailedError: A setting has the wrong type.
            ProviderError, OfflineError, ConfigError: It cannot be asked.
        """
        extra = options.settings.get("extra_body", {})
        if not isinstance(extra, Mapping):
            raise LoadFailedError(
                f"extra_body is {extra!r:.60}, and must be a mapping.", subject="extra_body"
            )
        sleeping = await self._is_sleeping()
        if sleeping:
            await self._wake()
        manners = _Manners(completes=not options.settings.get("chat", False))

        def talk(request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
            return self._answer(found.name, dict(extra), manners, request)

        served = Served(
            found.name, str(self._server.peer), found.context_tokens or options.context_tokens, talk
        )
        if sleeping is None:
            return served
        self._capabilities = replace(self._capabilities, can_park=True)
        return replace(served, sleep=self._sleep, wake=self._wake)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        if self._asked is not None:
            await self._asked.aclose()

    @property
    def _server(self) -> Server:
        if self._asked is None:
            raise ConfigError(
                f"Nobody said where {self.name} is.",
                subject=self.name,
                hint="Set XPRIM_OPENAI_COMPATIBLE_URL, or endpoints={'a name of your own': 'http://…/v1'}.",
            )
        return self._asked

    async def _answer(
        self, model: str, extra: Mapping[str, object], manners: _Manners, request: GenerateRequest
    ) -> AsyncGenerator[Piece | Ended, None]:
        began = time.monotonic()
        asked = await self._with_layer(model, request.loras)
        lora_s = time.monotonic() - began if request.loras else 0.0
        while True:
            path, body = _asked(asked, request, manners)
            try:
                async with contextlib.aclosing(self._told(path, {**body, **extra}, asked)) as items_:
                    async for item in items_:
                        yield replace(item, lora_s=lora_s) if isinstance(item, Ended) else item
                return
            except ProviderError as error:
                if not _learned(error, path, manners):
                    raise

    async def _told(
        self, path: str, body: Mapping[str, object], model: str
    ) -> AsyncGenerator[Piece | Ended, None]:
        finish, usage, timings, refused, calls = "", _NOTHING, _NOTHING, False, ToolCalls()
        async with contextlib.aclosing(events(self._server, path, body, model=model)) as datas:
            async for data in datas:
                if data == b"[DONE]":
                    finish = finish or "stop"
                    continue
                told = self._server.parsed(data)
                if told.get("error"):
                    raise line_failure(self._server.peer, told["error"], model=model)
                usage = mapping(told, "usage") or usage
                timings = mapping(told, "timings") or timings
                for choice in items(told, "choices")[:1]:
                    delta = mapping(choice, "delta")
                    refused = refused or bool(text(delta, "refusal"))
                    piece = text(choice, "text") or text(delta, "content") or text(delta, "refusal")
                    for call in items(delta, "tool_calls"):
                        said = mapping(call, "function")
                        calls.add(
                            count(call, "index"),
                            id_=text(call, "id"),
                            name=text(said, "name"),
                            arguments=text(said, "arguments"),
                        )
                        yield Piece("")
                    if piece or text(delta, "reasoning_content") or text(delta, "reasoning"):
                        yield Piece(piece)
                    finish = text(choice, "finish_reason") or finish
        if finish:
            yield Ended(
                finish_of(finish, refused=refused),
                prompt_tokens=count(usage, "prompt_tokens"),
                tokens=count(usage, "completion_tokens"),
                prefill_s=number(timings, "prompt_ms") / 1000,
                decode_s=number(timings, "predicted_ms") / 1000,
                usage={**usage, **({"timings": timings} if timings else {})},
                tool_calls=calls.whole(),
            )

    async def _with_layer(self, model: str, loras: Sequence[LoraChoice]) -> str:
        """The name to ask for: the model's, or that of its adapter, which the server is told of when it is new."""
        if not loras:
            return model
        layer = loras[0]
        if len(loras) > 1 or layer.weight != 1.0:
            raise UnsupportedModelError(
                f"{self.name} takes one LoRA layer at weight 1, and was asked for "
                f"{', '.join(f'{each.name} × {each.weight:g}' for each in loras)}.",
                subject=layer.name,
                hint="Use the backend numpy or transformers, or merge the layers before.",
            )
        # Another version under the same name is another adapter.
        exact = f"{layer.name}@{layer.manifest_hash[:12]}" if layer.manifest_hash else layer.name
        async with self._loading_layer:
            known = {each.name for each in await self.listed()}
            if not known & {exact, layer.name}:
                await self._load_layer(exact, layer)
                return exact
            return exact if exact in known else layer.name

    async def _load_layer(self, name: str, layer: LoraChoice) -> None:
        body = {"lora_name": name, "lora_path": str(layer.path)}
        try:
            await self._server.ask("POST", "/load_lora_adapter", body, timeout_s=None)
        except ProviderError as error:
            if error.status not in _NO_ENDPOINT:
                raise
            raise UnsupportedModelError(
                f"{self._server.peer} does not know the LoRA layer {layer.name!r}, and takes none.",
                subject=layer.name,
                hint="vLLM takes them with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.",
            ) from error

    async def _is_sleeping(self) -> bool | None:
        """None where the server cannot sleep."""
        try:
            answer = await self._server.ask("GET", f"{self._root}/is_sleeping")
        except ProviderError:
            return None
        sleeping = answer.get("is_sleeping") if isinstance(answer, Mapping) else None
        return sleeping if isinstance(sleeping, bool) else None

    async def _sleep(self) -> None:
        # Level 1 keeps the weights in memory, so that waking needs nothing but the server itself. Going to sleep was
        # measured to take half a minute where the host's memory has to be pinned first (research residency).
        await self._server.ask("POST", f"{self._root}/sleep?level=1", timeout_s=None)

    async def _wake(self) -> None:
        await self._server.ask("POST", f"{self._root}/wake_up", timeout_s=None)

    @property
    def _root(self) -> str:
        return self._server.address.url.removesuffix("/v1")


_NOTHING: Mapping[str, object] = {}


def _listed(each: Mapping[str, object]) -> Listed:
    context = next((size for name in _CONTEXT if (size := count(each, name))), 0)
    meta = mapping(each, "meta")
    parent, owner = text(each, "parent"), text(each, "owned_by")
    return Listed(
        text(each, "id"),
        f"A LoRA layer of {parent}." if parent else f"Served{f' by {owner}' if owner else ''}.",
        context_tokens=context or count(meta, "n_ctx") or count(meta, "n_ctx_train"),  # llama.cpp's
        fingerprint=text(each, "root"),
    )


def _asked(model: str, request: GenerateRequest, manners: _Manners) -> tuple[str, dict[str, object]]:
    if request.body is not None:
        laid_out = {**request.body, "model": model, "stream": True}
        if manners.tells_usage:
            laid_out["stream_options"] = {"include_usage": True}
        return "/completions" if "prompt" in laid_out else "/chat/completions", laid_out
    sampling = request.sampling
    body: dict[str, object] = {
        "model": model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": True,
    }
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.top_k:  # no field of OpenAI's own: servers that do not have it refuse the request
        body["top_k"] = sampling.top_k
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if manners.tells_usage:
        body["stream_options"] = {"include_usage": True}
    if request.prompt is not None and not request.messages and manners.completes:
        # Without a number a completion ends after 16 tokens, as OpenAI's did; a chat fills the context.
        return "/completions", {"max_tokens": _COMPLETION_TOKENS, **body, "prompt": request.prompt}
    said = [{"role": each.role, "content": each.content} for each in turns(request)]
    return "/chat/completions", {**body, "messages": said}


def _learned(error: ProviderError, path: str, manners: _Manners) -> bool:
    """Whether the refusal tells of something that the server does not have, and can be done without."""
    if path == "/completions" and error.status in _NO_ENDPOINT:
        manners.completes = False
        return True
    if manners.tells_usage and error.status in (400, 422) and "stream_options" in error.message:
        manners.tells_usage = False
        return True
    return False
