"""What a line or a cell asks: the prompt that it brings along, and the fields that it names.

Source: spec 6 §Faces.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from xprim_nb.magics.prompt_options import NUMBERS, TEXTS, VARIABLES
from xprim_nb.prompts.asked import Asked
from xprim_nb.prompts.resolve import ResolvedScaffold
from xprim_nb.prompts.values import ResolveInput
from xprim_nb.scheduling.asking import parse_loras

__all__ = ["Said", "brought", "said", "said_in_cell", "variable"]

Said = str | ResolveInput | Mapping[str, Any]
_DEFAULT_PROVIDER = "local"


def said(shell: InteractiveShell, asked: argparse.Namespace) -> tuple[Said, dict[str, Any]]:
    """The prompt that a line of `%xprim prompts` names, and the fields that it names beside it.

    Raises:
        UsageError: There is no such variable, or a file holds no prompt.
    """
    command = f"%xprim prompts {asked.verb}"
    prompt = brought(shell, command, asked.prompt)
    return prompt, _fields(shell, command, asked, prompt)


def said_in_cell(
    shell: InteractiveShell, asked: argparse.Namespace, cell: str
) -> tuple[Said, dict[str, Any]]:
    """The cell as the turn of what `--from` names, and the fields that the first line names.

    Raises:
        UsageError: There is no such variable.
    """
    prompt: Said = cell.removesuffix("\n")  # every cell ends its last line, and nobody means it
    if asked.prompt is not None:
        base = _prompt_in(variable(shell, "%%prompt", "--from", asked.prompt))
        if base is None or isinstance(base, str):
            raise UsageError(
                f"%%prompt: --from {asked.prompt}: it is no prompt, whose turn the cell could be"
            )
        rest = base.model_dump(exclude_unset=True) if isinstance(base, ResolveInput) else dict(base)
        prompt = rest | {"prompt": prompt}
    return prompt, _fields(shell, "%%prompt", asked, prompt)


def brought(shell: InteractiveShell, command: str, name: str) -> Said:
    """A prompt by what a person calls it: 1 a variable, 2 a JSON file, 3 the turn itself.

    Raises:
        UsageError: The variable, or the file, holds no prompt.
    """
    if name in shell.user_ns:  # 1
        found = _prompt_in(shell.user_ns[name])
        if found is None:
            kind = type(shell.user_ns[name]).__name__
            raise UsageError(f"{command}: {name} is no prompt, but {kind}")
        return found
    if name.endswith(".json"):  # 2
        try:
            loaded = json.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{command}: {name} cannot be read: {error}") from error
        if not isinstance(loaded, Mapping):
            raise UsageError(f"{command}: {name} holds no object with the fields of a prompt")
        return loaded
    if name.isidentifier():  # a turn of one word is rarer than a misspelt name
        raise UsageError(f"{command}: there is no variable {name}; a turn stands in quotes and has a space")
    return name  # 3


def variable(shell: InteractiveShell, command: str, option: str, name: str) -> Any:  # noqa: ANN401  # a variable may be anything
    """What a variable holds that an option names.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in shell.user_ns:
        raise UsageError(f"{command}: {option} {name}: there is no variable of that name")
    return shell.user_ns[name]


def _prompt_in(value: object) -> Said | None:
    """The prompt that a value is, or was made of."""
    match value:
        case str() | ResolveInput():
            return value
        case Mapping():
            return value
        case ResolvedScaffold() | Asked():
            return value.asked
        case _:
            return None


def _fields(shell: InteractiveShell, command: str, asked: argparse.Namespace, prompt: Said) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in VARIABLES:
        named = getattr(asked, name)
        if named is not None:
            fields[name] = variable(shell, command, f"--{name.replace('_', '-')}", named)
    for name in (*TEXTS, *NUMBERS):
        value = getattr(asked, name, None)
        if value is not None:
            fields[name] = value
    if asked.stop:
        fields["stop"] = tuple(asked.stop)
    if asked.loras:
        fields["loras"] = parse_loras(asked.loras)
    if asked.parameters:
        fields["parameters"] = dict(asked.parameters)
    has = prompt.get("provider") if isinstance(prompt, Mapping) else getattr(prompt, "provider", None)
    if "model" in fields and "provider" not in fields and not has:
        fields["provider"] = _DEFAULT_PROVIDER
    return fields
