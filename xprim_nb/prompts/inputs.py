"""What people hand in, made into a `ResolveInput`: keywords, texts, and folders of files.

Source: spec 6 §Faces; STYLE rule 6 (foreign errors are translated once per seam).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xprim_nb._files import storage_errors
from xprim_nb.errors import ConfigError
from xprim_nb.prompts.values import BlockType, PromptBlock, ResolveInput

__all__ = ["block_of", "file_map_of", "input_of"]

# What tools leave beside sources; everything that begins with a dot is left out too.
_LEFT_OUT = frozenset({"__pycache__", "node_modules", "venv"})
# A source file of a megabyte was written by a machine, and would be most of a prompt.
_MOST_FILE_BYTES = 1 << 20
# More is no prompt: the longest contexts hold some four million characters.
_MOST_BYTES = 16 << 20


def input_of(prompt: str | ResolveInput | Mapping[str, Any], **fields: Any) -> ResolveInput:
    """What is asked.

    >>> input_of("Once", provider="local", model="demo/tiny-llama v2", stop=["."]).stop
    ('.',)

    Args:
        prompt: The turn; or all of it, as a `ResolveInput` or a mapping of its fields.
        **fields: Fields of `ResolveInput`; they win over those of `prompt`.

    Raises:
        ConfigError: It is none; the message names the field.
    """
    if isinstance(prompt, ResolveInput) and not fields:
        return prompt
    match prompt:
        case ResolveInput():
            given = prompt.model_dump(exclude_unset=True)
        case Mapping():
            given = dict(prompt)
        case _:
            given = {"prompt": prompt}
    given |= fields
    for name in ("provider", "model"):
        if not given.get(name):
            raise ConfigError(f"No {name} is named.", subject=name, hint=_NAMING)
    try:
        return ResolveInput.model_validate(given)
    except ValidationError as error:
        raise _refused(error) from error


_NAMING = "Name a provider and its model: `local` and `demo/tiny-llama v2`, say."


def block_of(
    kind: BlockType, content: str | Mapping[str, str] | Path, name: str = "", **fields: Any
) -> PromptBlock:
    """A block of a text, or a file map of texts by path or of a folder.

    Raises:
        ConfigError: It is none.
        StorageError: The folder, or a file of it, cannot be read.
    """
    if isinstance(content, Path):
        content = file_map_of(content) if kind == "file_map" else _text_of(content)
    said = {"files": content} if isinstance(content, Mapping) else {"content": content}
    try:
        return PromptBlock.model_validate({"type": kind, "name": name, **said, **fields})
    except ValidationError as error:
        raise _refused(error) from error


def file_map_of(folder: Path) -> dict[str, str]:
    """The texts in a folder by their paths in it, `/` between names, sorted.

    Left out are names that begin with a dot, folders that tools make, links, files above a megabyte, and what is no UTF-8.

    Raises:
        ConfigError: It is no folder, or holds more than a prompt can.
        StorageError: A file cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder.", subject=str(folder), hint="Name a folder with files.")
    found: dict[str, str] = {}
    size_bytes = 0
    for path in _files_in(folder):
        with storage_errors(path, "reading"):
            data = path.read_bytes() if path.stat().st_size <= _MOST_FILE_BYTES else None
        text = None if data is None or b"\0" in data else _decoded(data)
        if data is None or text is None:
            continue
        found[path.relative_to(folder).as_posix()] = text
        size_bytes += len(data)
        if size_bytes > _MOST_BYTES:
            raise ConfigError(
                f"{folder} holds more than {_MOST_BYTES >> 20} MB of text, which is no prompt.",
                subject=str(folder),
                hint="Name a folder further down.",
            )
    return found


def _files_in(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    with storage_errors(folder, "reading"):
        for directory, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = sorted(
                each for each in folders if not each.startswith(".") and each not in _LEFT_OUT
            )
            for name in sorted(names):
                path = Path(directory, name)
                if not name.startswith(".") and path.is_file() and not path.is_symlink():
                    yield path


def _text_of(path: Path) -> str:
    with storage_errors(path, "reading"):
        data = path.read_bytes()
    text = _decoded(data)
    if text is None:
        raise ConfigError(f"{path} is no UTF-8.", subject=str(path), hint="Give it as text.")
    return text


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _refused(error: ValidationError) -> ConfigError:
    """The first of the faults, without what was given: that may hold a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "prompt"
    more = error.error_count() - 1
    return ConfigError(
        f"{where}: {first['msg'].removeprefix('Value error, ')}" + (f" (and {more} more)" if more else ""),
        subject=where,
        hint="`xprim prompts resolve --help` shows what can be said; the fields are those of ResolveInput.",
    )
