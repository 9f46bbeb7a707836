"""Imported before anything of Hugging Face: its hub client reads the environment once, when it is imported.

A worker opens no socket: what it runs lies on this machine, verified.

Source: spec 4 §Workers; DESIGN §Decisions.
"""

from __future__ import annotations

import os
import sys

__all__ = ["VARIABLES"]

VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # A worker's log shall hold what went wrong, not bars.
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # One text at a time is tokenised here; threads of its own would only be in the way of torch's.
    "TOKENIZERS_PARALLELISM": "false",
}
"""What is set."""

os.environ.update(VARIABLES)
# A worker in waiting may have imported it already.
_hub = sys.modules.get("huggingface_hub.constants")
if _hub is not None:
    _hub.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]  # a module by its name alone
