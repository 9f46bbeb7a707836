"""What the entry point group `xprim_nb.views` finds here: a maker for each view, by the name that magics use.

    browser(kit)          every model
    pulls(kit)            every pull
    pull(kit, handle)     one pull

Source: DESIGN §Top level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xprim_widgets.browser import ModelBrowser
from xprim_widgets.pulls import PullPanel

if TYPE_CHECKING:
    from xprim_nb._bridge import Handle
    from xprim_nb.toolkit import Toolkit

__all__ = ["browser", "pull", "pulls"]


def browser(kit: Toolkit) -> ModelBrowser:
    """Every model that the registry lists or that is installed."""
    return ModelBrowser(kit)


def pulls(kit: Toolkit) -> PullPanel:
    """Every pull of a toolkit."""
    return PullPanel(kit)


def pull(kit: Toolkit, handle: Handle[Any]) -> PullPanel:
    """One pull."""
    return PullPanel.of(kit, handle)
