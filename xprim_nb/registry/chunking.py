"""Where a model's stream is cut into chunks, so that what changes little costs little. Pure.

Cuts that follow the content stay where they are when something before them grows:

1. A file begins a chunk.
2. In a tensor file the header is a run of its own, and so is every tensor of a quarter chunk or more.
3. The smaller tensors between those are a run. While a run is longer than a chunk it is cut in two, before the
   tensor whose name has the greatest digest, and so are its halves.
4. What is still longer than a chunk (a large tensor, a header, any other file) is cut every `chunk_size`.

Step 3 is a treap over the names: whether a part is cut depends on that part alone. Filling chunks from the
left would pack better (these are half full on average), but one resized tensor would move every later cut.

Source: spec 1 §Publisher; Seidel and Aragon, "Randomized Search Trees" (1996).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, Protocol, TypeVar

__all__ = ["DEFAULT_CHUNK_BYTES", "ChunkMode", "FileLayout", "Span", "order_files", "plan_chunks"]

# The original publisher's: 2 GiB are 205 chunks. A request's latency does not show, and a broken connection or
# a flipped bit costs little.
DEFAULT_CHUNK_BYTES = 10 * 1024 * 1024

# A tensor of a quarter chunk is worth a request of its own: alone it is shared by more versions.
_ALONE_FROM = 4

# Written once and kept from version to version: these go first, so that nothing before them changes.
_WEIGHTS = frozenset(
    ".bin .ckpt .engine .ggml .gguf .h5 .hdf5 .keras .mlmodel .msgpack .nemo .npy .npz .onnx .onnx_data .ot "
    ".params .pb .pdparams .plan .pt .pth .safetensors .tflite .weights".split()
)
# Vocabularies and the like: larger than what people edit by hand.
_LARGE_FROM_BYTES = 1 << 20

ChunkMode = Literal["fixed", "aligned"]


class Span(NamedTuple):
    """A part of a file that stays together: a tensor.

    Attributes:
        offset: In the file, in bytes.
        length: In bytes.
        key: Its name, by which the same part of another version is recognised.
    """

    offset: int
    length: int
    key: str


class FileLayout(NamedTuple):
    """A file, as far as the planner needs to know it.

    Attributes:
        path: Relative, `/`-separated.
        size: In bytes.
        spans: Its tensors, in order of offset and without overlap; empty for any other file.
    """

    path: str
    size: int
    spans: Sequence[Span] = ()


class _Named(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...


_File = TypeVar("_File", bound=_Named)


def order_files(files: Iterable[_File]) -> list[_File]:
    """Weights first, then other large files, then small ones; each kind by path.

    >>> [each.path for each in order_files([FileLayout("config.json", 700), FileLayout("model.gguf", 10)])]
    ['model.gguf', 'config.json']
    """

    def rank(file: _Named) -> tuple[int, str]:
        if PurePosixPath(file.path).suffix.lower() in _WEIGHTS:
            return 0, file.path
        return (1 if file.size >= _LARGE_FROM_BYTES else 2), file.path

    return sorted(files, key=rank)


def plan_chunks(files: Sequence[FileLayout], chunk_size: int, mode: ChunkMode = "aligned") -> list[int]:
    """The length of each chunk of the stream that the files form, one after the other.

    Args:
        files: In stream order.
        chunk_size: The longest a chunk may be, in bytes, at least 1.
        mode: `fixed` cuts every `chunk_size` bytes, whatever lies there; `aligned` follows the content.

    Returns:
        Lengths from 1 to `chunk_size` whose sum is that of the files.

    >>> plan_chunks([FileLayout("a", 25), FileLayout("b", 7)], 10, "fixed")
    [10, 10, 10, 2]
    >>> plan_chunks([FileLayout("a", 25), FileLayout("b", 7)], 10)
    [10, 10, 5, 7]
    """
    if mode == "fixed":
        return _split(sum(file.size for file in files), chunk_size)
    return [length for file in files for run in _runs(file, chunk_size) for length in _split(run, chunk_size)]


def _split(length: int, chunk_size: int) -> list[int]:
    whole, rest = divmod(length, chunk_size)
    return [chunk_size] * whole + [rest] * (rest > 0)


def _runs(file: FileLayout, chunk_size: int) -> Iterator[int]:
    spans = [span for span in file.spans if span.length]
    if not spans:
        yield file.size
        return
    yield spans[0].offset
    small: list[tuple[int, str]] = []
    for span, end in zip(spans, [*(later.offset for later in spans[1:]), file.size], strict=True):
        length = end - span.offset  # the padding after a tensor is the tensor's
        if length * _ALONE_FROM < chunk_size:
            small.append((length, span.key))
            continue
        yield from _cut(small, chunk_size)
        small = []
        yield length
    yield from _cut(small, chunk_size)


def _cut(run: Sequence[tuple[int, str]], chunk_size: int) -> Iterator[int]:
    ends = [0, *accumulate(length for length, _ in run)]
    ranks = [hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest() for _, key in run]
    parts = [(0, len(run))] if run else []
    while parts:
        first, last = parts.pop()
        if ends[last] - ends[first] <= chunk_size:
            yield ends[last] - ends[first]
            continue
        cut = max(range(first + 1, last), key=ranks.__getitem__)
        parts += [(cut, last), (first, cut)]  # the left part comes out first
