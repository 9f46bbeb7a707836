"""The one error of a training run.

XprimError
└── TrainingError   exit 1   a library, a text or an earlier stage is missing or unreadable
"""

from __future__ import annotations

from xprim_nb.errors import XprimError


class TrainingError(XprimError):
    """What a training run needs is missing or unreadable."""

    default_hint = "The package's docstring lists what a run needs."
