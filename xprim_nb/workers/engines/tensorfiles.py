"""Tensors of safetensors files, by memory map: float32 as it lies, float16 and bfloat16 widened when they are read.

Headers come from strangers: a tensor is believed only where its offsets, shape and dtype agree and lie in the file.

Source: the safetensors format description; spec 4 §Install on first use (`numpy` backend).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .jsonfiles import parse_object, read_json

__all__ = ["Float32", "Tensor", "TensorFiles"]

Float32: TypeAlias = npt.NDArray[np.float32]

_WEIGHTS = "model.safetensors"
_INDEX = _WEIGHTS + ".index.json"
# Bytes of one number; what is not listed is refused by its name.
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
# The limit of the format's own reader.
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies.

    Attributes:
        file: In which file.
        dtype: `F32`, `F16`, `BF16`, or another word of the format's, which cannot be read here.
        shape: Outermost dimension first.
        start: Of its data, in bytes from the start of the file.
        size_bytes: Of its data.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


class TensorFiles:
    """The tensors of one or several files. Owned by a `with`; arrays that were read stay valid after it.

    Args:
        files: Safetensors files; a name that occurs twice is refused.

    Raises:
        ValueError: A file is no safetensors file, or is damaged.
        OSError: It cannot be read.
    """

    def __init__(self, files: list[Path]) -> None:
        self._maps: dict[Path, mmap.mmap] = {}
        self.tensors: dict[str, Tensor] = {}
        try:
            for file in files:
                for name, tensor in self._open(file):
                    if name in self.tensors:
                        raise ValueError(f"The tensor {name!r:.100} is in two files.")
                    self.tensors[name] = tensor
        except BaseException:
            self.close()
            raise

    @classmethod
    def of_model(cls, folder: Path) -> TensorFiles:
        """The weights in a model's directory: `model.safetensors`, or the parts that its index names.

        Raises:
            ValueError, OSError: As for the class; also when there are none.
        """
        if (folder / _WEIGHTS).is_file():
            return cls([folder / _WEIGHTS])
        if not (folder / _INDEX).is_file():
            raise ValueError(f"There is no {_WEIGHTS} in {folder}.")
        places = read_json(folder / _INDEX).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ValueError(f"{_INDEX} lists no files.")
        names = sorted(set(map(str, places.values())))
        outside = next((name for name in names if Path(name).name != name), "")
        if outside:
            raise ValueError(f"{_INDEX} names {outside!r:.100}, which is no file beside it.")
        found = cls([folder / name for name in names])
        missing = next((name for name in places if name not in found.tensors), "")
        if missing:
            found.close()
            raise ValueError(f"{_INDEX} lists the tensor {missing!r:.100}, which is in none of its files.")
        return found

    def read(self, name: str) -> Float32:
        """The tensor as float32; read-only and without a copy where it is stored so.

        Raises:
            ValueError: There is none of this name, or its dtype cannot be read.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ValueError(f"There is no tensor {name!r:.100}.")
        if tensor.dtype not in _ITEM_BYTES:
            raise ValueError(
                f"The tensor {name!r:.100} is {tensor.dtype!r:.40}; {', '.join(_ITEM_BYTES)} can be read."
            )
        raw = memoryview(self._maps[tensor.file])[tensor.start : tensor.start + tensor.size_bytes]
        return _widened(raw, tensor.dtype).reshape(tensor.shape)

    def close(self) -> None:
        """Close the files that no array looks into. Idempotent."""
        for opened in self._maps.values():
            try:
                opened.close()
            except BufferError:
                continue  # an array lies in it, and closes it when it goes
        self._maps.clear()

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, file: Path) -> Iterator[tuple[str, Tensor]]:
        with open(file, "rb") as opened:
            size_bytes = file.stat().st_size
            length = int.from_bytes(opened.read(8), "little")
            if size_bytes < 8 or not 2 <= length <= min(size_bytes - 8, _MAX_HEADER_BYTES):
                raise ValueError(f"{file.name} is no safetensors file, or was cut short.")
            header = parse_object(opened.read(length), file)
            self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, _tensor(file, name, entry, 8 + length, size_bytes)


def _tensor(file: Path, name: str, entry: Mapping[str, Any], start: int, size_bytes: int) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise ValueError(
                f"{file.name}: tensor {name!r:.100} is not described by dtype, shape and offsets."
            )
    if (
        not all(type(each) is int and each >= 0 for each in shape)
        or not 0 <= begin <= end <= size_bytes - start
    ):
        raise ValueError(f"{file.name}: tensor {name!r:.100} has a shape or offsets that cannot be.")
    item_bytes = _ITEM_BYTES.get(dtype)
    if item_bytes is not None and math.prod(shape) * item_bytes != end - begin:
        raise ValueError(
            f"{file.name}: tensor {name!r:.100} has {end - begin} bytes, and its shape says otherwise."
        )
    return Tensor(file, dtype, tuple(shape), start + begin, end - begin)


def _widened(raw: memoryview, dtype: str) -> Float32:
    if dtype == "F16":
        return np.frombuffer(raw, dtype="<f2").astype(np.float32)
    if dtype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(raw, dtype="<u2").astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    found = np.frombuffer(raw, dtype="<f4")
    # BLAS takes only what begins at a multiple of four bytes, and the machine's own byte order.
    return found if found.flags.aligned and found.dtype.isnative else found.astype(np.float32)
