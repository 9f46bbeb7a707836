"""Windows on values: shown at once, and not again as the result of their cell."""

from __future__ import annotations

from .kernels import Kernel

_WIDGET = "application/vnd.jupyter.widget-view+json"


def test_health_is_shown_once_and_still_a_value(kernel: Kernel) -> None:
    """The cell shows the view and no result; another cell shows the report itself, which still has its frame."""
    kernel.run("pulled = %xprim pull other/base v1 --wait")
    shown = kernel.run("%xprim health")
    assert any(_WIDGET in each["data"] for each in shown.of("display_data"))
    assert shown.of("execute_result") == []
    named = kernel.run("found = %xprim health other/base\nfound")
    assert named.of("execute_result") == []
    later = kernel.run("found")
    assert _WIDGET not in str(later.outputs)
    (result,) = later.of("execute_result")
    assert result["data"]["text/plain"].startswith("The model is healthy.")
    assert (
        kernel.run("print(list(found.frame['ref']), len(found.chart.bars))").text() == "['other/base v1'] 1\n"
    )
    both = kernel.run("a = %xprim health\nb = %xprim health --quick\ndisplay(a)\nb")
    assert len([each for each in both.of("display_data") if _WIDGET in each["data"]]) == 2
    assert both.of("execute_result") == []
