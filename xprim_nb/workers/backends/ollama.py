"""Ollama, by its own HTTP API: models that it pulls, loads and unloads when asked to.

    GET  /api/tags       what is there            POST /api/pull      install, with progress
    POST /api/show       context length           POST /api/generate  a prompt as it is; load; unload (keep_alive 0)
    GET  /api/ps         what is loaded           POST /api/chat      messages

Source: spec 4 §Install on first use; Ollama's docs/api.md, docs.ollama.com/api/errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from xprim_nb.errors import (
    LoadFailedError,
    ModelNotFoundError,
    NotInstalledError,
    ProviderError,
    UnsupportedModelError,
    XprimError,
)
from xprim_nb.workers.backends.failures import broken_failure, line_failure, words
from xprim_nb.workers.backends.http import Server
from xprim_nb.workers.backends.remote import SLOTS, Listed, RemoteBackend, turns
from xprim_nb.workers.backends.remote_runner import Served
from xprim_nb.workers.backends.shapes import count, items, mapping, text
from xprim_nb.workers.contract import BackendContext, OnInstall
from xprim_nb.workers.values import (
    Capabilities,
    Ended,
    GenerateRequest,
    InstallProgress,
    LoadOptions,
    ModelFacts,
    Piece,
    Recommended,
)

__all__ = ["DEFAULT_URL", "OllamaBackend", "address", "create"]

DEFAULT_URL = "http://127.0.0.1:11434"
_PORT = 11434
# What Ollama takes as `options` beside those that a request sets (docs/modelfile.md §Valid parameters).
_OPTIONS = frozenset(
    "num_keep min_p typical_p repeat_last_n repeat_penalty presence_penalty frequency_penalty num_batch num_gpu "
    "main_gpu use_mmap num_thread".split()
)
# `keep_alive`: how long Ollama keeps the model after an answer; its own default is five minutes.
_SETTINGS = _OPTIONS | {"keep_alive"}
# Small ones of its library, for who has none yet; sizes of the default tags there.
_SUGGESTED = (
    Recommended("qwen3:0.6b", "Small, runs on any machine; `ollama` pulls it.", 523_000_000),
    Recommended("llama3.2:1b", "Small, follows instructions; `ollama` pulls it.", 1_300_000_000),
    Recommended("gemma3:1b", "Small, many languages; `ollama` pulls it.", 815_000_000),
)
# How Ollama says that its library has no such model.
_UNKNOWN = ("file does not exist", "not found", "invalid model name")


def create(context: BackendContext) -> OllamaBackend:
    """The backend `ollama`; at `DEFAULT_URL` unless `endpoints` says otherwise."""
    return OllamaBackend(context)


def address(host: str) -> str:
    """A URL from what OLLAMA_HOST may hold, by Ollama's own rules.

    >>> address("0.0.0.0"), address(":8080"), address("gpu.lan:9"), address("https://a.org")
    ('http://127.0.0.1:11434', 'http://127.0.0.1:8080', 'http://gpu.lan:9', 'https://a.org')
    """
    host = host.strip().strip("\"'")
    url = host if "://" in host else f"http://{host}"
    parts = urlsplit(url)
    name, port = parts.hostname or "", parts.port
    if port is None and "://" not in host:
        port = _PORT
    # What a server listens on is no address to call: "everywhere" is reached on this machine.
    name = "127.0.0.1" if name in ("", "0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{user}{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


class OllamaBackend(RemoteBackend):
    """One Ollama server.

    Args:
        context: `endpoints["ollama"]` as OLLAMA_HOST may hold it; `keys["ollama"]` for one behind a proxy that wants
            a bearer token.

    Raises:
        ConfigError: The address or the key cannot be used.
    """

    def __init__(self, context: BackendContext) -> None:
        super().__init__("ollama", Capabilities(has_process=False, is_remote=True, slots=SLOTS), _SETTINGS)
        self._server = Server(
            "ollama",
            address(context.endpoints.get("ollama") or DEFAULT_URL),
            key=context.keys.get("ollama", ""),
            offline=context.offline,
        )

    async def version(self) -> str:
        """Of the server, as `xprim ai doctor` shows it.

        Raises:
            ProviderError, OfflineError: It cannot be asked.
        """
        return text(await self._server.question("GET", "/api/version"), "version")

    async def listed(self) -> Sequence[Listed]:
        """What is installed there, latest first.

        Raises:
            ProviderError, OfflineError: It cannot be asked.
        """
        answer = await self._server.question("GET", "/api/tags")
        return [
            Listed(
                text(each, "name") or text(each, "model"),
                " ".join(["Installed in Ollama.", *_described(mapping(each, "details"))]),
                size_bytes=count(each, "size"),
                fingerprint=text(each, "digest"),
            )
            for each in items(answer, "models")
        ]

    def same(self, one: str, other: str) -> bool:
        """A name without a tag is the one with `latest`."""
        return _tagged(one) == _tagged(other)

    async def get_recommended_models(self) -> list[Recommended]:
        """What is installed, then small models of its library; empty when the server cannot be asked."""
        try:
            listed = await self.listed()
        except XprimError:
            return []
        there = [Recommended(each.name, each.why, each.size_bytes) for each in listed]
        return there + [
            each for each in _SUGGESTED if not any(self.same(each.name, has.name) for has in there)
        ]

    async def install_model(self, name: str, progress: OnInstall) -> None:
        """Let Ollama pull it; nothing when it is there. Cancelled, Ollama keeps what has come, and goes on next time.

        Raises:
            ModelNotFoundError: Ollama's library does not have it.
            ProviderError, OfflineError: The pull failed, or the server cannot be asked.
        """
        found = await self.find(name)
        if found is not None:
            progress(InstallProgress(name, found.size_bytes, found.size_bytes, "there"))
            return
        parts: dict[str, tuple[int, int]] = {}
        lines = self._server.lines("/api/pull", {"model": name, "stream": True})
        async with contextlib.aclosing(lines):
            async for line in lines:
                if not line:
                    continue
                told = self._server.parsed(line)
                if told.get("error"):
                    raise self._pull_failure(name, told["error"])
                status = text(told, "status")
                if status == "success":
                    size = sum(total for _, total in parts.values())
                    progress(InstallProgress(name, size, size, status))
                    return
                if digest := text(told, "digest"):
                    parts[digest] = (count(told, "completed"), count(told, "total"))
                done, total = (
                    (sum(column) for column in zip(*parts.values(), strict=True)) if parts else (0, 0)
                )
                progress(InstallProgress(name, done, total, status))
        raise broken_failure(str(self._server.peer), name)

    async def facts(self, name: str, options: LoadOptions) -> ModelFacts:
        """See `Backend.facts`.

        Raises:
            NotInstalledError: It is not pulled yet.
            UnsupportedModelError: It makes no text (an embedding model).
            LoadFailedError: A setting is unknown.
            ProviderError, OfflineError: The server cannot be asked.
        """
        facts = await super().facts(name, options)
        return replace(facts, max_context_tokens=await self._context_of(name))

    async def serve(self, found: Listed, options: LoadOptions) -> Served:
        """Load it, so that the first answer does not have to wait for that.

        Raises:
            UnsupportedModelError: It makes no text.
            LoadFailedError: Ollama could not load it.
            NotInstalledError: It was removed meanwhile.
            ProviderError, OfflineError: The server cannot be asked.
        """
        longest = await self._context_of(found.name)
        context_tokens = min(options.context_tokens, longest) if longest else options.context_tokens
        fixed: dict[str, object] = {k: v for k, v in options.settings.items() if k in _OPTIONS}
        fixed["num_ctx"] = context_tokens
        base: dict[str, object] = {"model": found.name}
        if "keep_alive" in options.settings:
            base["keep_alive"] = options.settings["keep_alive"]
        was_loaded = await self._is_loaded(found.name)
        await self._load({**base, "options": fixed}, found.name)

        def talk(request: GenerateRequest) -> AsyncGenerator[Piece | Ended, None]:
            return self._answer(base, fixed, request)

        async def unload() -> None:
            # Somebody else had it loaded before, and may still be using it.
            if not was_loaded:
                await self._server.ask("POST", "/api/generate", {"model": found.name, "keep_alive": 0})

        return Served(found.name, str(self._server.peer), context_tokens, talk, unload)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        await self._server.aclose()

    async def _load(self, body: Mapping[str, object], model: str) -> None:
        # Not `ask`: loading takes as long as it takes, and the scheduler watches.
        async with contextlib.aclosing(
            self._server.lines("/api/generate", {**body, "stream": False}, model=model)
        ) as lines:
            try:
                async for line in lines:
                    if line and (error := self._server.parsed(line).get("error")):
                        raise line_failure(self._server.peer, error, model=model)
            except ProviderError as error:
                if error.status != 500:
                    raise
                raise LoadFailedError(error.message, subject=model, hint="Ollama's log says more.") from error

    async def _answer(
        self, base: Mapping[str, object], fixed: Mapping[str, object], request: GenerateRequest
    ) -> AsyncGenerator[Piece | Ended, None]:
        model, sampling = str(base["model"]), request.sampling
        if request.loras:
            raise UnsupportedModelError(
                f"Ollama cannot change LoRA layers while it runs, and {request.loras[0].name!r} was asked for.",
                subject=request.loras[0].name,
                hint="Create a model with ADAPTER in its Modelfile, or use the backend numpy or transformers.",
            )
        options = {
            **fixed,
            "seed": sampling.seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            # Without one Ollama shifts a full context and writes on.
            "num_predict": sampling.max_tokens or fixed["num_ctx"],
            "stop": list(sampling.stop),
        }
        body: dict[str, object] = {**base, "options": options, "stream": True}
        if request.prompt is not None and not request.messages:
            path, body = "/api/generate", {**body, "prompt": request.prompt, "raw": True}
        else:
            said = [{"role": each.role, "content": each.content} for each in turns(request)]
            path, body = "/api/chat", {**body, "messages": said}
        async with contextlib.aclosing(self._server.lines(path, body, model=model)) as lines:
            async for line in lines:
                if not line:
                    continue
                told = self._server.parsed(line)
                if told.get("error"):
                    raise line_failure(self._server.peer, told["error"], model=model)
                piece = text(told, "response") or text(mapping(told, "message"), "content")
                thought = text(told, "thinking") or text(mapping(told, "message"), "thinking")
                if piece or thought:
                    yield Piece(piece)
                if told.get("done") is True:
                    yield _ended(told)
                    return

    async def _context_of(self, name: str) -> int:
        """The longest context of an installed model; 0 when Ollama does not tell."""
        shown = await self._show(name)
        able = shown.get("capabilities")
        if isinstance(able, Sequence) and "completion" not in able:
            raise UnsupportedModelError(
                f"{name} makes no text: it is for {', '.join(map(str, able)) or 'nothing that Ollama names'}.",
                subject=name,
                hint="Name a model that completes or chats.",
            )
        info = mapping(shown, "model_info")
        return count(info, f"{text(info, 'general.architecture')}.context_length")

    async def _show(self, name: str) -> Mapping[str, object]:
        try:
            return await self._server.question("POST", "/api/show", {"model": name})
        except ProviderError as error:
            if error.status != 404:
                raise
            raise NotInstalledError(error.message, subject=name, hint=f"ollama pull {name}") from error

    async def _is_loaded(self, name: str) -> bool:
        running = items(await self._server.question("GET", "/api/ps"), "models")
        return any(self.same(text(each, "name"), name) for each in running)

    def _pull_failure(self, name: str, error: object) -> XprimError:
        said = words(error)
        if any(word in said for word in _UNKNOWN):
            return ModelNotFoundError(
                f"Ollama's library has no {name!r}: {self._server.peer.scrub(said)}.",
                subject=name,
                hint="ollama.com/library shows what it has.",
            )
        return line_failure(self._server.peer, error, model=name)


def _ended(told: Mapping[str, object]) -> Ended:
    return Ended(
        "length" if text(told, "done_reason") == "length" else "stop",
        prompt_tokens=count(told, "prompt_eval_count"),
        tokens=count(told, "eval_count"),
        prefill_s=count(told, "prompt_eval_duration") / 1e9,
        decode_s=count(told, "eval_duration") / 1e9,
    )


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _described(details: Mapping[str, object]) -> list[str]:
    said = [text(details, name) for name in ("family", "parameter_size", "quantization_level")]
    return [f"{', '.join(filter(None, said))}."] if any(said) else []
