"""Tab in a line of `%xprim`: commands, options, settings and models, by any part of their name.

Models come from what is installed and from the registry's list as it was last seen: a Tab asks no network, and
waits no longer than a person notices.

Source: spec 3 §Magics; research notebook §7.
"""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, TypeVar

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from xprim_nb.errors import XprimError
from xprim_nb.magics import parsing
from xprim_nb.magics.ai_options import PRIORITIES
from xprim_nb.magics.prompt_options import CACHE_MODES, GROUPS, PROVIDERS

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.refs import ModelRef
    from xprim_nb.registry.index import RemoteModel
    from xprim_nb.toolkit import Toolkit

__all__ = ["Completer"]

_T = TypeVar("_T")

# `%xprim …`, also behind an assignment: `h = %xprim pull …`; and the first line of `%%generate …`.
_LINE = re.compile(r"(?:^|=)\s*%xprim(?P<words>\s.*)?$")
_CELL = re.compile(r"^%%(?P<command>generate|prompt)(?P<words>\s.*)$")
# Who may be asked to leave, or to stay, is awake.
_AWAKE = ("evict",)
# What they name is installed when it is not here.
_INSTALLING = ("pull", "load", "plan", "generate", "prompt")
# What is chosen from a few, by the option before it.
_CHOICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "--schedule": ("schedule", ("daily", "weekly", "monthly", "never")),
    "--priority": ("priority", PRIORITIES),
    "--cache": ("cache", CACHE_MODES),
    "--by": ("group", GROUPS),
    "--provider": ("provider", PROVIDERS),
    "--prefix-ttl": ("lifetime", ("5m", "1h")),
}
# Both lists come from the local disk. A disk that needs longer gets no completion, instead of a stuck editor.
_PATIENCE_S = 1.0


def _nothing() -> SimpleMatcherResult:
    # Made anew each time: the shell writes into what it gets.
    return SimpleMatcherResult(completions=[], suppress=False)


class Completer:
    """Completes lines of `%xprim`.

    Args:
        kit: Returns the toolkit whose models are offered.
    """

    def __init__(self, kit: Callable[[], Toolkit]) -> None:
        self._kit = kit

        # A matcher is an object with attributes, which a bound method cannot carry.
        @context_matcher(identifier="xprim_nb.models", priority=100)  # type: ignore[untyped-decorator]  # IPython's
        def match(context: CompletionContext) -> SimpleMatcherResult:
            return self._match(context.text_until_cursor)

        self.match = match

    def _match(self, text: str) -> SimpleMatcherResult:
        found, cell = _LINE.search(text), _CELL.match(text)
        if cell is not None:
            *before, word = [cell["command"], *re.split(r"\s+", cell["words"].lstrip())]
        elif found is not None and found["words"] is not None:
            *before, word = re.split(r"\s+", found["words"].lstrip())
        else:
            return _nothing()
        options = [(name, kind) for name, kind in self._offers(before, word) if word.lower() in name.lower()]
        if not options:
            return _nothing()
        # What begins as typed comes first; what merely contains it, after.
        options.sort(key=lambda option: not option[0].lower().startswith(word.lower()))
        return SimpleMatcherResult(
            completions=[SimpleCompletion(text=name, type=kind) for name, kind in options],
            matched_fragment=word,
            suppress=True,
            ordered=True,
        )

    def _offers(self, before: list[str], word: str) -> Iterable[tuple[str, str]]:
        if not before:
            return [(name, "command") for name in parsing.COMMANDS]
        command = before[0]
        if command not in {**parsing.COMMANDS, **parsing.CELLS}:
            return []
        if command in parsing.GROUPS:
            verbs = parsing.GROUPS[command]
            if len(before) == 1:
                return [(name, "command") for name in verbs]
            if before[1] not in verbs:
                return []
            command = f"{command} {before[1]}"
        if word.startswith("-"):
            return [(name, "option") for name in parsing.options_of(command)]
        if command == "help" and before[-1] in parsing.GROUPS:
            return [(name, "command") for name in parsing.GROUPS[before[-1]]]
        if command == "help":
            return [(name, "command") for name in (*parsing.COMMANDS, *parsing.CELLS)]
        if command == "config":
            return [
                (f"{name}=", "setting")
                for name in importlib.import_module("xprim_nb.magics.settings").SETTINGS
            ]
        named = [each for each in before[1:] if not each.startswith("-")]
        if command == "adopt" and not named:
            return [(name, "place") for name in ("hf", "ollama")]
        if before[-1] in _CHOICES:
            kind, names = _CHOICES[before[-1]]
            return [(name, kind) for name in names]
        if before[-1] == "--model":
            # As one word: a space ends it.
            refs = self._known("prompt", before)
            return [(f"{ref.name}@{ref.version}", kind) for ref, kind in refs.items()]
        if command in _AWAKE or (command in ("pin", "unpin", "why") and "--awake" in before):
            return [] if named else self._awake()
        if not parsing.takes_model(command) or len(named) > 1:
            return []
        refs = self._known(command, before)
        if named:
            return [(ref.version, kind) for ref, kind in refs.items() if ref.name == named[0]]
        if "@" in word:
            return [(f"{ref.name}@{ref.version}", kind) for ref, kind in refs.items()]
        return dict.fromkeys((ref.name, "model") for ref in refs)

    def _known(self, command: str, before: list[str]) -> dict[ModelRef, str]:
        if command == "restore":
            return self._archived()
        asks_registry = command in _INSTALLING or (command == "info" and "--remote" in before)
        return self._refs(remote=asks_registry)

    def _awake(self) -> Iterable[tuple[str, str]]:
        """Models that are awake: by name, and where that has a space, which ends a word, by what an `@` makes of it."""
        try:
            engine = self._kit().engine
            views = engine.snapshot().models if engine is not None else ()
        except XprimError:  # said again, with its reason, by the command itself
            return []
        return [(each.key.replace(" ", "@"), "awake") for each in views if each.is_awake]

    def _archived(self) -> dict[ModelRef, str]:
        try:
            found = _await(self._kit().archived(), time.monotonic() + _PATIENCE_S)
        except XprimError:  # said again, with its reason, by the command itself
            return {}
        return {each.ref: "archived" for each in found or ()}

    def _refs(self, *, remote: bool) -> dict[ModelRef, str]:
        """Known versions, each with whether it is installed."""
        try:
            kit = self._kit()
            deadline = time.monotonic() + _PATIENCE_S
            here = kit.list_installed()
            found = {each.ref: "remote" for each in (_remote(kit, deadline) if remote else ())}
            found |= {each.ref: "installed" for each in _await(here, deadline) or ()}
        except XprimError:  # said again, with its reason, by the command itself
            return {}
        return dict(sorted(found.items()))


def _remote(kit: Toolkit, deadline: float) -> Iterable[RemoteModel]:
    if kit.uses_demo_registry:  # it lies on this disk
        return _await(kit.list_remote(), deadline) or ()
    return _await(kit.cached_remote(), deadline) or ()


def _await(handle: Handle[_T], deadline: float) -> _T | None:
    try:
        return handle.result(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, CancelledError):
        return None
