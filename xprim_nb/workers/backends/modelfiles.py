"""What a model's files say of it before a byte of its weights is read: configuration and tensor headers.

A directory comes in, with safetensors and a `config.json`, or with GGUF; out goes a frozen value, from which a
backend tells what it will hold.

Source: spec 4 §Residency ("exact weight bytes from safetensors/GGUF headers, KV from config").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from xprim_nb.errors import LoadFailedError, UnsupportedModelError
from xprim_nb.registry.headers import HeaderError, Scalar, TensorFile, TensorInfo
from xprim_nb.registry.tensors import parse_tensor_file
from xprim_nb.workers.values import LocalModel, ModelFacts

__all__ = ["CONFIG", "INDEX", "WEIGHTS", "ModelFiles", "facts_of", "read_model_files"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = WEIGHTS + ".index.json"
# The largest index of a published model (100,000 tensors in 160 files) is 12 MB; configurations are some kB.
_MAX_JSON_BYTES = 64 << 20
# The parts of one split file, as llama.cpp names them.
_GGUF_PART = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})\.gguf\Z")
# The words of other families for the same numbers.
_WORDS = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "key_value_heads": ("num_key_value_heads", "n_head_kv", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocabulary": ("vocab_size",),
    "max_context_tokens": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
}
# The same in GGUF, where each key begins with the architecture's name.
_GGUF_WORDS = {
    "layers": ("block_count",),
    "heads": ("attention.head_count",),
    "key_value_heads": ("attention.head_count_kv",),
    "head_dim": ("attention.key_length",),
    "hidden_size": ("embedding_length",),
    "intermediate_size": ("feed_forward_length",),
    "vocabulary": ("vocab_size",),
    "max_context_tokens": ("context_length",),
}
_GGUF_EMBEDDINGS = "token_embd.weight"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model's directory, by its headers.

    Attributes:
        path: The directory.
        format: How its weights are stored.
        config: Its `config.json`; empty for GGUF.
        tensors: Of all its files.
        metadata: Of GGUF; empty for safetensors.
        fingerprint: SHA-256 of the headers and the configuration: changes when a shape, dtype or name does.
    """

    path: Path
    format: Literal["safetensors", "gguf"]
    config: Mapping[str, Any]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    fingerprint: str = ""


def read_model_files(path: Path, name: str) -> ModelFiles:
    """What lies in a model's directory. Blocks for the time of a few small reads.

    Args:
        path: The directory.
        name: The model, for messages.

    Raises:
        UnsupportedModelError: There are no weights in a format that is read here; the message says what there is.
        LoadFailedError: A file is damaged, or missing from its index.
    """
    digest = hashlib.sha256()
    raw = _read(path / CONFIG, name) if (path / CONFIG).is_file() else b""
    digest.update(raw)
    files = _weight_files(path, name)
    headers = [_header(path / each, name, digest) for each in files]
    tensors = tuple(tensor for header in headers for tensor in header.tensors)
    if headers[0].format == "gguf":
        return ModelFiles(path, "gguf", {}, tensors, headers[0].metadata, digest.hexdigest())
    if not raw:
        raise UnsupportedModelError(
            f"{name} has weights and no {CONFIG} that says what they are.", subject=name
        )
    return ModelFiles(path, "safetensors", _object(raw, path / CONFIG, name), tensors, {}, digest.hexdigest())


def facts_of(
    model: LocalModel,
    files: ModelFiles,
    *,
    backend: str,
    held_bytes: Callable[[TensorInfo], int],
    cache_item_bytes: int,
) -> ModelFacts:
    """What an estimate of the model's memory is made from. Numbers that the files do not tell are 0.

    Args:
        model: Which.
        files: What lies in its directory.
        backend: Who would run it.
        held_bytes: What the backend holds of a tensor, in bytes; 0 for one that it does not load.
        cache_item_bytes: Bytes of one number of its KV cache.
    """
    found = _dimensions(files)
    heads = found["heads"]
    return ModelFacts(
        name=model.name,
        backend=backend,
        fingerprint=model.manifest_hash or files.fingerprint,
        weight_bytes=sum(map(held_bytes, files.tensors)),
        layers=found["layers"],
        key_value_heads=found["key_value_heads"] or heads,
        head_dim=found["head_dim"] or (found["hidden_size"] // heads if heads else 0),
        hidden_size=found["hidden_size"],
        intermediate_size=found["intermediate_size"],
        vocabulary=found["vocabulary"],
        max_context_tokens=found["max_context_tokens"],
        cache_item_bytes=cache_item_bytes,
    )


def _dimensions(files: ModelFiles) -> dict[str, int]:
    if files.format == "safetensors":
        inner = files.config.get(
            "text_config"
        )  # models that also see or hear keep the language model's apart
        source: Mapping[str, Any] = {**files.config, **inner} if isinstance(inner, dict) else files.config
        return {name: _first(source, words) for name, words in _WORDS.items()}
    family = files.metadata.get("general.architecture", "")
    found = {
        name: _first(files.metadata, tuple(f"{family}.{word}" for word in words))
        for name, words in _GGUF_WORDS.items()
    }
    if not found["vocabulary"]:
        rows = (tensor.shape[0] for tensor in files.tensors if tensor.name == _GGUF_EMBEDDINGS)
        found["vocabulary"] = next(rows, 0)
    return found


def _first(source: Mapping[str, Any], words: tuple[str, ...]) -> int:
    # `type is int`: a JSON true is an int to isinstance.
    found = (value for word in words if type(value := source.get(word)) is int and value > 0)
    return next(found, 0)


# --- files ------------------------------------------------------------------------------------------


def _weight_files(path: Path, name: str) -> list[str]:
    if (path / WEIGHTS).is_file():
        return [WEIGHTS]
    if (path / INDEX).is_file():
        return sorted(_indexed(path, name))
    try:
        there = sorted(each.name for each in path.iterdir() if each.is_file())
    except OSError as error:
        raise LoadFailedError(f"The directory of {name} cannot be read: {error}", subject=name) from error
    gguf = [each for each in there if each.lower().endswith(".gguf")]
    if gguf:
        _check_parts(gguf, name)
        return gguf
    if "adapter_config.json" in there:
        raise UnsupportedModelError(
            f"{name} is a LoRA layer, not a model.",
            subject=name,
            hint="Name its base model, and it with `loras=`.",
        )
    shown = ", ".join(each for each in there if not each.startswith("."))[:200] or "nothing"
    raise UnsupportedModelError(
        f"{name} has neither {WEIGHTS} nor a GGUF file; there is {shown}.", subject=name
    )


def _indexed(path: Path, name: str) -> Iterator[str]:
    places = _object(_read(path / INDEX, name), path / INDEX, name).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise LoadFailedError(f"{INDEX} of {name} lists no files.", subject=name)
    for each in set(map(str, places.values())):
        if Path(each).name != each or not (path / each).is_file():
            raise LoadFailedError(f"{INDEX} of {name} names {each!r:.100}, which is not there.", subject=name)
        yield each


def _check_parts(files: list[str], name: str) -> None:
    parts = [_GGUF_PART.match(each) for each in files]
    whole = {(part["name"], int(part["count"])) for part in parts if part}
    if len(files) == 1 or (all(parts) and len(whole) == 1 and next(iter(whole))[1] == len(files)):
        return
    raise UnsupportedModelError(
        f"{name} has {len(files)} GGUF files, which are not the parts of one: {', '.join(files)[:200]}.",
        subject=name,
    )


def _header(file: Path, name: str, digest: Any) -> TensorFile:  # noqa: ANN401  # hashlib's has no public type
    try:
        with open(file, "rb", buffering=0) as opened:

            def read(offset: int, length: int, /) -> bytes:
                opened.seek(offset)
                return opened.read(length)

            found = parse_tensor_file(read, file.stat().st_size, file.name)
            if found is None:
                raise LoadFailedError(f"{file.name} of {name} is neither safetensors nor GGUF.", subject=name)
            left = found.header_bytes
            opened.seek(0)
            while left and (block := opened.read(min(left, 1 << 20))):
                digest.update(block)
                left -= len(block)
            return found
    except HeaderError as error:
        raise LoadFailedError(f"A file of {name} is damaged: {error.message}", subject=name) from error
    except OSError as error:
        raise LoadFailedError(f"{file.name} of {name} cannot be read: {error}", subject=name) from error


def _read(file: Path, name: str) -> bytes:
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise LoadFailedError(f"{file.name} of {name} is larger than 64 MB.", subject=name)
        return file.read_bytes()
    except OSError as error:
        raise LoadFailedError(f"{file.name} of {name} cannot be read: {error}", subject=name) from error


def _object(raw: bytes, file: Path, name: str) -> dict[str, Any]:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise LoadFailedError(f"{file.name} of {name} is no JSON: {error}", subject=name) from error
    if not isinstance(found, dict):
        raise LoadFailedError(f"{file.name} of {name} is no JSON object.", subject=name)
    return found
