"""What a model needs besides its own bytes: shards that its indexes name, models that it builds on.

Source: spec 2 §Validation ("unsatisfied dependency (a LoRA's base model, say)"); the index and adapter files of
transformers and peft.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from xprim_nb._files import read_plain
from xprim_nb.cache.store import Store
from xprim_nb.errors import InvalidRefError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import Manifest

__all__ = ["missing_components", "unresolved_dependencies"]

# An index of a trillion parameters has a few MB; whatever is larger is no index.
_MAX_BYTES = 32 << 20
_ADAPTER = "adapter_config.json"


def missing_components(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Files that a shard index of the model names, and that neither its manifest nor its directory has."""
    own = {file.path for file in manifest.files}
    missing: dict[str, None] = {}
    for path in sorted(own):
        if not path.endswith(".index.json"):
            continue
        weights = _document(root / path).get("weight_map")
        names = set(weights.values()) if isinstance(weights, dict) else set()
        for name in sorted(each for each in names if isinstance(each, str)):
            shard = (PurePosixPath(path).parent / name).as_posix()
            if shard not in own and ".." not in PurePosixPath(name).parts and not (root / shard).exists():
                missing[shard] = None
    return tuple(missing)


def unresolved_dependencies(
    root: Path, manifest: Manifest | None, metadata: Mapping[str, Any], store: Store
) -> tuple[str, ...]:
    """Names of the models that this one builds on and that are not installed, as it gives them.

    Args:
        root: Its directory.
        manifest: What it consists of.
        metadata: What its publisher said of it: `base_model`, `dependencies`.
        store: What is installed.
    """
    named: list[str] = []
    listed = metadata.get("dependencies")
    for each in (metadata.get("base_model"), *(listed if isinstance(listed, list) else ())):
        if isinstance(each, str) and each:
            named.append(each)
    if manifest is not None and any(file.path == _ADAPTER for file in manifest.files):
        base = _document(root / _ADAPTER).get("base_model_name_or_path")
        # The publisher's word is the more exact one: it names a version.
        if isinstance(base, str) and base and not any(each.split(" ")[0] == base for each in named):
            named.append(base)
    if not named:
        return ()
    installed = _names(store)
    return tuple(each for each in dict.fromkeys(named) if not _is_there(each, root, installed))


def _names(store: Store) -> set[str]:
    """`group/model version` of everything that is listed."""
    return {
        f"{group}/{model} {version}"
        for group, models in store.document()[0].items()
        if isinstance(models, dict)
        for model, versions in models.items()
        if isinstance(versions, dict)
        for version in versions
    }


def _is_there(name: str, root: Path, installed: set[str]) -> bool:
    try:
        ref = ModelRef.parse(name)
    except InvalidRefError:
        return (root / name).exists()  # a path, as peft also takes
    if ref.version:
        return str(ref) in installed
    return any(each.startswith(f"{ref.name} ") for each in installed) or (root / name).exists()


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return {}
        found = orjson.loads(read_plain(path))
    except (OSError, ValueError):  # damaged: the files' own check says so
        return {}
    return found if isinstance(found, dict) else {}
