"""The front-end sources of a view: its ESM with its parts put into it, and its CSS after the shared one.

Front ends load the module of an anywidget from a string, where a relative import leads nowhere. So the line that
imports from `./shared.js`, or from a part of the view's own (`./<view>_<part>.js`), is replaced with that file, the
first time it is met; for node and for editors the files stay ordinary modules. All of them share one scope then: a
name may be declared in one of them only.

Source: DESIGN §Decisions (widgets: no build step); STYLE rule 15.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

__all__ = ["STATIC", "css", "esm"]

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|const) )", re.MULTILINE)


@cache
def esm(name: str) -> str:
    """The module of the view `name`, complete in itself."""
    met: set[str] = set()

    def put_in(found: re.Match[str]) -> str:
        part = found[1]
        assert part == "shared" or part.startswith(f"{name}_"), f"{name}.js imports from {part}.js"
        if part in met:
            return ""
        met.add(part)
        return _EXPORT.sub("", _IMPORT.sub(put_in, (STATIC / f"{part}.js").read_text(encoding="utf-8")))

    joined = _IMPORT.sub(put_in, (STATIC / f"{name}.js").read_text(encoding="utf-8"))
    assert "shared" in met, f"{name}.js imports from ./shared.js"
    return joined


@cache
def css(name: str) -> str:
    """The style sheet of the view `name`."""
    return "\n".join((STATIC / f"{each}.css").read_text(encoding="utf-8") for each in ("shared", name))
