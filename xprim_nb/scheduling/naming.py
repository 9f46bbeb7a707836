"""Which backend a model's name means: `backend:name`, or a name alone and the rule that chooses.

    1. `backend:name` with a backend of ours, or an endpoint's name: that one.
    2. A name alone is a model of the registry, or a directory: the NumPy backend when it can run it and it is small,
       or when nothing else is installed; otherwise `transformers`.

Source: spec 4 §Install on first use.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from xprim_nb.errors import InvalidRefError

__all__ = ["NUMPY_MAX_BYTES", "ModelName", "choose_local"]

# NumPy computes in float32: half a gigabyte of bfloat16 is one in memory, and a token is a pass through all of it,
# which takes about a tenth of a second.
NUMPY_MAX_BYTES = 512 * 1024**2


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model as its user names it; `backend` is empty when the rule shall choose."""

    backend: str
    name: str

    @classmethod
    def parse(cls, text: str, backends: Collection[str]) -> ModelName:
        """What a text names.

        >>> ModelName.parse("ollama:llama3.2:3b", ["numpy", "ollama"])
        ModelName(backend='ollama', name='llama3.2:3b')
        >>> ModelName.parse("demo/tiny-llama v2", ["numpy", "ollama"])
        ModelName(backend='', name='demo/tiny-llama v2')

        Args:
            text: `backend:name`, `group/model version`, or a path.
            backends: Names that may stand before the colon.

        Raises:
            InvalidRefError: It names nothing, or a backend that there is not.
        """
        text = str(text).strip()
        before, colon, after = text.partition(":")
        if colon and before in backends:
            if not after.strip():
                raise InvalidRefError(f"{text[:200]!r} names a backend and no model.", subject=text[:200])
            return cls(before, after.strip())
        if colon and "/" not in before and "\\" not in before and len(before) > 1:  # one letter is a drive
            known = ", ".join(sorted(backends))
            raise InvalidRefError(
                f"{before[:60]!r} is no backend.",
                subject=text[:200],
                hint=f"There are {known}, and your endpoints.",
            )
        if not text:
            raise InvalidRefError("No model is named.", subject="")
        return cls("", text)

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}" if self.backend else self.name


def choose_local(unsupported: str, size_bytes: int, *, has_transformers: bool) -> str:
    """The backend for a model on this machine, by rule 2.

    >>> choose_local("", 13_000_000, has_transformers=True), choose_local("GPT-2", 13_000_000, has_transformers=True)
    ('numpy', 'transformers')

    Args:
        unsupported: Why NumPy cannot run it; empty when it can.
        size_bytes: Of the model's files.
        has_transformers: The packages are installed.
    """
    if unsupported:
        return "transformers"
    return "numpy" if size_bytes <= NUMPY_MAX_BYTES or not has_transformers else "transformers"
