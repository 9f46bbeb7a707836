"""Who asks: the cell of a notebook or the line of a script, for whoever wonders later why a model was loaded.

Source: spec 4 §Faces ("the cell that caused each load").
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["asker", "cell_of"]

_OURS = ("xprim_nb", "xprim_widgets")


def asker() -> str:
    """What calls a verb now, as a reader knows it: `In [12]`, or `train.py:31`; empty where nothing can be seen.

    In a notebook that is the cell, also where a function that it imports makes the call.
    """
    module: Any = sys.modules.get("IPython")  # a shell that runs has loaded it
    shell = module.get_ipython() if module is not None else None
    return cell_of(shell) if shell is not None else _line(sys._getframe(1))


def cell_of(shell: Any) -> str:  # noqa: ANN401  # an `InteractiveShell`, which is not imported for its type
    """The cell that runs."""
    # The shell's own count is one ahead while a cell runs since IPython 9; its display hook knows either way.
    return f"In [{getattr(shell.displayhook, 'prompt_count', shell.execution_count)}]"


def _line(frame: FrameType | None) -> str:
    """The nearest line that is none of ours."""
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _OURS:
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith("<"):  # typed in, or executed from a string
        return ""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
