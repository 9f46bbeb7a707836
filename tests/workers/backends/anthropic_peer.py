"""A server that speaks Anthropic's protocol, as platform.claude.com/docs (Messages, streaming, models) shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from .peers import Asked, Peer, chosen

__all__ = ["AnthropicPeer"]


class AnthropicPeer(Peer):
    """Serves `models`."""

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        super().__init__()

    def routes(self) -> dict[str, Callable[[Asked], Response]]:
        """The two endpoints that are used."""
        return {"/v1/models": self._models, "/v1/messages": self._messages}

    def error(self, message: str) -> bytes:
        """An error in mid-stream."""
        return _event("error", error={"type": "overloaded_error", "message": message})

    def _models(self, _: Asked) -> Response:
        data = [
            {"type": "model", "id": each, "display_name": each.title(), "created_at": "2025-02-19T00:00:00Z"}
            for each in self.models
        ]
        ends = {"has_more": False, "first_id": self.models[0], "last_id": self.models[-1]}
        return JSONResponse({"data": data, **ends})

    def _messages(self, asked: Asked) -> Response:
        body = asked.body
        if body["model"] not in self.models:
            error = {"type": "not_found_error", "message": f"model: {body['model']}"}
            return JSONResponse({"type": "error", "error": error}, 404)
        refused = sorted({"temperature", "top_p", "top_k"} & set(body))
        if refused:  # since API version 2026-10-21, even at their defaults
            error = {
                "type": "invalid_request_error",
                "message": f"{refused[0]}: Extra inputs are not permitted",
            }
            return JSONResponse({"type": "error", "error": error}, 400)
        if "tools" in body:
            return self.stream(_tool_call(body), "text/event-stream", end=iter(()))
        prompt = json.dumps([body.get("system"), body["messages"]])
        talk = chosen(prompt, 0, 0.0, body["max_tokens"], body.get("stop_sequences", []))

        def pieces() -> Iterator[bytes]:
            message = {
                "id": "msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyS",
                "type": "message",
                "role": "assistant",
                "content": [],
                "model": body["model"],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 25, "output_tokens": 1},
            }
            yield (
                _event("message_start", message=message)
                + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
                + _event("ping")
            )
            for word in talk.words:
                yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})

        def end() -> Iterator[bytes]:
            reason = "max_tokens" if talk.is_cut else "stop_sequence"
            yield _event("content_block_stop", index=0)
            delta = {"stop_reason": reason, "stop_sequence": None}
            yield _event("message_delta", delta=delta, usage={"output_tokens": len(talk.words)})
            yield _event("message_stop")

        return self.stream(pieces(), "text/event-stream", end=end())


def _tool_call(body: Mapping[str, Any]) -> Iterator[bytes]:
    """As documented (Messages API, streaming, tool use), with the usage of a cached prefix."""
    usage = {
        **{"input_tokens": 5, "cache_read_input_tokens": 1200, "cache_creation_input_tokens": 300},
        **{"cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}},
        "output_tokens": 1,
    }
    message = {
        **{"id": "msg_2", "type": "message", "role": "assistant", "content": [], "model": body["model"]},
        **{"stop_reason": None, "stop_sequence": None, "usage": usage},
    }
    block = {"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {}}
    yield _event("message_start", message=message)
    yield _event("content_block_start", index=0, content_block=block)
    for part in ('{"path":', ' "a.py"}'):
        yield _event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": part})
    yield _event("content_block_stop", index=0)
    delta = {"stop_reason": "tool_use", "stop_sequence": None}
    yield _event("message_delta", delta=delta, usage={"output_tokens": 17})
    yield _event("message_stop")


def _event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
