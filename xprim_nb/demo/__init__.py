"""The registry inside the package: a tiny trained model and its LoRA layers, so that everything runs offline.

The default when no registry is configured; `demo/train` made it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["registry_path"]


def registry_path() -> Path:
    """The directory of the embedded registry."""
    return Path(__file__).parent / "registry"
