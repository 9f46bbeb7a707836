"""What the header of a tensor file tells, and a reader that goes through one without trusting it.

Source: spec 1 §Publisher, §Manager (`peek`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

from xprim_nb._text import format_count
from xprim_nb.errors import XprimError

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_METADATA_BYTES",
    "MAX_NAME_BYTES",
    "MAX_TENSORS",
    "Header",
    "HeaderError",
    "Reader",
    "Scalar",
    "TensorFile",
    "TensorInfo",
    "in_file_order",
    "short_values",
]

# The safetensors reader's own limit. GGUF has none; its largest real headers (vocabularies) are 20 MB.
MAX_HEADER_BYTES = 100_000_000
# The largest models in one file have some 140,000 tensors (every expert of a mixture apart).
MAX_TENSORS = 1 << 18
# The GGUF specification's limit for a key. Names of tensors are shorter in practice (64 bytes in ggml).
MAX_NAME_BYTES = 65_535
# Longer texts (chat templates, licences, training logs) say nothing about the tensors.
MAX_METADATA_BYTES = 4096

# How far ahead is read where the header's length is not known before its end.
_WINDOW_BYTES = 1 << 18
_U64 = struct.Struct("<Q")

Scalar = str | int | float | bool


class Reader(Protocol):
    """How the bytes of a file are got."""

    def __call__(self, offset: int, length: int, /) -> bytes:
        """At least one and at most `length` bytes from `offset`; none only where the file ends.

        A short answer is fine: a reader over chunks may stop where one ends. What it raises passes through.
        """
        ...


class HeaderError(XprimError, ValueError):
    """The file is no well-formed safetensors or GGUF file, whatever its name says."""

    default_hint = "The file is damaged or cut short: fetch or export it again."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor.

    Attributes:
        name: As the header spells it.
        dtype: The format's own word: `BF16`, `F8_E4M3`, `Q4_K` …; `ggml-<n>` for a type number unknown here.
        shape: Outermost dimension first, in both formats.
        offset: Of its data in the file, in bytes.
        size_bytes: Of its data, without padding (with it when the type is unknown).
        parameters: Number of elements, however they are packed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    parameters: int


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The table of contents of one file.

    Attributes:
        format: Which of the two it is.
        tensors: In order of offset. They do not overlap and lie inside the file.
        metadata: Short texts and numbers; lists and long texts are left out.
        header_bytes: Where tensor data begins, in bytes from the start of the file.
    """

    format: Literal["safetensors", "gguf"]
    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, Scalar]
    header_bytes: int


class Header:
    """Goes through a header from front to back, in windows, and never past its limits.

    Args:
        read: Gives bytes of the file.
        file_size: In bytes.
        filename: For messages.
    """

    def __init__(self, read: Reader, file_size: int, filename: str) -> None:
        self.file_size, self.filename, self.position = file_size, filename, 0
        self._read, self._window, self._start = read, b"", 0
        self._limit = min(file_size, MAX_HEADER_BYTES + _U64.size)

    def refuse(self, text: str, hint: str = "") -> NoReturn:
        """Raise the `HeaderError` that says this of the file."""
        raise HeaderError(f"{self.filename}: {text}", subject=self.filename, hint=hint)

    def take(self, length: int, ahead: int = 0) -> bytes:
        """The next `length` bytes; up to `ahead` bytes may be fetched for them.

        Raises:
            HeaderError: They go on past the end of the file, or beyond `MAX_HEADER_BYTES`.
        """
        at = self.position - self._start
        if at + length > len(self._window):
            self._fill(length, ahead)
            at = 0
        self.position += length
        return self._window[at : at + length]

    def skip(self, length: int) -> None:
        """Go over bytes without reading them.

        Raises:
            HeaderError: As for `take`.
        """
        self._check(length)
        self.position += length

    def number(self, layout: struct.Struct = _U64) -> Any:  # noqa: ANN401  # int or float, as the layout says
        """The next number; without a layout an unsigned one of 8 bytes."""
        return layout.unpack(self.take(layout.size, _WINDOW_BYTES))[0]

    def count(self, most: int, what: str, layout: struct.Struct = _U64) -> int:
        """The next number, which says how much follows.

        Raises:
            HeaderError: It is more than `most`.
        """
        found: int = self.number(layout)
        if found > most:
            self.refuse(f"the header claims {found} {what}; the limit is {most}.")
        return found

    def text(self, length: int) -> str:
        """The next `length` bytes as text; bytes that are not UTF-8 become replacement characters."""
        return self.take(length, _WINDOW_BYTES).decode(errors="replace")

    def skip_strings(self, count: int) -> None:
        """Go over `count` texts, each after its length: vocabularies hold hundreds of thousands."""
        unpack = _U64.unpack_from
        while count:
            if self.position + _U64.size > self._start + len(self._window):
                self._fill(_U64.size, _WINDOW_BYTES)
            window, at = self._window, self.position - self._start
            last = len(window) - _U64.size
            while count and at <= last:
                at += _U64.size + unpack(window, at)[0]
                count -= 1
            self.position = self._start + at
            self._check(0)

    def _fill(self, length: int, ahead: int) -> None:
        self._check(length)
        wanted = min(max(length, ahead), self._limit - self.position)
        held = self._window[self.position - self._start :]
        parts, got = [held] if held else [], len(held)
        while got < length:
            part = self._read(self.position + got, wanted - got)[: wanted - got]
            if not part:
                self.refuse(f"it ended at byte {self.position + got} of {self.file_size}.")
            parts.append(part)
            got += len(part)
        self._window, self._start = b"".join(parts), self.position

    def _check(self, length: int) -> None:
        if self.position + length > self.file_size:
            self.refuse(
                f"the header goes on past the end of the file, {format_count(self.file_size, 'byte')}."
            )
        if self.position + length > self._limit:
            self.refuse(f"the header is longer than {MAX_HEADER_BYTES} bytes.")


def in_file_order(tensor: TensorInfo) -> tuple[int, int, str]:
    """Sort key: the offset; empty tensors come before the one they share it with."""
    return tensor.offset, tensor.size_bytes, tensor.name


def short_values(pairs: Mapping[str, object]) -> dict[str, Scalar]:
    """The pairs whose value is a number, a truth value, or a text of at most `MAX_METADATA_BYTES` letters."""
    return {
        key: value
        for key, value in pairs.items()
        if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= MAX_METADATA_BYTES)
    }
