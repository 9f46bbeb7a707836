"""What a `config.json` asks for: read exactly, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from xprim_nb.workers.engines.llama_config import (
    Rope,
    held_tensors,
    linear_modules,
    read_shape,
    refusal,
    tensor_shapes,
)

_PLAIN: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 100, "hidden_size": 24,
    "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def test_what_is_not_said_is_what_transformers_takes() -> None:
    """Defaults are those of transformers for the family."""
    shape = read_shape({key: value for key, value in _PLAIN.items() if key != "num_key_value_heads"})
    assert (shape.key_value_heads, shape.head_dim, shape.context_tokens) == (4, 6, 2048)
    assert (shape.norm_epsilon, shape.rope, shape.windows) == (1e-6, Rope(), (0, 0))
    assert not any((shape.qkv_bias, shape.out_bias, shape.mlp_bias, shape.tied))


def test_a_model_type_alone_names_the_architecture() -> None:
    """Files without `architectures` are taken by their `model_type`."""
    assert read_shape({**_PLAIN, "architectures": None}).family == "llama"


def test_families_differ_in_biases_and_windows() -> None:
    """Qwen2 has biases on queries, keys and values; Mistral looks back as far as its window."""
    qwen = read_shape({**_PLAIN, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"})
    assert (qwen.qkv_bias, qwen.out_bias, qwen.windows) == (True, False, (0, 0))
    mistral = {**_PLAIN, "architectures": ["MistralForCausalLM"], "model_type": "mistral"}
    assert read_shape(mistral).windows == (4096, 4096)
    assert read_shape({**mistral, "sliding_window": None}).windows == (0, 0)


def test_layer_types_say_which_layers_look_back_how_far() -> None:
    """Of Qwen2 each layer is one of two kinds, by a list or by the first that has a window."""
    config = {**_PLAIN, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "sliding_window": 7}
    types = ["sliding_attention", "full_attention"]
    assert read_shape({**config, "use_sliding_window": True, "layer_types": types}).windows == (7, 0)
    assert read_shape({**config, "use_sliding_window": True, "max_window_layers": 1}).windows == (0, 7)
    assert read_shape({**config, "layer_types": ["full_attention"] * 2}).windows == (0, 0)


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_rotary_settings_have_two_names(key: str) -> None:
    """Older and newer files say the same under different keys; what stands inside comes first."""
    told = read_shape({**_PLAIN, "rope_theta": 5.0, "max_position_embeddings": 64, key: _LLAMA3}).rope
    assert told == Rope("llama3", 5.0, 8.0, 1.0, 4.0, 64)
    inside = {"type": "linear", "factor": 2, "rope_theta": 7}
    assert read_shape({**_PLAIN, "rope_theta": 5.0, key: inside}).rope == Rope("linear", 7.0, 2.0)


_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": ({"architectures": ["Gemma2ForCausalLM"]}, "Gemma2ForCausalLM"),
    "another model type": ({"architectures": [], "model_type": "mamba"}, "mamba"),
    "nothing at all": ({"architectures": None, "model_type": None}, "unknown"),
    "a variant": ({"model_type": "llama_moe"}, "llama_moe"),
    "an activation": ({"hidden_act": "gelu"}, "gelu"),
    "quantised weights": ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    "yarn": ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
    "partial rotation": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "a list for an object": ({"rope_scaling": [1]}, "no object"),
    "no factor": ({"rope_scaling": {"type": "linear"}}, "factor"),
    "nothing between": ({"rope_scaling": {**_LLAMA3, "high_freq_factor": 1.0}}, "nothing between"),
    "heads that do not share": ({"num_key_value_heads": 3}, "evenly"),
    "no width": ({"hidden_size": None}, "hidden_size"),
    "a truth for a number": ({"num_hidden_layers": True}, "num_hidden_layers"),
    "an odd head": ({"head_dim": 5}, "even"),
    "layers of two kinds": ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
    "too few kinds": ({"layer_types": ["full_attention"]}, "layer_types"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), _REFUSED.values(), ids=_REFUSED)
def test_what_is_not_built_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    """The reason names what it is about; `refusal` gives the same as a sentence."""
    with pytest.raises(ValueError, match=told):
        read_shape({**_PLAIN, **change})
    assert told in refusal({**_PLAIN, **change})
    assert refusal({**_PLAIN, **change}).endswith(".")


def test_what_can_be_run_has_no_refusal() -> None:
    """An empty reason is a yes."""
    assert refusal(_PLAIN) == ""


def test_tensors_follow_from_the_shape() -> None:
    """Each linear layer has a weight, and a bias where the family has one."""
    shape = read_shape({**_PLAIN, "attention_bias": True})
    tensors = tensor_shapes(shape)
    assert set(linear_modules(shape)) <= {name.rpartition(".")[0] for name in tensors}
    assert tensors["model.layers.1.self_attn.k_proj.weight"] == (12, 24)
    assert tensors["model.layers.1.self_attn.k_proj.bias"] == (12,)
    assert "model.layers.1.mlp.up_proj.bias" not in tensors
    assert tensors["lm_head.weight"] == (100, 24)


def test_tied_tensors_are_held_once() -> None:
    """Of a tied model either of the two tables does; where a file has both, both are held, and no buffer is."""
    tied = {**_PLAIN, "tie_word_embeddings": True}
    names = set(tensor_shapes(read_shape(tied)))
    both = held_tensors(tied, names | {"model.layers.0.self_attn.rotary_emb.inv_freq"})
    assert both == names
    for missing in ("lm_head.weight", "model.embed_tokens.weight"):
        assert held_tensors(tied, names - {missing}) == names - {missing}
