"""`%xprim doctor`: what pulls and panels stand on, one line for each part, and what to do about it.

    look        each part's own probe, in a thread of its own; what it raises is a line too
    wait        as long as a person waits for an answer: what has not answered by then is a line that says so
    tell        a frozen value, as text and as HTML

Source: spec 3 §Magics ("`%xprim doctor` reports …"); research notebook §4, §9.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from xprim_nb._text import clean, format_seconds
from xprim_nb.magics import doctor_kernel, doctor_machine, doctor_registry
from xprim_nb.magics.wording import in_notebook
from xprim_nb.manager.probing import Probe, Verdict, ask, failed, guarded

if TYPE_CHECKING:
    from xprim_nb.magics.extension import Extension
    from xprim_nb.toolkit import Toolkit

__all__ = ["Diagnosis", "Finding", "examine", "found_by"]

# All of it answers within three seconds: the rest is for telling it.
_PATIENCE_S = 2.6
_COLOURS: Mapping[Verdict, str] = {
    "ok": "var(--jp-success-color1,#388e3c)",
    "look at this": "var(--jp-warn-color1,#f57c00)",
    "broken": "var(--jp-error-color1,#d32f2f)",
}
_MARKS: Mapping[Verdict, str] = {"ok": "✓", "look at this": "!", "broken": "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part.

    Attributes:
        subject: Which part.
        verdict: `ok`, `look at this` or `broken`.
        text: What is the case.
        advice: What to do; empty when nothing is to be done.
    """

    subject: str
    verdict: Verdict
    text: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f" → {self.advice}" if self.advice else ""
        return clean(in_notebook(f"{_MARKS[self.verdict]} {self.subject}: {self.text}{advice}"))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings, in an order that a reader can follow.

    Attributes:
        findings: One or more for each part.
        seconds: How long looking took.
    """

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The worst of them."""
        found = {each.verdict for each in self.findings}
        return "broken" if "broken" in found else "look at this" if "look at this" in found else "ok"

    def of(self, subject: str) -> Finding:
        """The finding about one part.

        Raises:
            KeyError: Nobody looked at it.
        """
        for each in self.findings:
            if each.subject == subject:
                return each
        raise KeyError(subject)

    def __str__(self) -> str:
        broken = sum(each.verdict == "broken" for each in self.findings)
        odd = sum(each.verdict == "look at this" for each in self.findings)
        told = f"{broken} broken, {odd} to look at" if broken or odd else "everything is as it should be"
        return f"{len(self.findings)} things looked at in {format_seconds(self.seconds)}: {told}"

    def __repr__(self) -> str:
        width = max((len(each.subject) for each in self.findings), default=0) + 2
        lines = []
        for each in self.findings:
            lines.append(f"{_MARKS[each.verdict]} {each.subject:<{width}}{each.verdict}: {each.text}")
            lines += [" " * (width + 2) + f"→ {each.advice}"] if each.advice else []
        return clean(in_notebook("\n".join([*lines, str(self)])))

    def _repr_html_(self) -> str:
        cell = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
        rows = "".join(
            f'<tr><th scope="row" style="{cell}">{_escaped(each.subject)}</th>'
            f'<td style="{cell};border-left:4px solid {_COLOURS[each.verdict]};padding:0 .8em;white-space:nowrap">'
            f"{_MARKS[each.verdict]} {each.verdict}</td>"
            f'<td style="{cell}">{_escaped(each.text)}'
            + (f"<div><strong>{_escaped(each.advice)}</strong></div>" if each.advice else "")
            + "</td></tr>"
            for each in self.findings
        )
        head = "".join(
            f'<th scope="col" style="{cell}">{name}</th>' for name in ("part", "verdict", "what is the case")
        )
        return (
            f'<table class="xprim-doctor"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
            f"<p>{_escaped(str(self))}</p>"
        )


def examine(extension: Extension) -> Diagnosis:
    """Look at everything. Raises nothing and answers within three seconds, whatever hangs."""
    begun = time.monotonic()
    here, apart = doctor_kernel.probes(extension)
    # What belongs to this thread alone (its running loop) is looked at first, and here.
    findings = [Finding(subject, *guarded(probe)) for subject, probe in here.items()]
    try:
        kit: Toolkit = extension.kit
    except Exception as error:  # noqa: BLE001  # a setting that cannot work is what one asks a doctor about
        findings.append(Finding("settings", *failed(error)))
    else:
        # Brings everything that runs models, and so not before somebody asks.
        engine = importlib.import_module("xprim_nb.manager.engine_checks").probes(kit.config)
        apart = {**apart, **doctor_machine.probes(kit), **doctor_registry.probes(kit), **engine}
    findings += found_by(apart, _PATIENCE_S - (time.monotonic() - begun))
    return Diagnosis(tuple(findings), time.monotonic() - begun)


def found_by(probes: Mapping[str, Probe], patience_s: float) -> list[Finding]:
    """What each probe says, in order; see `xprim_nb.manager.probing.ask`."""
    return [Finding(subject, *said) for subject, said in ask(probes, patience_s).items()]


def _escaped(text: str) -> str:
    return escape(clean(in_notebook(text)))
