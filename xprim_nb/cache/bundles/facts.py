"""What an installed model tells of itself: front matter, `config.json`, tensor headers. Reads; invents nothing.

All of it comes from strangers: every document is bounded before it is parsed, and one that is broken is reported as a
sentence, never an exception.

Source: spec 2 §Information bundle ("derived offline from what is installed").
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

from xprim_nb._files import open_plain
from xprim_nb.cache.peek import peek_installed
from xprim_nb.cache.values import InstalledModel, Peeked
from xprim_nb.errors import InvalidRefError, XprimError
from xprim_nb.refs import ModelRef
from xprim_nb.registry.manifest import FileEntry, VerifiedManifest

__all__ = ["ModelFacts", "gather_facts", "split_front_matter"]

# The longest front matter on the Hugging Face Hub has some 60 KB: a model-index of every benchmark there is.
_MAX_FRONT_MATTER_BYTES = 256 << 10
_MAX_README_BYTES = 4 << 20
_MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of one installed version.

    Attributes:
        model: The installed model.
        files: Of its manifest.
        readme: Its README, front matter included; empty when it has none.
        front_matter: Of the README, as JSON values.
        body: The README without its front matter.
        config: `config.json`; empty when there is none.
        adapter: `adapter_config.json`; empty when there is none.
        peeked: Its tensors; None when they could not be read.
        versions: Every installed version of the model.
        problems: What could not be read, as sentences.
    """

    model: InstalledModel
    files: tuple[FileEntry, ...]
    readme: str = ""
    front_matter: Mapping[str, Any] = field(default_factory=dict)
    body: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)
    peeked: Peeked | None = None
    versions: tuple[InstalledModel, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The models without which it cannot run: an adapter's base model."""
        base, revision = self.adapter.get("base_model_name_or_path"), self.adapter.get("revision")
        if not isinstance(base, str) or not base.strip():
            return ()
        named = f"{base} {revision}" if isinstance(revision, str) and revision else base
        try:
            return (str(ModelRef.parse(named)),)
        except InvalidRefError:  # a name elsewhere, or somebody's directory
            return (base,)


def gather_facts(
    model: InstalledModel, verified: VerifiedManifest, installed: Sequence[InstalledModel]
) -> ModelFacts:
    """Read what is small. Tensor data is never read.

    Args:
        model: Which.
        verified: Its manifest.
        installed: Every installed model.
    """
    problems: list[str] = []
    paths = {file.path.lower(): file.path for file in verified.manifest.files}
    readme = _text(model.path, paths.get("readme.md"), _MAX_README_BYTES, problems)
    front, body = split_front_matter(readme, problems)
    try:
        peeked = peek_installed(model.ref, model.path, verified)
    except XprimError as error:
        peeked = None
        problems.append(error.message)
    return ModelFacts(
        model=model,
        files=verified.manifest.files,
        readme=readme,
        front_matter=front,
        body=body,
        config=_json(model.path, paths.get("config.json"), problems),
        adapter=_json(model.path, paths.get("adapter_config.json"), problems),
        peeked=peeked,
        versions=tuple(each for each in installed if each.ref.name == model.ref.name),
        problems=tuple(problems),
    )


def split_front_matter(text: str, problems: list[str]) -> tuple[dict[str, Any], str]:
    r"""A README's front matter as JSON values, and the rest of it.

    Args:
        text: The README.
        problems: A sentence is added when the front matter is broken; it is then empty.

    >>> split_front_matter("---\nlicense: mit\n---\n# Title\n", [])
    ({'license': 'mit'}, '# Title\n')
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.startswith("---\n"):
        return {}, text
    head, mark, body = text[4:].partition("\n---\n")
    if not mark:
        return {}, text
    if len(head.encode()) > _MAX_FRONT_MATTER_BYTES:
        problems.append("README.md: its front matter is too long to be read.")
        return {}, body
    try:
        found = yaml.load(head, _Loader)  # a SafeLoader
        # Through JSON, so that dates and odd keys become text.
        plain = json.loads(orjson.dumps(found, default=str, option=orjson.OPT_NON_STR_KEYS))
    except (yaml.YAMLError, orjson.JSONEncodeError, RecursionError, ValueError) as error:
        problems.append(f"README.md: its front matter is no YAML ({str(error).partition(chr(10))[0]}).")
        return {}, body
    return (plain if isinstance(plain, dict) else {}), body


class _Loader(yaml.SafeLoader):
    """Without aliases: a few lines of them unfold to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # yaml has no types
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def _text(root: Path, path: str | None, limit: int, problems: list[str]) -> str:
    if path is None:
        return ""
    try:
        with os.fdopen(open_plain(root / path), "rb") as file:
            raw = file.read(limit + 1)
        if len(raw) > limit:
            raise ValueError(f"it is larger than {limit} bytes")
        return raw.decode()
    except (OSError, ValueError) as error:
        problems.append(f"{path} could not be read: {error}.")
        return ""


def _json(root: Path, path: str | None, problems: list[str]) -> dict[str, Any]:
    text = _text(root, path, _MAX_CONFIG_BYTES, problems)
    try:
        found = orjson.loads(text) if text else {}
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
    except ValueError as error:
        problems.append(f"{path} is no JSON that can be read: {error}.")
        return {}
    return found
