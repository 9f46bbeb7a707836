"""Public-domain prose: six novels by Jane Austen as Debian packages them, or a file of one's own."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from xprim_nb.demo.train.problems import TrainingError

PACKAGE = "r-cran-janeaustenr"
DOCUMENT_BYTES = 700
"""A document ends at the first paragraph after this: short enough that the model learns to stop."""

_HINT = f"On Debian run `apt-get update` so that `apt-get download {PACKAGE}` works, or pass --prose FILE."
_STRING_VECTOR, _STRING = 16, 9  # SEXP types STRSXP and CHARSXP


def fetch_prose() -> str:
    """The novels' text, downloaded and unpacked in a folder that is gone afterwards.

    Raises:
        TrainingError: `apt-get` or `dpkg-deb` is missing or fails, or the package holds no text.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, capture_output=True)
            (package,) = folder.glob("*.deb")
            subprocess.run(
                ["dpkg-deb", "-x", package.name, "unpacked"], cwd=folder, check=True, capture_output=True
            )
            (database,) = folder.glob("unpacked/**/data/Rdata.rdb")
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise TrainingError(
                f"The prose could not be fetched: {error}.", subject=PACKAGE, hint=_HINT
            ) from error
        return "\n\n".join(read_r_texts(database.read_bytes()))


def read_prose(file: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        TrainingError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"The prose could not be read: {error}.", subject=str(file), hint="Name a UTF-8 text file."
        ) from error


def read_r_texts(database: bytes) -> list[str]:
    """The character vectors of an R lazy-load database, each as lines joined by newlines.

    Raises:
        TrainingError: an entry is not a zlib-compressed vector of strings.

    Source: "R Internals", 1.8 Serialization formats. A lazy-load entry: big-endian size, zlib stream.
    """
    texts: list[str] = []
    position = 0
    try:
        while position < len(database):
            (size,) = struct.unpack_from(">I", database, position)
            stream = zlib.decompressobj()
            value = stream.decompress(database[position + 4 :])
            if len(value) != size:
                raise ValueError(f"entry at {position} is {len(value)} bytes, not {size}")
            texts.append("\n".join(_strings(value)))
            position = len(database) - len(stream.unused_data)
    except (ValueError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise TrainingError(
            f"The package's data could not be read: {error}.", subject=PACKAGE, hint=_HINT
        ) from error
    return texts


def _strings(value: bytes) -> list[str]:
    """The strings of one serialized STRSXP (XDR, version 3)."""
    if value[:2] != b"X\n":
        raise ValueError("not an XDR serialization")
    (encoding_size,) = struct.unpack_from(">i", value, 14)
    position = 18 + encoding_size
    flags, count = struct.unpack_from(">ii", value, position)
    if flags & 0xFF != _STRING_VECTOR:
        raise ValueError("not a character vector")
    position += 8
    strings: list[str] = []
    for _ in range(count):
        flags, size = struct.unpack_from(">ii", value, position)
        if flags & 0xFF != _STRING:
            raise ValueError("not a string")
        position += 8
        strings.append(value[position : position + max(size, 0)].decode("utf-8"))
        position += max(size, 0)  # NA has size -1 and no bytes
    return strings


def split_prose(text: str) -> list[str]:
    """The text as documents of a few paragraphs, lines unwrapped and `_emphasis_` marks dropped."""
    documents: list[str] = []
    pending: list[str] = []
    for block in re.split(r"\n\s*\n", text.replace("_", "")):
        paragraph = " ".join(block.split())
        if not paragraph:
            continue
        pending.append(paragraph)
        if sum(map(len, pending)) >= DOCUMENT_BYTES:
            documents.append("\n\n".join(pending) + "\n")
            pending = []
    return documents
