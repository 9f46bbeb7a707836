"""Which file paths a manifest may name. Refused before anything is written.

Source: spec 1 §References and paths; faults G2 and G7 of the original.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from xprim_nb.errors import RegistryError
from xprim_nb.refs import is_windows_reserved

__all__ = ["check_paths", "fold"]

# The limits of ext4, NTFS and APFS for one name, and of the shortest common limit for a path.
_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 1024

# Control characters, surrogates, and line and paragraph separators.
_REFUSED_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# Characters that reorder the text around them: "txt.exe" that reads as "exe.txt".
_BIDI_CONTROLS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


# HFS+ ignores these in names: git had to learn it (CVE-2014-9390). The bidi controls above are refused anyway.
_INVISIBLE = dict.fromkeys([0x200C, 0x200D, *range(0x206A, 0x2070), 0xFEFF])


def fold(path: str) -> str:
    """The key under which file systems may take two paths for one: NFC and case folding, nothing invisible."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.translate(_INVISIBLE)).casefold())


def check_paths(paths: Iterable[str], metadata_dir: str, *, where: str) -> None:
    """Refuse paths that could leave the model directory, hide each other, or exist on one system only.

    Args:
        paths: Relative, `/`-separated paths.
        metadata_dir: Our directory inside the model, `.xprim`; no path may begin with it.
        where: What the paths came from, for the message.

    Raises:
        RegistryError: Names the first offending path.
    """
    own = fold(metadata_dir)
    files: dict[str, str] = {}
    for path in paths:
        problem = _problem(path, own)
        key = fold(path)
        if problem is None and key in files:
            problem = f"is the same file as {files[key]!r} on a case-insensitive file system"
        if problem is not None:
            _refuse(path, problem, where)
        files[key] = path
    for key, path in files.items():
        parent = key
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if parent in files:
                _refuse(path, f"lies inside {files[parent]!r}, which is a file", where)


def _refuse(path: str, problem: str, where: str) -> None:
    raise RegistryError(f"{where}: the path {path[:200]!r} {problem}.", subject=path[:200])


def _problem(path: str, own: str) -> str | None:
    if not path:
        return "is empty"
    if len(path.encode("utf-8", "surrogatepass")) > _MAX_PATH_BYTES:
        return f"is longer than {_MAX_PATH_BYTES} bytes"
    if "\\" in path or ":" in path:
        return "has a backslash or a colon (a drive, a UNC name or an alternate stream on Windows)"
    if any(unicodedata.category(char) in _REFUSED_CATEGORIES or char in _BIDI_CONTROLS for char in path):
        return "has a control character"
    if path.startswith("/"):
        return "is absolute"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty, '.' or '..' part"
    if fold(parts[0]) == own:
        return "lies in the metadata directory"
    for part in parts:
        if part[-1] in ". ":
            return "has a part that ends in a dot or a space, which Windows drops"
        if len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
            return f"has a part longer than {_MAX_NAME_BYTES} bytes"
        if is_windows_reserved(part):
            return f"has the part {part!r}, a device name on Windows"
    return None
