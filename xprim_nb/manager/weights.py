"""Which weights a model's name means now, how its tokens are counted, and a name that changes when they do.

Source: spec 6 §Identity (an updated model must not answer from the old one's cache), §Resolve (its own tokenizer).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from xprim_nb._threads import settled
from xprim_nb.cache.layout import Layout
from xprim_nb.errors import NotInstalledError, PromptError
from xprim_nb.manager import Manager
from xprim_nb.manager.library import ManagerLibrary
from xprim_nb.workers.engines.tokenizing import Tokenizer
from xprim_nb.workers.values import InstallProgress, LocalModel

__all__ = ["ModelTokens", "Weights", "fingerprint"]

_log = logging.getLogger("xprim_nb.manager")

_Stamp: TypeAlias = tuple[int, int, int] | None


class Weights:
    """The models on this machine, as prompts name them. Belongs to the manager's loop.

    Args:
        manager: Open; it stays its owner's.
    """

    def __init__(self, manager: Manager) -> None:
        self._manager = manager
        self._library = ManagerLibrary(manager, manager.config.ai.max_model_cache_size_bytes)
        self._registry = Layout.of(manager.config).registry_file
        self._seen: dict[str, tuple[_Stamp, LocalModel]] = {}
        self._tokenizers: dict[tuple[Path, str], Tokenizer | None] = {}

    async def find(self, name: str) -> LocalModel | None:
        """See `Library.find`; the same again while the list of installed models is the same file."""
        stamp = _stamp_of(self._registry)
        known = self._seen.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        found = await self._library.find(name)
        # A name that stands for another's may stand for a third one's tomorrow, and a directory is in no list.
        if found is not None and found.manifest_hash and found.name == name:
            self._seen[name] = stamp, found
        return found

    async def layers(self, loras: Iterable[tuple[str, float]], *, install: bool | None) -> str:
        """LoRA layers by hash: one that is updated brings other answers too.

        Args:
            loras: Their names, with their weights.
            install: Whether they may be installed; None for the setting.

        Raises:
            NotInstalledError: One is not here, and may not be installed.
            InvalidRefError, ModelNotFoundError, NetworkError, StorageError: See `Manager.pull`.
        """
        told = ""
        for name, _ in loras:
            found = await self.find(name)
            if found is None and install is not False:
                if install is None and self._manager.config.ai.auto_install_models != "yes":
                    raise NotInstalledError(f"{name} is not installed.", subject=name)
                found = await self._library.install(name, _unheard)
            if found is not None:
                told += f" lora:{await fingerprint(found)}"
        return told

    async def tokenizer(self, found: LocalModel) -> Tokenizer | None:
        """A model's own tokenizer, read once; None where it cannot be read here."""
        key = (found.path, found.manifest_hash)
        if key not in self._tokenizers:
            self._tokenizers[key] = await settled(_read_tokenizer, found)
        return self._tokenizers[key]


class ModelTokens:
    """Counts as an installed model does; see `CountTokens`.

    Args:
        tokenizer: The model's own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str, /) -> int:
        """Tokens of a part."""
        return self._tokenizer.count(text)

    def whole(self, body: Mapping[str, Any], /) -> int:
        """Tokens of the prompt or the messages, with what the model puts around them.

        Raises:
            PromptError: The model cannot read them.
        """
        try:
            if "messages" in body:
                return len(self._tokenizer.encode_chat(body["messages"]))
            return len(self._tokenizer.encode_prompt(body["prompt"]))
        except (ValueError, ImportError) as error:
            raise PromptError(str(error), subject="prompt") from error


async def fingerprint(model: LocalModel) -> str:
    """Which weights these are; of a directory of one's own, sizes and times of its files tell it."""
    if model.manifest_hash:
        return f"manifest:{model.manifest_hash}"
    return f"directory:{await settled(_digest_of, model.path)}"


def _digest_of(folder: Path) -> str:
    facts = []
    for path in sorted(folder.iterdir()):
        if path.is_file():
            found = path.stat()
            facts.append(f"{path.name}\0{found.st_size}\0{found.st_mtime_ns}")
    return hashlib.sha256(os.fsencode("\n".join(facts))).hexdigest()


def _stamp_of(path: Path) -> _Stamp:
    """Changes when a file is replaced; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_tokenizer(model: LocalModel) -> Tokenizer | None:
    try:
        return Tokenizer(model.path)
    except (ValueError, ImportError, OSError) as error:  # it may still run: GGUF files hold their own
        _log.info("the tokens of %s cannot be counted here: %s", model.name, error)
        return None


def _unheard(progress: InstallProgress) -> None:  # house: nobody listens
    """A layer is a few hundred kilobytes: its progress is not shown."""
