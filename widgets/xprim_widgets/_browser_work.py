"""What is being done with the rows: pulls on their way, and what pulls of the rows on screen would fetch. Pure.

Source: spec 3 §Views (ModelBrowser: "4.7 GB, 1.2 GB to fetch").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xprim_nb.cache.values import PullPlan
from xprim_widgets._base import told
from xprim_widgets._browser_rows import Catalogue
from xprim_widgets._pull_rows import Seen, row_of

__all__ = ["fetches_of", "works_of"]

_MOST_CHARS = 500


def works_of(
    seen: Iterable[Seen], busy: Mapping[str, str], catalogue: Catalogue, *, settling: bool
) -> list[dict[str, Any]]:
    """A dict for each row that is worked on, or whose pull stopped on the way; see `ModelBrowser.pulls`.

    Args:
        seen: The pulls.
        busy: What else is done, by ref: `planning`, `removing`.
        catalogue: The rows. A pull that has ended well is a mark there, and no work any more.
        settling: True while what is installed is being listed: a pull that has just ended is no mark yet.
    """
    shown = {}
    for each in seen:
        row = row_of(each)
        if row.state == "cancelled" or (row.state == "done" and not settling):
            continue
        at = catalogue.number.get(each.ref)
        if not each.running and at is not None and catalogue.rows[at].status == "installed":
            continue  # it failed or stopped once, and is here all the same
        shown[each.ref] = {
            "ref": each.ref,
            "state": row.state,
            "percent": row.percent,
            "line": told(row.line)[:_MOST_CHARS],
            "hint": told(row.hint)[:_MOST_CHARS],
        }
    for ref, doing in busy.items():
        shown[ref] = {"ref": ref, "state": doing, "percent": 0, "line": doing, "hint": ""}
    return list(shown.values())


def fetches_of(
    catalogue: Catalogue, refs: Iterable[str], known: Callable[[str], PullPlan | None]
) -> list[list[int]]:
    """For each of `refs` whose plan is known: its row's number, bytes to fetch, bytes of disk."""
    found = []
    for ref in refs:
        at = catalogue.number.get(ref)
        plan = None if at is None else known(catalogue.rows[at].manifest_hash)
        if at is not None and plan is not None:
            found.append([at, plan.bytes_network, plan.disk_needed])
    return found
