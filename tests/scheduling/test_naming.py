"""Which backend a name means."""

from __future__ import annotations

import pytest

from xprim_nb.errors import InvalidRefError
from xprim_nb.scheduling.naming import NUMPY_MAX_BYTES, ModelName, choose_local

_BACKENDS = ["numpy", "ollama", "lab"]


@pytest.mark.parametrize(
    ("text", "backend", "name"),
    [
        ("demo/tiny-llama v2", "", "demo/tiny-llama v2"),
        ("  demo/tiny-llama@v2 ", "", "demo/tiny-llama@v2"),
        ("numpy:demo/tiny-llama v2", "numpy", "demo/tiny-llama v2"),
        ("ollama:llama3.2:3b", "ollama", "llama3.2:3b"),
        ("lab:Qwen/Qwen3-8B", "lab", "Qwen/Qwen3-8B"),
        ("./weights:old", "", "./weights:old"),
        ("/data/model", "", "/data/model"),
        (r"C:\models\tiny", "", r"C:\models\tiny"),
    ],
)
def test_names_are_split_at_a_backend(text: str, backend: str, name: str) -> None:
    """Only what is a backend's name stands before the colon; tags, drives and paths keep theirs."""
    assert ModelName.parse(text, _BACKENDS) == ModelName(backend, name)


@pytest.mark.parametrize(
    ("text", "said"), [("olama:llama3", "no backend"), ("ollama:", "no model"), ("", "No model")]
)
def test_a_name_that_means_nothing_is_refused(text: str, said: str) -> None:
    """A backend that there is not, or a backend alone, is told with what there is."""
    with pytest.raises(InvalidRefError, match=said):
        ModelName.parse(text, _BACKENDS)


@pytest.mark.parametrize(
    ("unsupported", "size", "has_transformers", "chosen"),
    [
        ("", 13_000_000, True, "numpy"),
        ("", NUMPY_MAX_BYTES + 1, True, "transformers"),
        ("", NUMPY_MAX_BYTES + 1, False, "numpy"),
        ("GPT-2 is not read.", 1000, False, "transformers"),
    ],
)
def test_small_llamas_run_in_numpy(unsupported: str, size: int, has_transformers: bool, chosen: str) -> None:
    """NumPy runs what it can while that is quick, or while nothing else is there."""
    assert choose_local(unsupported, size, has_transformers=has_transformers) == chosen
