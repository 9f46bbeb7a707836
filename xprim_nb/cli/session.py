"""One call of a command: its settings, its flags, what it has to warn of, and the loop it runs on.

Source: spec 1 §CLI (global flags); seeds/002 §Configuration via Environment.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import xprim_nb
from xprim_nb.cli import words
from xprim_nb.config import Config
from xprim_nb.events import Event, EventHub, IndexStale, TrustNotice

if TYPE_CHECKING:
    from xprim_nb.manager import Manager
    from xprim_nb.toolkit import Toolkit

__all__ = ["Session"]

_T = TypeVar("_T")
_log = logging.getLogger("xprim_nb")

# What every log record has; anything else was put there by `extra=`.
_RECORD_KEYS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _RECORD_KEYS}
        return " ".join([super().format(record), *(f"{key}={value}" for key, value in extra.items())])


@dataclass
class Session:
    """What one call of a command knows; commands read it and answer through it.

    Attributes:
        base: The settings of whoever mounted the commands.
        owns_settings: The commands offer `--registry` and its like.
        program: How the model commands are called here, `xprim models`; hints name it.
        cache_program: The same of the cache's commands, `xprim cache`.
        ai_program: The same of the commands that run models, `xprim ai`.
        prompts_program: The same of the commands for prompts, `xprim prompts`.
        as_json: Answer with one JSON document on stdout.
        quiet: No progress, no notes.
        verbose: The log goes to stderr, and tracebacks too.
        registries: `--registry`, the first and its mirrors.
        data_dir: `--data-dir`.
        offline: `--offline`.
        warnings: Sentences a user should read, each once.
        paused: What an interrupted pull has to say; empty when nothing can be resumed.
        stopped: What other interrupted work has to say.
        events: Where the manager's news arrives.
    """

    base: Config
    owns_settings: bool = False
    program: str = "xprim models"
    cache_program: str = "xprim cache"
    ai_program: str = "xprim ai"
    prompts_program: str = "xprim prompts"
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    registries: tuple[str, ...] = ()
    data_dir: Path | None = None
    offline: bool = False
    warnings: list[str] = field(default_factory=list)
    paused: str = ""
    stopped: str = ""
    events: EventHub = field(default_factory=EventHub)
    _document: Mapping[str, Any] | None = None
    _told: int = 0
    _stale: str = ""

    def __post_init__(self) -> None:
        self.events.subscribe(self._hear)

    @property
    def config(self) -> Config:
        """The settings: what was typed, over the environment, over the base.

        Raises:
            ConfigError: A setting or a variable cannot work.
        """
        config = self.base
        if self.registries:
            config = replace(config, registry_url=self.registries[0], mirrors=self.registries[1:])
        config = Config.from_env(config)
        if self.data_dir is not None:
            config = replace(config, data_dir=self.data_dir)
        return replace(config, offline=True) if self.offline else config

    @property
    def shows_bars(self) -> bool:
        """True when somebody watches: stderr is a terminal, and nothing else is written there."""
        return sys.stderr.isatty() and not (self.as_json or self.quiet or self.verbose)

    def run(self, work: Callable[[Manager], Awaitable[_T]]) -> _T:
        """What `work` returns for a manager of these settings; Ctrl-C cancels it and waits for its clean-up.

        Raises:
            XprimError: As the manager's verbs do.
            KeyboardInterrupt: Interrupted.
        """
        config = self.config

        async def whole() -> _T:
            async with xprim_nb.Manager(config, events=self.events) as manager:
                return await work(manager)

        import asyncio  # noqa: PLC0415  # house: 40 ms that `--help` need not take

        return asyncio.run(whole())

    @contextmanager
    def connected(self) -> Iterator[Toolkit]:
        """A toolkit of these settings, for commands that print while a model works; all of it ends with the block.

        Its work goes on in a thread of its own: a pipe that nobody reads holds up this thread and no model.

        Raises:
            ConfigError: A setting cannot work.
        """
        kit = xprim_nb.connect(self.config)
        unsubscribe = kit.events.subscribe(self.events.publish)
        try:
            yield kit
        finally:
            kit.close()
            unsubscribe()

    def announce_registry(self) -> None:
        """Say that the demo registry is in use, when it is."""
        if self.config.registry_url is None:
            self.note("using the embedded demo registry; XPRIM_MODELS_REGISTRY_URL names another")

    def note(self, text: str) -> None:
        """Tell a person something beside the answer."""
        if not (self.quiet or self.as_json):
            words.say(text, err=True)

    def step(self, text: str) -> None:
        """Tell a person how far it is; part of the transcript, no part of the answer."""
        if not (self.quiet or self.as_json):
            words.say(text)

    def answer(self, document: Mapping[str, Any], *lines: str) -> None:
        """Give the answer: lines for a person now, or the document when the command has ended."""
        if self.as_json:
            self._document = document
        elif lines:
            words.say("\n".join(lines))

    def worded(self, text: str) -> str:
        """A sentence of the core, with our commands as whoever mounted them calls them."""
        for ours, here in (
            ("xprim models", self.program),
            ("xprim cache", self.cache_program),
            ("xprim ai", self.ai_program),
            ("xprim prompts", self.prompts_program),
        ):
            text = text.replace(ours, here)
        return text

    def warn(self, text: str) -> None:
        """Keep a warning, once."""
        if text and text not in self.warnings:
            self.warnings.append(text)

    def warn_for_pull(self, warnings: Iterable[str]) -> None:
        """Keep what a pull warns of; it says itself when the registry could not be asked."""
        self._stale = ""
        for text in warnings:
            self.warn(text)

    def flush(self, **error: Any) -> None:
        """Give out what is due: the warnings, and the document with them.

        Args:
            **error: What the document says beside the answer, when there is a failure.
        """
        self.warn(self._stale)
        if not self.as_json:
            for text in self.warnings[self._told :]:
                words.say(f"warning: {text}", err=True)
            self._told = len(self.warnings)
        elif error or self._document is not None:
            document = {**(self._document or {}), **error, "warnings": self.warnings}
            self._document = None
            words.say(json.dumps(document, indent=2, default=str))

    @contextmanager
    def logging(self) -> Iterator[None]:
        """The log goes to stderr inside the block when asked for, and nowhere otherwise."""
        handler: logging.Handler = (
            logging.StreamHandler(sys.stderr) if self.verbose else logging.NullHandler()
        )
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        level = _log.level
        _log.addHandler(handler)
        if self.verbose:
            _log.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            _log.removeHandler(handler)
            _log.setLevel(level)

    def _hear(self, event: Event) -> None:
        if isinstance(event, TrustNotice):
            self.warn(event.message)
        elif isinstance(event, IndexStale):
            age = f"the answer is {words.duration(event.age_s)} old"
            why = f"The registry could not be asked; {age}. {event.reason}"
            self._stale = f"Offline: {age}." if self.config.offline else why
