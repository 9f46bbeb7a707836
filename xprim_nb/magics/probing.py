"""What the doctor's probes say, in one word for each idea.

Source: spec 3 §Magics (`doctor`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

__all__ = ["Probe", "Said", "Verdict"]

Verdict: TypeAlias = Literal["ok", "look at this", "broken"]

Said: TypeAlias = tuple[Verdict, str, str]
"""The verdict, what is the case, and what to do; empty when nothing is to be done."""

Probe: TypeAlias = Callable[[], Said]
"""Looks at one part. May raise, and may take too long: both are told in its place."""
