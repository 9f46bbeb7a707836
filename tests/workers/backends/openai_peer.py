"""A server that speaks OpenAI's protocol, as platform.openai.com/docs/api-reference and vLLM's documents show it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from starlette.responses import JSONResponse, PlainTextResponse, Response

from .peers import Asked, Chosen, Peer, chosen

__all__ = ["OpenAIPeer"]


# What a model says without a limit.
_MAX_TOKENS = 40


class OpenAIPeer(Peer):
    """Serves `models`. With `is_vllm`, adapters and sleep mode too; without `completes`, chats alone."""

    def __init__(self, *models: str, is_vllm: bool = False, completes: bool = True) -> None:
        self.models, self.is_vllm, self.completes = list(models), is_vllm, completes
        super().__init__()

    def clear(self) -> None:
        """As at the beginning."""
        super().clear()
        self.adapters: dict[str, str] = {}
        self.sleeping = False

    def routes(self) -> dict[str, Callable[[Asked], Response]]:
        """OpenAI's endpoints, and vLLM's where it is one."""
        routes: dict[str, Callable[[Asked], Response]] = {
            "/v1/models": self._models,
            "/v1/chat/completions": self._chat,
        }
        if self.completes:
            routes["/v1/completions"] = self._complete
        if self.is_vllm:
            routes |= {
                "/v1/load_lora_adapter": self._load_adapter,
                "/is_sleeping": lambda _: JSONResponse({"is_sleeping": self.sleeping}),
                "/sleep": lambda _: self._rest(True),
                "/wake_up": lambda _: self._rest(False),
            }
        return routes

    def error(self, message: str) -> bytes:
        """An error in mid-stream, as vLLM sends it."""
        return _event(
            {"error": {"message": message, "type": "InternalServerError", "param": None, "code": 500}}
        )

    def _models(self, _: Asked) -> Response:
        data: list[dict[str, Any]] = [
            {"id": each, "object": "model", "created": 1686935002, "owned_by": "openai"}
            for each in self.models
        ]
        if self.is_vllm:
            for each in data:
                each |= {
                    "owned_by": "vllm",
                    "root": f"/models/{each['id']}",
                    "parent": None,
                    "max_model_len": 768,
                }
            data += [
                {
                    "id": name,
                    "object": "model",
                    "created": 1,
                    "owned_by": "vllm",
                    "root": root,
                    "parent": self.models[0],
                }
                for name, root in self.adapters.items()
            ]
        return JSONResponse({"object": "list", "data": data})

    def _chat(self, asked: Asked) -> Response:
        if "tools" in asked.body:
            return self.stream(_tool_call(asked), "text/event-stream", end=iter(()))
        if "REFUSE" in (prompt := json.dumps(asked.body["messages"])):
            said = _chat_chunk(asked, {"refusal": "I will not."}, None), _chat_chunk(asked, {}, "stop")
            return self.stream(iter((*said, b"data: [DONE]\n\n")), "text/event-stream", end=iter(()))
        start = _chat_chunk(asked, {"role": "assistant", "content": ""}, None)

        def pieces(said: Chosen) -> Iterator[bytes]:
            yield start
            yield from (_chat_chunk(asked, {"content": word}, None) for word in said.words)

        return self._answer(asked, prompt, pieces, lambda reason: _chat_chunk(asked, {}, reason))

    def _complete(self, asked: Asked) -> Response:
        def pieces(said: Chosen) -> Iterator[bytes]:
            yield from (_text_chunk(asked, word, None) for word in said.words)

        return self._answer(
            asked, asked.body["prompt"], pieces, lambda reason: _text_chunk(asked, "", reason)
        )

    def _answer(
        self,
        asked: Asked,
        prompt: str,
        pieces: Callable[[Chosen], Iterator[bytes]],
        last: Callable[[str], bytes],
    ) -> Response:
        body = asked.body
        if body["model"] not in [*self.models, *self.adapters]:
            said = f"The model `{body['model']}` does not exist or you do not have access to it."
            inner = {
                "message": said,
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
            return JSONResponse({"error": inner}, 404)
        most = body.get("max_completion_tokens") or body.get("max_tokens") or _MAX_TOKENS
        talk = chosen(
            f"{body['model']} {prompt}",
            body.get("seed", 0),
            body.get("temperature", 1.0),
            most,
            body.get("stop", []),
        )

        def end() -> Iterator[bytes]:
            yield last("length" if talk.is_cut else "stop")
            if body.get("stream_options", {}).get("include_usage"):
                usage = {
                    "prompt_tokens": 9,
                    "completion_tokens": len(talk.words),
                    "total_tokens": 9 + len(talk.words),
                }
                yield _event({**_head(asked), "choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"

        return self.stream(pieces(talk), "text/event-stream", end=end())

    def _load_adapter(self, asked: Asked) -> Response:
        name = asked.body["lora_name"]
        self.adapters[name] = asked.body["lora_path"]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    def _rest(self, sleeping: bool) -> Response:
        self.sleeping = sleeping
        return Response(status_code=200)


def _tool_call(asked: Asked) -> Iterator[bytes]:
    """As documented (chat completions, streaming, tools), with the usage of a cached prefix."""
    begun = {"name": asked.body["tools"][0]["function"]["name"], "arguments": ""}
    yield _chat_chunk(
        asked, {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": begun}]}, None
    )
    for part in ('{"path":', ' "a.py"}'):
        yield _chat_chunk(asked, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}, None)
    yield _chat_chunk(asked, {}, "tool_calls")
    usage = {
        **{"prompt_tokens": 1505, "completion_tokens": 17, "total_tokens": 1522},
        "prompt_tokens_details": {"cached_tokens": 1408},
    }
    yield _event({**_head(asked), "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    # Not escaped to ASCII, as most servers: U+2028 and U+0085 end no line here.
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def _head(asked: Asked) -> dict[str, Any]:
    kind = "chat.completion.chunk" if asked.path.startswith("/v1/chat") else "text_completion"
    return {
        "id": "cmpl-123",
        "object": kind,
        "created": 1694268190,
        "model": asked.body["model"],
        "usage": None,
    }


def _chat_chunk(asked: Asked, delta: dict[str, Any], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _event({**_head(asked), "system_fingerprint": "fp_44709d6fcb", "choices": [choice]})


def _text_chunk(asked: Asked, text: str, reason: str | None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return _event({**_head(asked), "choices": [choice]})
