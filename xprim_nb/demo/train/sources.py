"""Python text: the running interpreter's own standard library, less every file with terms of its own."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

from xprim_nb.demo.train.problems import TrainingError

DOCUMENT_BYTES = 700
"""A document ends at the first top-level statement after this."""

_LEFT_OUT = frozenset(
    "site-packages dist-packages test tests idlelib lib2to3 pydoc_data ensurepip turtledemo encodings".split()
)
_OWN_TERMS = re.compile(r"copyright|licen[sc]ed", re.IGNORECASE)
_TOP_LEVEL = re.compile(r"\n\n+(?=def |class |async def |@|if |for |import |from |try:|# |[A-Za-z_]+ = )")


def read_standard_library(folder: Path | None = None) -> list[str]:
    """The text of the library's modules, in path order.

    A module that mentions a copyright or a licence is skipped, so that all that is left is under the
    interpreter's PSF licence and nothing else.

    Args:
        folder: where the library is; the running interpreter's by default.

    Raises:
        TrainingError: no module was found there.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    texts: list[str] = []
    for file in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        parts = file.relative_to(root).parts
        if _LEFT_OUT.intersection(parts) or parts[0].startswith(("config-", "_sysconfigdata")):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if not _OWN_TERMS.search(text) and "\ufffd" not in text:
            texts.append(text.expandtabs(4).replace("\f", ""))
    if not texts:
        raise TrainingError(
            "The standard library's sources are missing.",
            subject=str(root),
            hint="Use an interpreter that ships its library.",
        )
    return texts


def split_modules(texts: list[str]) -> list[str]:
    """The modules as documents of a few top-level statements each."""
    documents: list[str] = []
    for text in texts:
        pending = ""
        for block in _TOP_LEVEL.split(text.strip("\n")):
            pending += ("\n\n\n" if pending else "") + block.strip("\n")
            if len(pending) >= DOCUMENT_BYTES:
                documents.append(pending + "\n")
                pending = ""
        if pending:
            documents.append(pending + "\n")
    return documents
