"""A server that replays Ollama's exchanges, as its docs/api.md and docs.ollama.com/api/errors show them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

from starlette.responses import JSONResponse, Response

from .peers import Asked, Peer, chosen

__all__ = ["OllamaPeer"]

_NDJSON = "application/x-ndjson"
_CREATED = "2023-08-04T08:52:19.385406455-07:00"


class OllamaPeer(Peer):
    """Has `installed` models, a `library` to pull others from, and knows which are `loaded`."""

    def __init__(self, *installed: str, library: tuple[str, ...] = (), context_tokens: int = 8192) -> None:
        self._installed, self.library = installed, library
        self.context_tokens = context_tokens
        super().__init__()

    def clear(self) -> None:
        """As at the beginning."""
        super().clear()
        self.installed = list(self._installed)
        self.loaded: dict[str, int] = {}
        self.capabilities = ["completion"]

    def routes(self) -> dict[str, Callable[[Asked], Response]]:
        """The endpoints that are used."""
        return {
            "/api/version": lambda _: JSONResponse({"version": "0.5.1"}),
            "/api/tags": lambda _: JSONResponse({"models": [_tag(each) for each in self.installed]}),
            "/api/ps": lambda _: JSONResponse({"models": [_running(each) for each in self.loaded]}),
            "/api/show": self._show,
            "/api/pull": self._pull,
            "/api/generate": self._generate,
            "/api/chat": self._chat,
        }

    def error(self, message: str) -> bytes:
        """An error in mid-stream."""
        return _line({"error": f"an error was encountered while running the model: {message}"})

    def has(self, name: str) -> bool:
        """True when it is installed; a name without a tag is the one with `latest`."""
        return _full(name) in self.installed

    def _show(self, asked: Asked) -> Response:
        name = asked.body["model"]
        if not self.has(name):
            return _unknown(name)
        info = {
            "general.architecture": "llama",
            "general.parameter_count": 8030261248,
            "llama.attention.head_count": 32,
            "llama.block_count": 32,
            "llama.context_length": self.context_tokens,
            "llama.embedding_length": 4096,
        }
        details = {"parent_model": "", "format": "gguf", "family": "llama", "parameter_size": "8.0B"}
        return JSONResponse({"details": details, "model_info": info, "capabilities": self.capabilities})

    def _pull(self, asked: Asked) -> Response:
        name = _full(asked.body["model"])

        def lines() -> Iterator[bytes]:
            yield _line({"status": "pulling manifest"})
            if name not in self.library:
                yield _line({"error": "pull model manifest: file does not exist"})
                return
            for digest, total in (("aa11", 2142590208), ("bb22", 4096)):
                told: dict[str, Any] = {
                    "status": f"pulling {digest}",
                    "digest": f"sha256:{digest}",
                    "total": total,
                }
                yield _line(told)
                for part in (1, 2):
                    yield _line({**told, "completed": total * part // 2})

        def end() -> Iterator[bytes]:
            if name in self.library:
                yield _line({"status": "verifying sha256 digest"})
                yield _line({"status": "writing manifest"})
                yield _line({"status": "removing any unused layers"})
                self.installed.append(name)
                yield _line({"status": "success"})

        return self.stream(lines(), _NDJSON, end=end())

    def _generate(self, asked: Asked) -> Response:
        body = asked.body
        if not body.get("prompt"):
            if not self.has(body["model"]):
                return _unknown(body["model"])
            reason = "unload" if body.get("keep_alive") == 0 else "load"
            self.loaded.pop(_full(body["model"]), None)
            if reason == "load":
                self.loaded[_full(body["model"])] = body["options"]["num_ctx"]
            answer = {"model": body["model"], "created_at": _CREATED, "response": "", "done": True}
            return JSONResponse({**answer, "done_reason": reason})
        return self._answer(asked, body["prompt"], lambda word: {"response": word})

    def _chat(self, asked: Asked) -> Response:
        return self._answer(
            asked,
            json.dumps(asked.body["messages"]),
            lambda word: {"message": {"role": "assistant", "content": word}},
        )

    def _answer(self, asked: Asked, prompt: str, said: Callable[[str], dict[str, Any]]) -> Response:
        model, options = asked.body["model"], asked.body["options"]
        if not self.has(model):
            return _unknown(model)
        self.loaded[_full(model)] = options["num_ctx"]
        talk = chosen(
            prompt, options["seed"], options["temperature"], options["num_predict"], options["stop"]
        )
        head = {"model": model, "created_at": _CREATED}

        def end() -> Iterator[bytes]:
            yield _line(
                {
                    **head,
                    **said(""),
                    "done": True,
                    "done_reason": "length" if talk.is_cut else "stop",
                    "total_duration": 10706818083,
                    "load_duration": 6338219291,
                    "prompt_eval_count": 26,
                    "prompt_eval_duration": 130079000,
                    "eval_count": len(talk.words),
                    "eval_duration": 4232710000,
                }
            )

        pieces = (_line({**head, **said(word), "done": False}) for word in talk.words)
        return self.stream(pieces, _NDJSON, end=end())


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False).encode() + b"\n"


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _tag(name: str) -> dict[str, Any]:
    details = {
        "format": "gguf",
        "family": "llama",
        "families": None,
        "parameter_size": "13B",
        "quantization_level": "Q4_0",
    }
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {
        "name": name,
        "model": name,
        "modified_at": _CREATED,
        "size": 7365960935,
        "digest": digest,
        "details": details,
    }


def _running(name: str) -> dict[str, Any]:
    return {**_tag(name), "expires_at": "2024-06-04T14:38:31.83753-07:00", "size_vram": 5137025024}


def _unknown(name: str) -> Response:
    return JSONResponse({"error": f"model '{name}' not found"}, 404)
