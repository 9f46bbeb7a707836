"""The windows: core values and events come in, live panels in a notebook go out.

Each view is one Python file beside one ESM and CSS pair. The core never imports this package: views hang
themselves on core values from outside, through the entry point group `xprim_nb.views` (see `views`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xprim_widgets.browser import ModelBrowser
    from xprim_widgets.health import HealthView
    from xprim_widgets.pulls import PullPanel
    from xprim_widgets.residency import ResidencyPanel

__all__ = ["HealthView", "ModelBrowser", "PullPanel", "ResidencyPanel"]

_HOMES = {
    "HealthView": "health",
    "ModelBrowser": "browser",
    "PullPanel": "pulls",
    "ResidencyPanel": "residency",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
