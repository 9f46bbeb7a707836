"""What the entry point group `xprim_nb.views` finds here: a maker for each view, by the name that magics use.

    browser(kit)          every model
    pulls(kit)            every pull
    pull(kit, handle)     one pull
    health(kit, refs)     how what is installed is; all of it, or some
    residency(kit)        what is awake, what it takes, who waits

Source: DESIGN §Top level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xprim_widgets.browser import ModelBrowser
from xprim_widgets.health import HealthView
from xprim_widgets.pulls import PullPanel
from xprim_widgets.residency import ResidencyPanel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xprim_nb._bridge import Handle
    from xprim_nb.refs import ModelRef
    from xprim_nb.toolkit import Toolkit

__all__ = ["browser", "health", "pull", "pulls", "residency"]


def browser(kit: Toolkit) -> ModelBrowser:
    """Every model that the registry lists or that is installed."""
    return ModelBrowser(kit)


def pulls(kit: Toolkit) -> PullPanel:
    """Every pull of a toolkit."""
    return PullPanel(kit)


def pull(kit: Toolkit, handle: Handle[Any]) -> PullPanel:
    """One pull."""
    return PullPanel.of(kit, handle)


def health(kit: Toolkit, refs: Iterable[ModelRef | str] | None = None) -> HealthView:
    """How what is installed is."""
    return HealthView(kit, refs)


def residency(kit: Toolkit) -> ResidencyPanel:
    """What is awake on this machine, what it takes, who waits."""
    return ResidencyPanel(kit)
