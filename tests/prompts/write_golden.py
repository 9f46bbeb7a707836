"""Writes the golden files of renderers that have none yet. One that stands is never touched: raise the version.

python -m tests.prompts.write_golden
"""

from __future__ import annotations

from pathlib import Path

from tests.prompts.examples import MODELS
from tests.prompts.test_render import written
from xprim_nb.prompts.providers import provider_named

if __name__ == "__main__":
    for provider, models in MODELS.items():
        for model in models:
            renderer = provider_named(provider).renderer.id.replace("/", "-")
            path = Path(__file__).parent / "golden" / f"{renderer}.{model}.json"
            if not path.exists():
                path.write_text(written(provider, model), encoding="utf-8")
                print(f"written: {path.name}")
