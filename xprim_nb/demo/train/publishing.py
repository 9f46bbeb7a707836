"""Publish the trained directories as the embedded registry: `python -m xprim_nb.demo.train.publishing DIR`.

The registry is made anew beside the old one and takes its place when it is whole.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from xprim_nb import demo
from xprim_nb.registry.publisher import publish

__all__ = ["main", "publish_all"]

# The whole model is 3.4 MB: with chunks of 10 MB it would be a single one, and two versions would share nothing.
CHUNK_BYTES = 64 << 10
BASE = "demo/tiny-llama"
ADAPTERS = ("prose", "python", "json")


def publish_all(trained: Path, to: Path) -> None:
    """Publish the base model's versions and the adapters found below `trained`.

    Args:
        trained: What the training wrote.
        to: The registry's directory; replaced.

    Raises:
        XprimError: A directory is missing, or the disk refused; the old registry is untouched.
    """
    fresh = to.with_name(f"{to.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    facts = {"architecture": "llama", "license": "mit", "tokens": "bytes"}
    for version, alias in (("v1", ()), ("v2", ("latest",))):
        publish(
            trained / "tiny-llama" / version,
            f"{BASE} {version}",
            to=fresh,
            alias=alias,
            chunk_size=CHUNK_BYTES,
            metadata={**facts, "kind": "model"},
        )
    for name in ADAPTERS:
        publish(
            trained / name / "v1",
            f"demo/lora-{name} v1",
            to=fresh,
            alias=["latest"],
            chunk_size=CHUNK_BYTES,
            metadata={**facts, "kind": "lora", "base_model": f"{BASE} v2"},
        )
    (fresh / ".models.json.lock").unlink(missing_ok=True)
    shutil.rmtree(to, ignore_errors=True)
    fresh.rename(to)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Publish the trained models as the embedded registry.")
    parser.add_argument("trained", type=Path, help="what `python -m xprim_nb.demo.train --out` wrote")
    parser.add_argument("--to", type=Path, default=demo.registry_path())
    values = parser.parse_args(arguments)
    publish_all(values.trained, values.to)


if __name__ == "__main__":
    main()
