"""The front-end sources of a view: its ESM with the shared part put into it, and its CSS after the shared one.

Front ends load the module of an anywidget from a string, where a relative import leads nowhere. So the one line that
imports from `./shared.js` is replaced with that file; for node and for editors the files stay ordinary modules.

Source: DESIGN §Decisions (widgets: no build step); STYLE rule 15.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["STATIC", "css", "esm"]

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./shared\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:function|const) )", re.MULTILINE)


@cache
def esm(name: str) -> str:
    """The module of the view `name`, complete in itself."""
    shared = _EXPORT.sub("", (STATIC / "shared.js").read_text(encoding="utf-8"))
    own = (STATIC / f"{name}.js").read_text(encoding="utf-8")
    joined, imports = _IMPORT.subn(lambda _: shared, own)
    assert imports == 1, f"{name}.js imports from ./shared.js in one line"
    return joined


@cache
def css(name: str) -> str:
    """The style sheet of the view `name`."""
    return "\n".join((STATIC / f"{each}.css").read_text(encoding="utf-8") for each in ("shared", name))
