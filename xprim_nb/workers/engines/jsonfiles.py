"""Objects in JSON files that come from strangers.

Apart from what reads tensors: who only counts tokens has no use for NumPy, and need not wait until it is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["parse_object", "read_json"]


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ValueError: There is none; the message names the file.
        OSError: It cannot be read.
    """
    return parse_object(file.read_bytes(), file)


def parse_object(raw: bytes, file: Path) -> dict[str, Any]:
    """The object that bytes of a file spell.

    Raises:
        ValueError: They spell none; the message names the file.
    """
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} holds no JSON that can be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no JSON object.")
    return found
