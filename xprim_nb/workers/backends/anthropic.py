"""Anthropic, through its official SDK (extra `anthropic`): messages, streamed.

Since API version 2026-10-21 a request with `temperature`, `top_p` or `top_k` is refused, even at their defaults, and the
SDK has no such arguments any more. So none is sent: `top_p` and `top_k` are refused here, and of a temperature the log
says that it has no effect.

Source: spec 4 §Install on first use; platform.claude.com/docs (Messages API, versions, streaming, errors).
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
from xprim_nb.workers.backends.shapes import count
from xprim_nb.workers.contract import BackendContext
from xprim_nb.workers.values import Capabilities, Ended, GenerateRequest, LoadOptions, Piece

if TYPE_CHECKING:
    from types import ModuleType

    from anthropic import AsyncAnthropic

__all__ = ["DEFAULT_URL", "AnthropicBackend", "create"]

_log = logging.getLogger("xprim_nb.workers")

DEFAULT_URL = "https://api.anthropic.com"
# Fields of a request that a user may set, by the API's own names.
# The API wants a number; every model it has takes this one.
_MAX_TOKENS = 4096
_SETTINGS = frozenset({"output_config", "service_tier", "thinking"})


def create(context: BackendContext) -> AnthropicBackend:
    """The backend `anthropic`."""
    return AnthropicBackend(context)


class AnthropicBackend(RemoteBackend):
    """One account.

    Args:
        context: `keys["anthropic"]`; `endpoints["anthropic"]` for another address.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, context: BackendContext) -> None:
        # The API has no seed.
        able = Capabilities(
            has_process=False,
            is_remote=True,
            slots=SLOTS,
            honours_seed=False,
            can_install=False,
            takes_body=True,
        )
        super().__init__("anthropic", able, _SETTINGS)
        self._account = Account(context, "anthropic", DEFAULT_URL)
        self._client: AsyncAnthropic | None = None

    async def listed(self) -> Sequence[Listed]:
        """What the account may use, newest first.

        Raises:
            ProviderError, OfflineError: It cannot be asked.
            MissingExtraError: The SDK is not installed.
        """
        client = self._opened()
        with translated(self._account.peer):
            models = [each async for each in client.models.list()]
        return [
            Listed(
                each.id,
                f"{each.display_name}.",
                context_tokens=getattr(each, "max_input_tokens", None) or 0,
            )
            for each in models
        ]

    async def serve(self, found: Listed, options: LoadOptions) -> Served:
        """There is nothing to load."""

        def talk(request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
            return self._answer(found.name, options.settings, request)

        context_tokens = found.context_tokens or options.context_tokens
        return Served(found.name, str(self._account.peer), context_tokens, talk)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _answer(
        self, model: str, settings: Mapping[str, object], request: GenerateRequest
    ) -> AsyncGenerator[Piece | Ended, None]:
        client, asked = self._opened(), _asked(model, settings, request)
        reason, calls = "", ToolCalls()
        usage: dict[str, object] = {}
        with translated(self._account.peer, model=model):
            stream = await client.messages.create(**sdk_arguments(client.messages.create, asked))
            async with contextlib.aclosing(_closing(stream)) as events:
                async for event in events:
                    match event.type:
                        case "message_start":
                            usage = event.message.usage.model_dump(exclude_none=True)
                        case "content_block_start":
                            if event.content_block.type == "tool_use":
                                block = event.content_block
                                calls.add(event.index, id_=block.id, name=block.name)
                        case "content_block_delta":
                            if event.delta.type in ("text_delta", "thinking_delta"):
                                yield Piece(getattr(event.delta, "text", ""))
                            elif event.delta.type == "input_json_delta":
                                calls.add(event.index, arguments=event.delta.partial_json)
                                yield Piece("")
                        case "message_delta":
                            reason = event.delta.stop_reason or reason
                            usage |= event.usage.model_dump(exclude_none=True)
        if reason:
            yield Ended(
                finish_of(reason),
                prompt_tokens=count(usage, "input_tokens"),
                tokens=count(usage, "output_tokens"),
                usage=usage,
                tool_calls=calls.whole(),
            )

    def _opened(self) -> AsyncAnthropic:
        self._account.refuse()
        if self._client is None:
            sdk = _sdk()
            self._client = sdk.AsyncAnthropic(
                api_key=self._account.key,
                base_url=self._account.address.url,
                max_retries=0,
                http_client=self._account.transport(sdk),
            )
        return self._client


def _sdk() -> ModuleType:
    try:
        import anthropic  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError.for_extra("anthropic", "The backend anthropic") from error
    return anthropic


async def _closing(stream: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401  # the SDK's
    async with stream:
        async for event in stream:
            yield event


def _asked(model: str, settings: Mapping[str, object], request: GenerateRequest) -> dict[str, Any]:
    if request.body is not None:
        return {**request.body, **settings, "model": model, "stream": True}
    sampling, said = request.sampling, turns(request)
    if request.loras:
        raise UnsupportedModelError(
            f"Anthropic takes no LoRA layers, and {request.loras[0].name!r} was asked for.",
            subject=request.loras[0].name,
            hint="Use the backend numpy or transformers.",
        )
    for name, is_asked in (("top_p", sampling.top_p != 1.0), ("top_k", sampling.top_k)):
        if is_asked:
            raise GenerationFailedError(
                f"Anthropic takes no {name}.",
                subject=name,
                hint="Leave it out: the model samples as it is made to.",
            )
    if sampling.temperature:
        _log.warning("Anthropic takes no temperature: %s samples as it is made to.", model)
    messages = [{"role": each.role, "content": each.content} for each in said if each.role != "system"]
    if not messages:
        raise GenerationFailedError(
            "There is no message of a user to answer.", subject="messages", hint="Add one after the system's."
        )
    asked: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": sampling.max_tokens or _MAX_TOKENS,
        "stream": True,
        **settings,
    }
    system = "\n\n".join(each.content for each in said if each.role == "system")
    # The API refuses stop texts of blanks alone; they are kept on our side.
    stops = [stop for stop in sampling.stop if stop.strip()]
    optional = {"system": system, "stop_sequences": stops}
    return {**asked, **{name: value for name, value in optional.items() if value}}
