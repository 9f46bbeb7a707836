"""Safetensors are read as the format's own reader reads them, and what is damaged is refused by name."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xprim_nb.workers.engines.jsonfiles import read_json
from xprim_nb.workers.engines.tensorfiles import TensorFiles

_ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2.25, 6e4, 6e-8], np.float16),
    "scalar": np.array(3.0, np.float32),
    "none": np.zeros((0, 4), np.float32),
}


def _content(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def test_tensors_are_those_of_the_reference(tmp_path: Path) -> None:
    """Every value equals what the safetensors package reads, widened to float32."""
    save_file(_ARRAYS, tmp_path / "x.safetensors", {"format": "np"})
    with TensorFiles([tmp_path / "x.safetensors"]) as files:
        assert set(files.tensors) == set(_ARRAYS)
        read = {name: files.read(name) for name in files.tensors}
    for name, expected in load_file(tmp_path / "x.safetensors").items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], expected.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_a_float(tmp_path: Path) -> None:
    """Values of two bytes are torch's own."""
    torch = pytest.importorskip("torch")
    torch_file = pytest.importorskip("safetensors.torch")
    values = torch.tensor([0.0, -0.0, 1.0, -3.140625, 1e-40, 3e38, float("inf")], dtype=torch.bfloat16)
    torch_file.save_file({"x": values}, tmp_path / "x.safetensors")
    with TensorFiles([tmp_path / "x.safetensors"]) as files:
        np.testing.assert_array_equal(files.read("x"), values.float().numpy())


def test_float32_is_not_copied_and_outlives_the_files(tmp_path: Path) -> None:
    """What is stored as float32 is the file itself, read-only, also after the files were closed."""
    save_file(_ARRAYS, tmp_path / "x.safetensors")
    with TensorFiles([tmp_path / "x.safetensors"]) as files:
        found = files.read("b")
    assert not found.flags.writeable
    assert not found.flags.owndata
    np.testing.assert_array_equal(found, _ARRAYS["b"])


def test_a_tensor_at_an_odd_place_is_read(tmp_path: Path) -> None:
    """A header of any length is fine: what is not aligned is copied."""
    data = np.arange(4, dtype="<f4").tobytes()
    header = json.dumps({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    for padding in range(4):
        file = tmp_path / f"{padding}.safetensors"
        file.write_bytes(_content(header + b" " * padding, data))
        with TensorFiles([file]) as files:
            np.testing.assert_array_equal(files.read("x"), [0, 1, 2, 3])


_X = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
_DAMAGED = {
    "empty": (b"", "cut short"),
    "an LFS pointer": (b"version https://git-lfs", "no safetensors"),
    "no JSON": (_content(b"{x"), "JSON"),
    "no object": (_content(b"[]"), "no JSON object"),
    "outside": (_content({"x": {**_X, "data_offsets": [0, 8]}}, bytes(4)), "cannot be"),
    "backwards": (_content({"x": {**_X, "data_offsets": [4, 0]}}, bytes(4)), "cannot be"),
    "another size": (_content({"x": {**_X, "shape": [2]}}, bytes(4)), "its shape says otherwise"),
    "a negative size": (_content({"x": {**_X, "shape": [-1]}}, bytes(4)), "cannot be"),
    "undescribed": (_content({"x": {"dtype": "F32"}}), "not described"),
}


@pytest.mark.parametrize(("content", "told"), _DAMAGED.values(), ids=_DAMAGED)
def test_what_is_damaged_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    """No offset, shape or length of a stranger is believed."""
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        TensorFiles([tmp_path / "x.safetensors"])


def test_a_dtype_that_is_not_built_is_named_when_it_is_read(tmp_path: Path) -> None:
    """Other types may lie in the file; the one that is asked for is refused by its name."""
    file = tmp_path / "x.safetensors"
    file.write_bytes(_content({"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, bytes(4)))
    with TensorFiles([file]) as files:
        with pytest.raises(ValueError, match="F8_E4M3"):
            files.read("x")
        with pytest.raises(ValueError, match="no tensor 'y'"):
            files.read("y")


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    """Two tensors of one name: nobody could say which is meant."""
    files = [tmp_path / "1.safetensors", tmp_path / "2.safetensors"]
    for file in files:
        save_file({"x": _ARRAYS["b"]}, file)
    with pytest.raises(ValueError, match="two files"):
        TensorFiles(files)


def test_an_index_names_the_files_of_a_model(tmp_path: Path) -> None:
    """Of a split model each file is opened once, and what the index promises is there."""
    save_file({"b": _ARRAYS["b"]}, tmp_path / "1.safetensors")
    save_file({"a": _ARRAYS["a"]}, tmp_path / "2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    places = {"b": "1.safetensors", "a": "2.safetensors"}
    index.write_text(json.dumps({"weight_map": places}))
    with TensorFiles.of_model(tmp_path) as files:
        np.testing.assert_array_equal(files.read("b"), _ARRAYS["b"])
    for wrong, told in (
        ({**places, "c": "2.safetensors"}, "'c'.*none of its files"),
        ({"b": "../1.safetensors"}, "no file beside it"),
        ({}, "lists no files"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(ValueError, match=told):
            TensorFiles.of_model(tmp_path)


def test_a_model_without_weights_says_so(tmp_path: Path) -> None:
    """The file that was looked for is named."""
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        TensorFiles.of_model(tmp_path)


def test_json_that_is_none_names_its_file(tmp_path: Path) -> None:
    """Whoever reads the message knows which file to look at."""
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json"):
        read_json(tmp_path / "config.json")
