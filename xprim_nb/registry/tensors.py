"""What lies where in a safetensors or GGUF file, told from its header alone.

The header is read through a function, so that a local file and ranges fetched from a registry look the same;
tensor data is never read. Headers come from strangers: every count is bounded before it is believed.

Source: spec 1 §Publisher, §Manager (`peek`); the safetensors format description and its Rust reader.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from xprim_nb._text import format_count
from xprim_nb.registry.gguf import SIGNATURE, parse_gguf
from xprim_nb.registry.headers import (
    MAX_HEADER_BYTES,
    MAX_NAME_BYTES,
    MAX_TENSORS,
    Header,
    HeaderError,
    Reader,
    TensorFile,
    TensorInfo,
    in_file_order,
    short_values,
)

__all__ = ["HeaderError", "Reader", "TensorFile", "TensorInfo", "parse_tensor_file"]

# A tensor's entry has about ten brackets and commas. More of them would only be objects that fill the memory.
_MAX_JSON_MARKS = 16 * MAX_TENSORS
# NumPy's and PyTorch's limit.
_MAX_DIMENSIONS = 64
# The longest type name there is has 11 letters.
_MAX_DTYPE_LETTERS = 32
# What a checkout without Git LFS leaves in the place of a large file begins so.
_LFS_POINTER = b"version "

# Bits of one element. A type that is not listed has the size that the offsets say.
_BITS = {
    dtype: bits
    for bits, dtypes in {
        4: "F4",
        6: "F6_E2M3 F6_E3M2",
        8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
        16: "I16 U16 F16 BF16",
        32: "I32 U32 F32",
        64: "I64 U64 F64 C64",
    }.items()
    for dtype in dtypes.split()
}


def parse_tensor_file(read: Reader, file_size: int, filename: str) -> TensorFile | None:
    """The contents of a tensor file, or None when it is neither format.

    A name that ends in `.safetensors` or `.gguf` is taken at its word. Another file is GGUF if it begins so;
    safetensors has no signature to go by.

    Args:
        read: Gives bytes of the file.
        file_size: In bytes.
        filename: Its name or path, for its ending and for messages.

    Raises:
        HeaderError: The header is malformed, claims more than a header may, or names bytes outside the file.
    """
    header = Header(read, file_size, filename)
    if filename.lower().endswith(".safetensors"):
        return _parse_safetensors(header)
    if file_size >= len(SIGNATURE) and header.take(len(SIGNATURE)) == SIGNATURE:
        return parse_gguf(header)
    if filename.lower().endswith(".gguf"):
        header.refuse("it does not begin with GGUF.")
    return None


def _parse_safetensors(header: Header) -> TensorFile:
    if header.file_size < len(_LFS_POINTER):
        header.refuse(f"{format_count(header.file_size, 'byte')}: too few for a safetensors file.")
    start = header.take(8)
    if start == _LFS_POINTER:
        header.refuse(
            "it is a Git LFS pointer, not the file itself.", "Run `git lfs pull` in its repository."
        )
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER_BYTES:
        header.refuse(f"the header claims {length} bytes; the limit is {MAX_HEADER_BYTES}.")
    document = _load_json(header, header.take(length))
    data_start = header.position
    extra = document.pop("__metadata__", None) or {}
    if not isinstance(extra, dict):
        header.refuse("__metadata__ is not an object.")
    if len(document) > MAX_TENSORS:
        header.refuse(f"the header lists {len(document)} tensors; the limit is {MAX_TENSORS}.")
    found = (_tensor(header, name, entry, data_start) for name, entry in document.items())
    tensors = sorted(found, key=in_file_order)
    # Upstream loads no file with a hole: bytes that no tensor names could be anything.
    end = data_start
    for tensor in tensors:
        if tensor.offset != end:
            fault = "overlaps the one before it" if tensor.offset < end else "leaves a gap before it"
            header.refuse(f"tensor {tensor.name!r:.100} {fault}.")
        end += tensor.size_bytes
    if end != header.file_size:
        header.refuse(f"the tensors end at byte {end}, the file at {header.file_size}.")
    return TensorFile("safetensors", tuple(tensors), short_values(extra), data_start)


def _load_json(header: Header, raw: bytes) -> dict[str, Any]:
    if sum(raw.count(mark) for mark in (b"{", b"[", b",")) > _MAX_JSON_MARKS:
        header.refuse(f"the header has more than {_MAX_JSON_MARKS} values.")
    try:
        document = orjson.loads(raw)
    except (orjson.JSONDecodeError, RecursionError, MemoryError) as error:
        header.refuse(f"the header is not JSON: {error}")
    if not isinstance(document, dict):
        header.refuse(f"the header is a JSON {type(document).__name__}, not an object.")
    return document


def _tensor(header: Header, name: str, entry: object, data_start: int) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]}:
            pass
        case _:
            header.refuse(f"tensor {name!r:.100} is not described by dtype, shape and data_offsets.")
    if len(name.encode()) > MAX_NAME_BYTES or len(dtype) > _MAX_DTYPE_LETTERS or len(shape) > _MAX_DIMENSIONS:
        header.refuse(f"tensor {name!r:.100} has too long a name, type or shape.")
    # `type is int`: a JSON true is an int to isinstance.
    if not all(type(each) is int and each >= 0 for each in (*shape, begin, end)) or begin > end:
        header.refuse(f"tensor {name!r:.100} has a shape or offsets that cannot be.")
    parameters, bits = math.prod(shape), _BITS.get(dtype)
    if bits is not None and parameters * bits != (end - begin) * 8:
        header.refuse(
            f"tensor {name!r:.100} has {format_count(end - begin, 'byte')}, and its {dtype} and shape say otherwise."
        )
    return TensorInfo(name, dtype, tuple(shape), data_start + begin, end - begin, parameters)
