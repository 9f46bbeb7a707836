"""The forward pass gives the logits that transformers gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xprim_nb.workers.engines.jsonfiles import read_json
from xprim_nb.workers.engines.llama_config import Rope, read_shape
from xprim_nb.workers.engines.llama_model import CancelledError, inverse_frequencies, read_weights
from xprim_nb.workers.engines.tensorfiles import TensorFiles

from .llamas import (
    BASE,
    TOLERANCE,
    installed,
    make_model,
    our_logits,
    our_model,
    their_logits,
    their_model,
    their_steps,
)

# torch computes the reference, and the machine may be busy with other things.
pytestmark = pytest.mark.timeout(180)


def _ids(count: int) -> list[int]:
    """Text in byte tokens."""
    text = (installed(BASE) / "README.md").read_bytes()
    return [256, *text * (1 + count // len(text))][:count]


def _agree(folder: Path, lengths: Sequence[int], context_tokens: int = 1024) -> None:
    ours, theirs = our_model(folder, context_tokens), their_model(folder)
    for length in lengths:
        expected = their_logits(theirs, _ids(length))
        assert np.ptp(expected) > 5, "logits of nothing would prove nothing"
        np.testing.assert_allclose(our_logits(ours, _ids(length)), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_demo_models_give_the_logits_of_transformers(version: str) -> None:
    """Prompts of one token up to the whole context agree at every position within 1e-4."""
    _agree(installed(f"demo/tiny-llama {version}"), (1, 2, 17, 63, 64, 65, 300, 1024))


def test_rounding_is_as_small_as_that_of_transformers() -> None:
    """Measured against float64, the whole context's logits are as exact as those of transformers in float32."""
    torch = pytest.importorskip("torch")
    folder, ids = installed(BASE), _ids(1024)
    theirs = their_model(folder)
    in_float32 = their_logits(theirs, ids)
    exact = their_logits(theirs.to(torch.float64), ids)
    errors = [
        np.sqrt(np.square(each - exact).mean()) for each in (our_logits(our_model(folder), ids), in_float32)
    ]
    assert errors[0] < 1.5 * errors[1]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_steps_with_a_cache_give_the_logits_of_transformers(version: str) -> None:
    """An answer token by token, each with the keys and values of all before, agrees at every step."""
    folder = installed(f"demo/tiny-llama {version}")
    ids, steps = their_steps(their_model(folder), _ids(150), 60)
    # A block, the rest of the prompt, then one by one.
    found = our_logits(our_model(folder), ids[:-1], blocks=(64, 64, 22, 1))[149:]
    assert found.shape == steps.shape == (60, 259)
    np.testing.assert_allclose(found, steps, rtol=0, atol=TOLERANCE)


_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_VARIANTS: dict[str, dict[str, Any]] = {
    "tied, one head of keys": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "every head its own keys": {"num_key_value_heads": 6},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "llama3, tied, biases": {"rope_parameters": _LLAMA3, "tie_word_embeddings": True, "attention_bias": True},
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    "heads wider than the model": {"head_dim": 32, "rms_norm_eps": 1e-3},
    "mistral": {"family": "Mistral", "sliding_window": None},
    "mistral that looks back 24 tokens": {"family": "Mistral", "sliding_window": 24},
    "qwen2": {"family": "Qwen2"},
    "qwen2 that looks back 40 tokens from its second layer on": {
        "family": "Qwen2", "use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("config", _VARIANTS.values(), ids=_VARIANTS)
def test_variants_give_the_logits_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    """Each variant that is not refused agrees with transformers, in one block, over several, and step by step."""
    folder = make_model(tmp_path, **config)
    _agree(folder, (1, 40, 200, 400), context_tokens=512)
    expected = their_logits(their_model(folder), _ids(120))
    for blocks in ((120,), (50, 1), (1,)):
        found = our_logits(our_model(folder, 512), _ids(120), blocks=blocks)
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_in_several_files_is_read_as_it_is(dtype: str, tmp_path: Path) -> None:
    """Weights in two bytes and in many files give what transformers makes of them in float32."""
    folder = make_model(tmp_path, dtype=dtype, shard_bytes=30_000)
    assert len(list(folder.glob("*.safetensors"))) > 3
    _agree(folder, (100,), context_tokens=512)


def test_an_older_configuration_means_the_same(tmp_path: Path) -> None:
    """`rope_scaling` and `rope_theta` of older files, and defaults they leave out, are what transformers takes."""
    folder = make_model(tmp_path, rope_parameters=_LLAMA3, num_key_value_heads=6, attention_bias=False)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    del config["rope_parameters"], config["num_key_value_heads"], config["head_dim"], config["attention_bias"]
    scaling = {key: value for key, value in _LLAMA3.items() if key not in ("rope_theta", "rope_type")}
    file.write_text(
        json.dumps({**config, "rope_theta": 500_000.0, "rope_scaling": {**scaling, "type": "llama3"}})
    )
    _agree(folder, (100,), context_tokens=512)


def test_untied_output_layer_wins_over_tying(tmp_path: Path) -> None:
    """Where a file has both layers, each is what it says, whatever `tie_word_embeddings` claims; so in transformers."""
    folder = make_model(tmp_path)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tie_word_embeddings": True}))
    _agree(folder, (30,), context_tokens=512)


@pytest.mark.parametrize(
    "rope", [Rope(), Rope(theta=5e5), Rope("linear", 1e4, 4.0), Rope("llama3", 5e5, 8.0, 1.0, 4.0, 64)]
)
def test_wavelengths_grow(rope: Rope) -> None:
    """Each pair of a head turns slower than the one before, none faster than a radian a position."""
    found = inverse_frequencies(rope, 64)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(1 / rope.factor if rope.kind == "linear" else 1)
    assert (np.diff(found) < 0).all()


def test_a_block_that_is_cancelled_stops_at_a_layer() -> None:
    """The question is asked before each layer; a yes ends the block there."""
    model, asked = our_model(installed(BASE), 64), []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) == 3

    with pytest.raises(CancelledError):
        model.forward([1, 2, 3], 0, {}, cancelled)
    assert len(asked) == 3 < model.shape.layers


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": 5}, "lack the tensor"),
        ({"num_hidden_layers": 3}, "layers.3.*not built"),
        ({"intermediate_size": 81}, "config.json says"),
        ({"mlp_bias": True}, "lack the tensor"),
    ],
)
def test_weights_that_the_configuration_does_not_describe_are_refused(
    change: dict[str, Any], told: str
) -> None:
    """A tensor that is missing, superfluous or of another shape is named before anything is read."""
    folder = installed(BASE)
    shape = read_shape({**read_json(folder / "config.json"), **change})
    with TensorFiles.of_model(folder) as files, pytest.raises(ValueError, match=told):
        read_weights(files, shape, lambda _: pytest.fail("something was read"))
