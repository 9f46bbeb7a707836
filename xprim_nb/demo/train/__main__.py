"""The command: `python -m xprim_nb.demo.train --out DIR [--steps N] [--prose FILE] [--from STAGE]`."""

from __future__ import annotations

import argparse
import logging
import platform
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from xprim_nb.demo.train.corpus import gather
from xprim_nb.demo.train.problems import TrainingError
from xprim_nb.demo.train.recipe import Recipe

PACKAGES = ("torch", "transformers", "peft", "safetensors")
STAGE_NAMES = ("base", "refined", "adapters")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's values."""
    parser = argparse.ArgumentParser(
        prog="python -m xprim_nb.demo.train", description="Train the demo models."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model directories")
    parser.add_argument(
        "--steps", type=int, default=Recipe().base.steps, help="steps of the base; others follow"
    )
    parser.add_argument("--seed", type=int, default=Recipe().seed, help="of weights, batches and JSON text")
    parser.add_argument("--prose", type=Path, help="UTF-8 text to use in place of the Debian package")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; other counts round differently")
    parser.add_argument(
        "--from", dest="first", choices=STAGE_NAMES, default="base", help="begin here, on what --out holds"
    )
    return parser.parse_args(arguments)


def require_packages() -> None:
    """Check that the training libraries can be imported.

    Raises:
        TrainingError: some cannot.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise TrainingError(
            "Training needs libraries that are not installed.",
            subject=", ".join(missing),
            hint=f"Run `pip install {' '.join(PACKAGES)} numpy`.",
        )


def train(values: argparse.Namespace) -> None:
    """Run the stages that the command line asks for.

    Raises:
        TrainingError: a library or a text is missing.
    """
    require_packages()
    import torch

    from xprim_nb.demo.train.stages import STAGES, Run  # house: brings torch and peft, which are optional

    torch.set_num_threads(values.threads)
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(seed=values.seed).scaled(values.steps)
    domains = gather(seed=values.seed, prose=values.prose, python_version=platform.python_version())
    run = Run(out=values.out, recipe=recipe, domains=domains, own_prose=values.prose is not None)
    for name, stage in STAGES[STAGE_NAMES.index(values.first) :]:
        logging.getLogger(__name__).info("stage %s", name)
        stage(run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and return the exit status: 0, or 1 with the problem on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        train(parse(arguments))
    except TrainingError as problem:
        print(f"{problem} ({problem.subject})\n{problem.hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
