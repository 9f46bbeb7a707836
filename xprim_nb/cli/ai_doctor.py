"""`xprim ai doctor`: what models run on here, part by part, and what to do about what does not work.

Source: spec 4 §Faces.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from xprim_nb.cli.boundary import DoorCommand, pass_session
from xprim_nb.cli.session import Session

if TYPE_CHECKING:
    from xprim_nb.manager.probing import Said, Verdict

__all__ = ["doctor"]

# As long as a person waits: what has not answered by then hangs.
_PATIENCE_S = 8.0
_MARKS: Mapping[Verdict, str] = {"ok": "ok", "look at this": "look", "broken": "BROKEN"}


@click.command(cls=DoorCommand, short_help="Look at what models run on.")
@pass_session
def doctor(session: Session) -> None:
    """Look at devices, backends, servers, keys and the ledger, and say what is missing and what installs it.

    Nothing is loaded and no key is shown. Exits with 0 whatever is found: what is broken may be nothing you need.
    """
    # Loaded when it is called: it imports nearly everything there is to look at.
    probing = importlib.import_module("xprim_nb.manager.probing")
    checks = importlib.import_module("xprim_nb.manager.engine_checks")
    found: dict[str, Said] = probing.ask(checks.probes(session.config), _PATIENCE_S)
    document = [
        {"part": part, "verdict": verdict, "text": text, "advice": session.worded(advice)}
        for part, (verdict, text, advice) in found.items()
    ]
    session.answer({"doctor": document}, *_lines(session, found))


def _lines(session: Session, found: Mapping[str, Said]) -> list[str]:
    width = max(map(len, found), default=0) + 2
    lines = []
    for part, (verdict, text, advice) in found.items():
        lines.append(f"{_MARKS[verdict]:<8}{part:<{width}}{text}")
        lines += [f"{'':<{8 + width}}→ {session.worded(advice)}"] if advice else []
    return lines
