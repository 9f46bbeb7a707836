"""`%%generate` on the real engine, in a real kernel, with the demo model."""

from __future__ import annotations

from .kernels import Kernel


def test_a_model_in_a_notebook(kernel: Kernel) -> None:
    """A cell installs, loads and answers; the next finds the model awake, and the timeline names the cell."""
    kernel.run("from xprim_nb import demo\nconfig = %xprim config registry_url={demo.registry_path()}")
    first = kernel.run("%%generate demo/tiny-llama v2 --max-tokens 5 --as reply\nOnce upon a time\n")
    assert first.reply["status"] == "ok", first
    number = first.reply["execution_count"]
    assert kernel.run("print(reply.tokens, reply.timings.load_s > 0)").text() == "5 True\n"
    again = kernel.run("%%generate demo/tiny-llama v2 --max-tokens 5 --as second\nOnce upon a time\n")
    assert again.reply["status"] == "ok"
    assert kernel.run("print(second.text == reply.text, second.timings.load_s)").text() == "True 0.0\n"
    kernel.run("rows = %xprim ps")
    assert kernel.run("print([(each.name, each.is_mine) for each in rows])").text() == (
        "[('demo/tiny-llama v2', True)]\n"
    )
    kernel.run("line = %xprim timeline")
    told = kernel.run("print(set(line.frame.query(\"state == 'resident'\")['note']))").text()
    assert f"In [{number}]" in told
    kernel.run("view = %xprim evict demo/tiny-llama v2")
    assert kernel.run("print(view.status)").text() == "absent\n"
    assert kernel.run("h = kit = None\n%xprim ps").of("execute_result")


def test_gpu_opens_the_panel(kernel: Kernel) -> None:
    """`%xprim gpu` shows one window, and no value beside it."""
    shown = kernel.run("%xprim gpu")
    assert shown.reply["status"] == "ok", shown
    assert len(shown.shown) == 1
    assert "xprim" not in shown.text("stderr")
