"""What a model's files say before its weights are read: exact, for either format, and a sentence where they do not."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from xprim_nb.errors import LoadFailedError, UnsupportedModelError
from xprim_nb.workers.backends.modelfiles import ModelFiles, facts_of, read_model_files
from xprim_nb.workers.values import LocalModel, ModelFacts

_NAME = "my/model v1"
_CONFIG: dict[str, Any] = {
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 16,
    "intermediate_size": 40, "vocab_size": 100, "max_position_embeddings": 77,
}  # fmt: skip


def _write(folder: Path, config: Any = _CONFIG, **tensors: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors or {"x": np.zeros((3, 4), np.float16)}, folder / "model.safetensors")
    return folder


def _facts(files: ModelFiles, manifest_hash: str = "") -> ModelFacts:
    model = LocalModel(_NAME, files.path, manifest_hash)
    return facts_of(model, files, backend="any", held_bytes=lambda each: each.size_bytes, cache_item_bytes=2)


def test_a_configuration_gives_the_numbers(tmp_path: Path) -> None:
    """Dimensions come from `config.json`, bytes from the headers of the weights."""
    facts = _facts(read_model_files(_write(tmp_path), _NAME), "abc")
    assert facts == ModelFacts(
        name=_NAME,
        backend="any",
        fingerprint="abc",
        weight_bytes=24,
        layers=2,
        key_value_heads=2,
        head_dim=4,
        hidden_size=16,
        intermediate_size=40,
        vocabulary=100,
        max_context_tokens=77,
        cache_item_bytes=2,
    )


def test_other_families_have_other_words(tmp_path: Path) -> None:
    """GPT-2's names, and a language model inside another one, are understood; what is not told is 0."""
    gpt = _write(tmp_path / "a", {"n_layer": 3, "n_head": 2, "n_embd": 8, "vocab_size": 9, "n_positions": 11})
    facts = _facts(read_model_files(gpt, _NAME))
    assert (facts.layers, facts.key_value_heads, facts.head_dim, facts.hidden_size) == (3, 2, 4, 8)
    assert (facts.max_context_tokens, facts.intermediate_size) == (11, 0)
    inner = _facts(
        read_model_files(_write(tmp_path / "b", {"model_type": "seeing", "text_config": _CONFIG}), _NAME)
    )
    assert (inner.layers, inner.vocabulary) == (2, 100)


def test_all_parts_of_a_model_are_counted(tmp_path: Path) -> None:
    """The files that an index names are the model; others beside them are not."""
    (tmp_path / "config.json").write_text(json.dumps(_CONFIG))
    for number in (1, 2, 3):
        save_file({f"x{number}": np.zeros(number, np.float32)}, tmp_path / f"{number}.safetensors")
    places = {"x1": "1.safetensors", "x2": "2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    files = read_model_files(tmp_path, _NAME)
    assert sorted(tensor.name for tensor in files.tensors) == ["x1", "x2"]
    assert _facts(files).weight_bytes == 12


def test_a_fingerprint_follows_the_headers(tmp_path: Path) -> None:
    """Without a manifest the headers and the configuration are digested: the same for a copy, another for a change."""
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (_CONFIG, {"x": np.zeros(4, np.float32)}),
        (_CONFIG, {"x": np.ones(4, np.float32)}),
        (_CONFIG, {"x": np.zeros(4, np.float64)}),
        (_CONFIG, {"y": np.zeros(4, np.float32)}),
        ({**_CONFIG, "rope_theta": 5.0}, {"x": np.zeros(4, np.float32)}),
    ]
    prints = [
        _facts(read_model_files(_write(tmp_path / str(number), config, **tensors), _NAME)).fingerprint
        for number, (config, tensors) in enumerate(kinds)
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert all(len(each) == 64 for each in prints)


# --- GGUF -------------------------------------------------------------------------------------------


def _gguf(pairs: dict[str, str | int], tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A file in llama.cpp's format: version 3, tensors of float16 with their innermost dimension first."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    raw = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, value in pairs.items():
        raw += text(key)
        raw += struct.pack("<I", 8) + text(value) if isinstance(value, str) else struct.pack("<II", 4, value)
    offset = 0
    for name, shape in tensors.items():
        raw += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        raw += struct.pack("<IQ", 1, offset)
        offset += -(-2 * int(np.prod(shape)) // 32) * 32
    return raw + bytes(-len(raw) % 32) + bytes(offset)


_PAIRS: dict[str, str | int] = {
    "general.architecture": "llama", "llama.block_count": 5, "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2, "llama.embedding_length": 64, "llama.feed_forward_length": 96,
    "llama.context_length": 300,
}  # fmt: skip


def test_a_gguf_header_gives_the_numbers(tmp_path: Path) -> None:
    """The same facts, under the names of that format; the vocabulary is the height of the table."""
    raw = _gguf(_PAIRS, {"token_embd.weight": (50, 64), "blk.0.attn_q.weight": (64, 64)})
    (tmp_path / "model-f16.gguf").write_bytes(raw)
    files = read_model_files(tmp_path, _NAME)
    facts = _facts(files)
    assert files.format == "gguf"
    assert facts.weight_bytes == 2 * (50 * 64 + 64 * 64)
    assert (facts.layers, facts.key_value_heads, facts.head_dim) == (5, 2, 8)
    assert (facts.vocabulary, facts.max_context_tokens, facts.intermediate_size) == (50, 300, 96)


def test_parts_of_a_gguf_are_one_model(tmp_path: Path) -> None:
    """All parts are counted; a part that is missing, or two models side by side, are refused."""
    for part in (1, 2):
        raw = _gguf(_PAIRS, {f"x{part}": (16,)})
        (tmp_path / f"big-0000{part}-of-00002.gguf").write_bytes(raw)
    assert _facts(read_model_files(tmp_path, _NAME)).weight_bytes == 64
    (tmp_path / "other.gguf").write_bytes(_gguf(_PAIRS, {"x": (16,)}))
    with pytest.raises(UnsupportedModelError, match="3 GGUF files"):
        read_model_files(tmp_path, _NAME)
    (tmp_path / "other.gguf").unlink()
    os.rename(tmp_path / "big-00002-of-00002.gguf", tmp_path / "big-00002-of-00003.gguf")  # noqa: PTH104  # shorter
    with pytest.raises(UnsupportedModelError, match="2 GGUF files"):
        read_model_files(tmp_path, _NAME)


# --- refusals ---------------------------------------------------------------------------------------


def test_a_directory_without_weights_says_what_there_is(tmp_path: Path) -> None:
    """Other formats, and nothing at all, are named."""
    with pytest.raises(UnsupportedModelError, match="there is nothing"):
        read_model_files(tmp_path, _NAME)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsupportedModelError, match=r"there is pytorch_model\.bin") as caught:
        read_model_files(tmp_path, _NAME)
    assert caught.value.subject == _NAME


def test_a_layer_is_no_model(tmp_path: Path) -> None:
    """A LoRA layer is told as such, and how it is used."""
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match="LoRA layer") as caught:
        read_model_files(tmp_path, _NAME)
    assert "loras=" in caught.value.hint


def test_weights_without_a_configuration_are_nobody_knows_what(tmp_path: Path) -> None:
    """The file that is missing is named."""
    (_write(tmp_path) / "config.json").unlink()
    with pytest.raises(UnsupportedModelError, match=r"no config\.json"):
        read_model_files(tmp_path, _NAME)


_DAMAGED = {
    "config.json": b"[1]",
    "model.safetensors": b"12345678",
    "model.safetensors.index.json": b'{"weight_map": {}}',
}


@pytest.mark.parametrize("name", _DAMAGED)
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    """What cannot be read fails to load, with the file's name."""
    _write(tmp_path)
    if name.endswith("index.json"):
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_bytes(_DAMAGED[name])
    with pytest.raises(LoadFailedError, match=name):
        read_model_files(tmp_path, _NAME)


@pytest.mark.parametrize("place", ["../other.safetensors", "missing.safetensors", "/etc/passwd"])
def test_an_index_names_files_beside_it(place: str, tmp_path: Path) -> None:
    """A file elsewhere is not read, whatever an index says."""
    _write(tmp_path / "model")
    save_file({"x": np.zeros(1, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "model" / "model.safetensors").unlink()
    index = tmp_path / "model" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": place}}))
    with pytest.raises(LoadFailedError, match="which is not there"):
        read_model_files(tmp_path / "model", _NAME)


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    """A model that vanished between two calls fails to load."""
    with pytest.raises(LoadFailedError, match="cannot be read"):
        read_model_files(tmp_path / "gone", _NAME)
