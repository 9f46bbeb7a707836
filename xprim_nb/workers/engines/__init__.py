"""What a worker imports after the handshake: modules that load a model and make text, and know no process and no pipe.

A worker may run in an interpreter that has no package of ours. So modules in here import the standard library, the
packages that they are made for (numpy, torch …) and each other, by relative imports alone: the child loads this folder
as a package of its own name.

An engine module offers `create() -> Engine`. Values that cross are what JSON can hold.

Source: spec 4 §Workers ("a worker may run in another interpreter or venv than the kernel").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

__all__ = ["Engine"]


class Engine(Protocol):
    """One model in one process. Called from the worker's main thread alone, one call at a time, but for `stats`.

    What it raises is told to whoever asked, with the exception's type and text; `MemoryError` (and torch's
    OutOfMemoryError) is told as want of memory, `ImportError` as a missing package, `ValueError` as a refusal.
    """

    def load(self, spec: Mapping[str, Any], progress: Callable[[float, str], object]) -> dict[str, Any]:
        """Load what `spec` names.

        Args:
            spec: `path` (the model's directory), `device`, `context_tokens`, `device_limit_bytes` (or None), and the
                backend's `settings`.
            progress: Called with the fraction that is loaded (0.0 to 1.0) and a text.

        Returns:
            `context_tokens`, `device_bytes` (or None when the process's resident set is the measure), `dtype`, and
            whatever else is worth showing.
        """
        ...

    def generate(self, request: Mapping[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The answer: `{"text": …, "tokens": n}` each, and last `{"ended": {"reason": …, "prompt_tokens": …, …}}`.

        Args:
            request: `prompt` or `messages`, `max_tokens`, `temperature`, `top_p`, `top_k`, `seed`, `stop`, and `loras`:
                a list of `name`, `path`, `weight`.
            cancelled: True once nobody waits any more; asked at least once for each token.
        """
        ...

    def park(self) -> dict[str, Any]:
        """Leave the accelerator; `{"device_bytes": residue}`. Raises NotImplementedError where there is none."""
        ...

    def wake(self) -> dict[str, Any]:
        """Come back to it; `{"device_bytes": …}`."""
        ...

    def stats(self) -> dict[str, Any]:
        """`{"steps": tokens made since it was loaded, "device_bytes": … or None}`. From any thread, at once."""
        ...

    def unload(self) -> None:
        """Let go of everything; the process ends next."""
        ...
