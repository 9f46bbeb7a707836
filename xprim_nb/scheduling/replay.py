"""The log of the scheduler: a state to begin with, and each event with what came of it; replayed, it says the same again.

As text it is JSON lines. The first line has the version and the state, each other line an event and its effects:

    {"version": 1, "state": {"devices": [...], "models": {...}, ...}}
    {"event": {"is": "Arrived", "at": 12.3, ...}, "effects": [{"is": "Load", "model": "numpy:demo/a", ...}]}

`VERSION` grows when a log of before would be read as something else, or replay to something else.

Source: spec 4 §Residency ("replayable from a log").
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from xprim_nb.errors import EngineError
from xprim_nb.scheduling import happenings
from xprim_nb.scheduling.happenings import Alarm, Effect, Event
from xprim_nb.scheduling.policy import decide
from xprim_nb.scheduling.state import State

__all__ = ["VERSION", "Entry", "Journal", "Log", "differences", "dump_log", "load_log", "replay"]

VERSION = 1
# Enough for an afternoon in a notebook, at about a kilobyte each.
_KEPT = 2_000


class Entry(NamedTuple):
    """One event, and what came of it."""

    event: Event
    effects: tuple[Effect, ...]


class Log(NamedTuple):
    """What the scheduler was told and decided, from a state on."""

    state: State
    entries: tuple[Entry, ...]


class Journal:
    """Decides, and remembers: what the scheduler's owner keeps. Not thread-safe: one owner, one thread.

    Args:
        state: To begin with.
        kept: How many entries are remembered at least; of twice as many the older half is forgotten.
    """

    def __init__(self, state: State, kept: int = _KEPT) -> None:
        self._first, self._state, self._kept = state, state, kept
        self._entries: list[Entry] = []

    @property
    def state(self) -> State:
        """As the latest decision left it."""
        return self._state

    @property
    def log(self) -> Log:
        """What is remembered."""
        return Log(self._first, tuple(self._entries))

    def decide(self, event: Event) -> tuple[Effect, ...]:
        """What is to be done now. An alarm that rang for nothing is not remembered."""
        state, effects = decide(self._state, event)
        if not isinstance(event, happenings.Ticked) or any(not isinstance(each, Alarm) for each in effects):
            self._entries.append(Entry(event, effects))
        self._state = state
        if len(self._entries) >= 2 * self._kept:
            for entry in self._entries[: self._kept]:
                self._first = decide(self._first, entry.event).state
            del self._entries[: self._kept]
        return effects


def replay(state: State, events: Iterable[Event]) -> Log:
    """The log of deciding all this again."""
    first, entries = state, []
    for event in events:
        state, effects = decide(state, event)
        entries.append(Entry(event, effects))
    return Log(first, tuple(entries))


def differences(log: Log) -> list[str]:
    """Where a replay decides otherwise than the log, a sentence each; empty when it never does."""
    again = replay(log.state, (entry.event for entry in log.entries))
    return [
        f"entry {number}, {type(old.event).__name__} at {old.event.at}: was {list(old.effects)}, is {list(new.effects)}"
        for number, (old, new) in enumerate(zip(log.entries, again.entries, strict=True), 1)
        if old.effects != new.effects
    ]


def dump_log(log: Log) -> str:
    """The log as JSON lines."""
    lines: list[Mapping[str, Any]] = [{"version": VERSION, "state": _plain(log.state)}]
    lines += [
        {"event": _named(entry.event), "effects": [_named(each) for each in entry.effects]}
        for entry in log.entries
    ]
    return "".join(json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n" for line in lines)


def load_log(text: str) -> Log:
    """The log from JSON lines; a last line that was cut off is left out.

    Raises:
        EngineError: It is no log, or of another version; the message names the line.
    """
    lines = _parsed(text)
    number, head = next(lines, (1, None))
    if not isinstance(head, dict) or "state" not in head:
        raise EngineError("Line 1 of the log has no state.", hint="This is no log of the scheduler.")
    if head.get("version") != VERSION:
        raise EngineError(
            f"The log has version {head.get('version')!r:.20}, and this program reads version {VERSION}.",
            hint="Read it with the program that wrote it.",
        )
    entries: list[Entry] = []
    try:
        state: State = _typed(head["state"], State)
        for number, line in lines:  # noqa: B007  # the message below needs it
            effects = tuple(_from_named(each) for each in line["effects"])
            entries.append(Entry(_from_named(line["event"]), effects))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            f"Line {number} of the log cannot be read: {error!r:.200}",
            hint="It was changed, or cut in its midst.",
        ) from error
    return Log(state, tuple(entries))


def _parsed(text: str) -> Iterator[tuple[int, Any]]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            if number == len(lines):  # its writer was stopped; every whole line ends with a line end
                return
            raise EngineError(f"Line {number} of the log is no JSON.", hint="It was changed.") from error


# --- values and plain JSON -------------------------------------------------------------------------


def _named(value: object) -> dict[str, Any]:
    return {"is": type(value).__name__, **_plain(value)}


def _from_named(document: Mapping[str, Any]) -> Any:  # noqa: ANN401  # an event or an effect, as its name says
    name = document["is"]
    kind = getattr(happenings, name, None) if name in happenings.__all__ else None
    if not isinstance(kind, type):
        raise ValueError(f"{name!r:.40} is neither an event nor an effect")
    return _typed({key: value for key, value in document.items() if key != "is"}, kind)


def _plain(value: object) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Dataclasses as objects without what has its default; sets sorted; tuples as lists."""
    match value:
        case frozenset():
            return sorted(value)
        case tuple():
            return [_plain(each) for each in value]
        case Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case _ if is_dataclass(value):
            return {
                each.name: _plain(got)
                for each in fields(value)
                if (got := getattr(value, each.name)) != each.default or each.default is MISSING
            }
        case _:
            return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401  # the type is known at run time only
    """The value that `_plain` made this from, by its declared type."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{key: _typed(each, hints[key]) for key, each in value.items()})
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        rest = [each for each in inner if each is not type(None)]
        return None if value is None else _typed(value, rest[0])
    if origin in (tuple, frozenset):
        if not isinstance(value, list):  # a string has items too
            raise TypeError(f"{value!r:.40} is no list")
        return (
            _tuple(value, inner) if origin is tuple else frozenset(_typed(each, inner[0]) for each in value)
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _typed(each, inner[1]) for key, each in value.items()}
    if origin is Literal:
        if value not in inner:
            raise ValueError(f"{value!r:.40} is none of {inner}")
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if not isinstance(kind, type) or type(value) is not kind:
        raise TypeError(f"{value!r:.40} is no {getattr(kind, '__name__', kind)}")
    return value


def _tuple(values: Sequence[Any], inner: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_typed(each, inner[0]) for each in values)
    return tuple(_typed(each, kind) for each, kind in zip(values, inner, strict=True))
