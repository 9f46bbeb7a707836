"""Pins where a damaged `registry.json` cannot take them along: in each model's own directory, and in what is left of it.

`registry.json` decides while it can be read. `<model>/<metadata>/pin.json` repeats its `pinned` key, and is written
whenever the entry is; a list that is rebuilt takes it from there, and otherwise from the damaged list itself: up to the
place of the damage that still says who was pinned.

Source: spec 2 §Clean-up; DESIGN ("what a user decided lies outside the database").
"""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import Any, Final

import orjson

from xprim_nb._files import read_plain, storage_errors, write_atomic
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import StorageError

__all__ = ["KEY", "pin_beside", "pins_left_in", "repeat_pin"]

_log = logging.getLogger("xprim_nb.cache")

# The key of an entry in `registry.json`. Whatever stands there and is not empty pins.
KEY: Final = "pinned"
# group, model, version below the document itself.
_ENTRY_DEPTH = 4
_SPACE = re.compile(r"[ \t\r\n]*")
_decoder = json.JSONDecoder(strict=False)


def repeat_pin(layout: Layout, model_dir: Path, pinned: object) -> None:
    """Have the model's directory say what its entry says; a directory that cannot be written only loses the repetition.

    Args:
        layout: Where things lie.
        model_dir: The version's directory.
        pinned: What the entry says; None, or anything empty, for no pin.
    """
    path = layout.pin_file(model_dir)
    try:
        with storage_errors(path, "writing"):
            if not pinned:
                if os.path.lexists(path):
                    path.unlink()
            elif path.parent.is_dir():  # without its metadata there is nothing that a rebuilt list could name
                write_atomic(path, orjson.dumps(pinned))
    except StorageError as error:
        _log.warning("the pin lies in registry.json alone: %s", error.message, extra={"path": str(path)})


def pin_beside(layout: Layout, model_dir: Path) -> Any:  # noqa: ANN401  # as somebody wrote it
    """What a model's directory says of its pin; None for none. A file that cannot be read pins: somebody put it there."""
    path = layout.pin_file(model_dir)
    if not os.path.lexists(path):
        return None
    try:
        return orjson.loads(read_plain(path)) or {"reason": ""}
    except (OSError, orjson.JSONDecodeError) as error:
        _log.warning("%s cannot be read, and pins all the same: %s", path, error)
        return {"reason": ""}


def pins_left_in(raw: bytes) -> dict[tuple[str, str, str], Any]:
    """The pins that a damaged `registry.json` still tells: group, model, version → what stood under `pinned`.

    >>> pins_left_in(b'{"g": {"m": {"v": {"pinned": {"reason": "mine"}, "total_si')
    {('g', 'm', 'v'): {'reason': 'mine'}}
    """
    text, found = raw.decode(errors="replace"), dict[tuple[str, str, str], Any]()
    path, key, at = list[str](), "", 0
    while at < len(text):
        letter = text[at]
        if letter == "{":
            path.append(key)
        elif letter == "}":
            path = path[:-1]
        elif letter == '"':
            try:
                key, at = _decoder.raw_decode(text, at)
                colon = _after_space(text, at)
                if len(path) == _ENTRY_DEPTH and key == KEY and text[colon : colon + 1] == ":":
                    _, group, model, version = path
                    found[group, model, version], at = _decoder.raw_decode(
                        text, _after_space(text, colon + 1)
                    )
            except (ValueError, RecursionError):  # from here on it is damaged
                return found
            continue
        at += 1
    return found


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
