"""What an installed model depends on: a LoRA's base model, say. Names only, as the publisher gave them.

Source: spec 2 §Clean-up ("never a dependency of a kept one"); peft's `adapter_config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from xprim_nb._files import read_plain
from xprim_nb.cache.values import InstalledModel
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef

__all__ = ["needs_of"]

_ADAPTER = "adapter_config.json"
# An adapter's configuration has a few KB; whatever is larger is none.
_MAX_BYTES = 1 << 20


def needs_of(model: InstalledModel, metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Refs, or `group/model` names, that a model needs; what is no reference is left out.

    Args:
        model: The model; its `registry.json` entry may list `dependencies`.
        metadata: What the registry's index says of it: `base_model`, `dependencies`.
    """
    named: list[object] = []
    for known in (metadata, model.extra):
        listed = known.get("dependencies")
        named += [known.get("base_model"), *(listed if isinstance(listed, list) else ())]
    named.append(_adapters_base(model.path))
    found: dict[str, None] = {}
    for each in named:
        try:
            found[str(ModelRef.parse(each))] = None  # type: ignore[arg-type]  # anything else is refused
        except InvalidRefError:  # a path or a word, as peft also takes
            continue
    found.pop(str(model.ref), None)
    return tuple(found)


def _adapters_base(directory: Path) -> object:
    path = directory / _ADAPTER
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        document = orjson.loads(read_plain(path))
    except (OSError, ValueError):
        return None
    return document.get("base_model_name_or_path") if isinstance(document, dict) else None
