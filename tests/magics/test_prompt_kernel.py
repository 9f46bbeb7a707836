"""`%%prompt` as a notebook has it: one output that ends as the answer, in every form, and an X-ray that is a bar."""

from __future__ import annotations

from .kernels import Kernel

_CELL = (
    "%%prompt --model demo/tiny-llama@v2 --temperature 0.7 --seed 3 --stop . --max-tokens 200{more}\n"
    "Why is the sky blue?\n"
)


def test_an_answer_is_shown_once_and_an_x_ray_as_a_bar(kernel: Kernel) -> None:
    """The answer is no second output of the same cell; asked again it says that it is from the cache."""
    assert kernel.run("del os.environ['XPRIM_MODELS_REGISTRY_URL']").reply["status"] == "ok"
    explained = kernel.run(_CELL.format(more=" --explain"))
    (shown,) = explained.of("execute_result")
    assert 'class="xprim-cache-bar ' in shown["data"]["text/html"]
    for source in ("generated", "from the cache"):
        asked = kernel.run(_CELL.format(more=""))
        assert asked.reply["status"] == "ok"
        assert asked.of("execute_result") == []
        (*_, last) = [*asked.of("display_data"), *asked.of("update_display_data")]
        assert source in last["data"]["text/plain"]
        assert set(last["data"]) == {"text/plain", "text/html", "text/markdown"}
        assert len(asked.of("display_data")) == 1
