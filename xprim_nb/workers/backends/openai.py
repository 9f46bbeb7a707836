"""OpenAI, through its official SDK (extra `openai`): chat completions, streamed.

Source: spec 4 §Install on first use; platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xprim_nb.errors import GenerationFailedError, MissingExtraError, UnsupportedModelError
from xprim_nb.workers.backends.laid_out import ToolCalls, finish_of, sdk_arguments
from xprim_nb.workers.backends.remote import SLOTS, Listed, RemoteBackend, turns
from xprim_nb.workers.backends.remote_runner import Served
from xprim_nb.workers.backends.sdk import Account, translated
from xprim_nb.workers.contract import BackendContext
from xprim_nb.workers.values import Capabilities, Ended, GenerateRequest, LoadOptions, Piece

if TYPE_CHECKING:
    from types import ModuleType

    from openai import AsyncOpenAI

__all__ = ["DEFAULT_URL", "OpenAIBackend", "create"]

_log = logging.getLogger("xprim_nb.workers")

DEFAULT_URL = "https://api.openai.com/v1"
# Fields of a request that a user may set, by the API's own names.
_SETTINGS = frozenset("frequency_penalty presence_penalty reasoning_effort service_tier verbosity".split())
# Reasoning models refuse these; without them they answer. The stop texts are kept on our side in any case.
_DROPPABLE = ("temperature", "top_p", "seed", "stop")
# The API takes no more.
_MOST_STOPS = 4


def create(context: BackendContext) -> OpenAIBackend:
    """The backend `openai`."""
    return OpenAIBackend(context)


class OpenAIBackend(RemoteBackend):
    """One account.

    Args:
        context: `keys["openai"]`; `endpoints["openai"]` for another address.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, context: BackendContext) -> None:
        # Seeds are taken and kept "best effort" only, in the API's own words.
        able = Capabilities(
            has_process=False,
            is_remote=True,
            slots=SLOTS,
            honours_seed=False,
            can_install=False,
            takes_body=True,
        )
        super().__init__("openai", able, _SETTINGS)
        self._account = Account(context, "openai", DEFAULT_URL)
        self._client: AsyncOpenAI | None = None

    async def listed(self) -> Sequence[Listed]:
        """What the account may use, newest first.

        Raises:
            ProviderError, OfflineError: It cannot be asked.
            MissingExtraError: The SDK is not installed.
        """
        client = self._opened()
        with translated(self._account.peer):
            models = [each async for each in client.models.list()]
        models.sort(key=lambda each: each.created, reverse=True)
        return [Listed(each.id, f"Served by {each.owned_by}.") for each in models]

    async def serve(self, found: Listed, options: LoadOptions) -> Served:
        """There is nothing to load."""
        dropped: set[str] = set()

        def talk(request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
            return self._answer(found.name, options.settings, dropped, request)

        return Served(found.name, str(self._account.peer), options.context_tokens, talk)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _answer(
        self, model: str, settings: Mapping[str, object], dropped: set[str], request: GenerateRequest
    ) -> AsyncGenerator[Piece | Ended, None]:
        client, asked = self._opened(), _asked(model, settings, request)
        finish, usage, refused, calls = "", None, False, ToolCalls()
        with translated(self._account.peer, model=model):
            stream = await self._begun(client, asked, dropped)
            async with contextlib.aclosing(_closing(stream)) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    for choice in chunk.choices[:1]:
                        refused = refused or bool(getattr(choice.delta, "refusal", None))
                        if choice.delta.content or getattr(choice.delta, "refusal", None):
                            yield Piece(choice.delta.content or choice.delta.refusal)
                        for call in choice.delta.tool_calls or ():
                            told = call.function
                            calls.add(
                                call.index,
                                id_=call.id or "",
                                name=(told and told.name) or "",
                                arguments=(told and told.arguments) or "",
                            )
                            yield Piece("")
                        finish = choice.finish_reason or finish
        if finish:
            yield Ended(
                finish_of(finish, refused=refused),
                prompt_tokens=usage.prompt_tokens if usage else 0,
                tokens=usage.completion_tokens if usage else 0,
                usage=usage.model_dump(exclude_none=True) if usage else {},
                tool_calls=calls.whole(),
            )

    async def _begun(self, client: AsyncOpenAI, asked: dict[str, Any], dropped: set[str]) -> Any:  # noqa: ANN401  # the SDK's
        sdk = _sdk()
        while True:
            sent = {name: value for name, value in asked.items() if name not in dropped}
            try:
                create = client.chat.completions.create
                return await create(**sdk_arguments(create, sent))
            except sdk.BadRequestError as error:
                if error.param not in _DROPPABLE or error.param not in sent:
                    raise
                dropped.add(error.param)
                _log.warning("%s takes no %s, and answers as it does without.", asked["model"], error.param)

    def _opened(self) -> AsyncOpenAI:
        self._account.refuse()
        if self._client is None:
            sdk = _sdk()
            self._client = sdk.AsyncOpenAI(
                api_key=self._account.key,
                base_url=self._account.address.url,
                max_retries=0,
                http_client=self._account.transport(sdk),
            )
        return self._client


def _sdk() -> ModuleType:
    try:
        import openai  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError.for_extra("openai", "The backend openai") from error
    return openai


async def _closing(stream: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401  # the SDK's
    async with stream:
        async for chunk in stream:
            yield chunk


def _asked(model: str, settings: Mapping[str, object], request: GenerateRequest) -> dict[str, Any]:
    streamed = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    if request.body is not None:
        return {**request.body, **settings, **streamed}
    sampling = request.sampling
    if request.loras:
        raise UnsupportedModelError(
            f"OpenAI takes no LoRA layers, and {request.loras[0].name!r} was asked for.",
            subject=request.loras[0].name,
            hint="Use the backend numpy or transformers.",
        )
    if sampling.top_k:
        raise GenerationFailedError("OpenAI has no top_k.", subject="top_k", hint="Use top_p.")
    asked: dict[str, Any] = {
        **streamed,
        "messages": [{"role": each.role, "content": each.content} for each in turns(request)],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        **settings,
    }
    if sampling.max_tokens is not None:
        asked["max_completion_tokens"] = sampling.max_tokens
    if sampling.stop:
        asked["stop"] = list(sampling.stop[:_MOST_STOPS])
    return asked
