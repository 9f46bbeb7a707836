"""LoRA layers add what PEFT adds, several add up, and one that does not fit changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xprim_nb.workers.engines.jsonfiles import read_json
from xprim_nb.workers.engines.llama_config import linear_modules, read_shape
from xprim_nb.workers.engines.lora import Adapters
from xprim_nb.workers.engines.tensorfiles import Float32

from .llamas import (
    BASE,
    LORAS,
    TOLERANCE,
    installed,
    make_model,
    our_logits,
    our_model,
    their_logits,
    their_model,
)

# PEFT asks transformers by a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

_IDS = [256, *b'{"name": "Ada", "born": 1815, "works": [']


def _adapters(base: Path) -> Adapters:
    return Adapters(linear_modules(read_shape(read_json(base / "config.json"))))


def _lora(path: Path, weight: float = 1.0, name: str = "some/layer v1") -> dict[str, Any]:
    return {"name": name, "path": str(path), "weight": weight}


def _theirs(base: Path, weights: Mapping[Path, float]) -> Float32:
    """The logits with these layers in PEFT, each scaled by its weight."""
    peft = pytest.importorskip("peft")
    model = None
    for number, path in enumerate(weights):
        if model is None:
            model = peft.PeftModel.from_pretrained(their_model(base), path, adapter_name=str(number))
        else:
            model.load_adapter(path, adapter_name=str(number))
    assert model is not None
    model.base_model.set_adapter([str(number) for number in range(len(weights))])
    for module in model.modules():
        for number, weight in enumerate(weights.values()):
            if hasattr(module, "lora_A") and str(number) in module.lora_A:
                module.set_scale(str(number), weight)
    return their_logits(model.eval(), _IDS)


def _ours(base: Path, weights: Mapping[Path, float]) -> Float32:
    _, deltas = _adapters(base).combined(_lora(path, weight) for path, weight in weights.items())
    return our_logits(our_model(base, 128), _IDS, deltas)


@pytest.mark.parametrize("name", LORAS)
def test_a_demo_layer_gives_the_logits_of_peft(name: str) -> None:
    """Each of the three layers agrees with PEFT within 1e-4, and is not the base."""
    base, layer = installed(BASE), installed(name)
    found = _ours(base, {layer: 1.0})
    np.testing.assert_allclose(found, _theirs(base, {layer: 1.0}), rtol=0, atol=TOLERANCE)
    assert np.abs(found - _ours(base, {})).max() > 0.5


def test_a_weighted_sum_gives_the_logits_of_peft() -> None:
    """Two layers with weights are the sum of their scaled deltas, in PEFT and here; order changes rounding alone."""
    base = installed(BASE)
    weights = {installed(LORAS[0]): 0.7, installed(LORAS[1]): -0.4}
    found = _ours(base, weights)
    np.testing.assert_allclose(found, _theirs(base, weights), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found, _ours(base, dict(reversed(weights.items()))), rtol=0, atol=TOLERANCE)


def test_patterns_and_scales_are_pefts(tmp_path: Path) -> None:
    """Ranks and alphas by pattern, rank-stabilised scale and a layer on the output give the logits of PEFT."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    base = make_model(tmp_path / "base")
    configs: tuple[dict[str, Any], ...] = (
        {
            "rank_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 5},
            "alpha_pattern": {"k_proj|q_proj": 9},
        },
        {"use_rslora": True, "target_modules": ["lm_head", "self_attn.v_proj"], "lora_alpha": 3},
        {"target_modules": "all-linear", "r": 2},
        {"target_modules": r".*\.[02]\.mlp\.(up|gate)_proj"},
        {"layers_to_transform": [1], "use_rslora": True},
    )
    for number, config in enumerate(configs):
        torch.manual_seed(number)
        wanted = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "k_proj", "down_proj"], **config}
        model = peft.get_peft_model(their_model(base), peft.LoraConfig(task_type="CAUSAL_LM", **wanted))
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.data.normal_(0, 0.1)
        model.save_pretrained(tmp_path / str(number), save_embedding_layers=False)
        expected, found = their_logits(model.eval(), _IDS), _ours(base, {tmp_path / str(number): 1.0})
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
        assert np.abs(expected - their_logits(their_model(base), _IDS)).max() > 0.1


def test_the_sum_is_made_once_and_told_apart() -> None:
    """The same layers with the same weights are the same sum; another weight, order or file is another."""
    adapters, (one, other) = _adapters(installed(BASE)), [_lora(installed(name)) for name in LORAS[:2]]
    key, deltas = adapters.combined([one, other])
    again, same = adapters.combined([one, other])
    assert (again, same is deltas) == (key, True)
    keys = [adapters.combined(each)[0] for each in ([other, one], [one], [one, {**other, "weight": 0.5}], [])]
    assert len({key, *keys}) == 5
    # A weight of nothing is no layer.
    assert adapters.combined([{**one, "weight": 0}]) == adapters.combined([]) == ((), {})


def test_a_layer_written_anew_is_read_anew(tmp_path: Path) -> None:
    """What was read is used again until a file changes."""
    base, layer = installed(BASE), _changed(tmp_path, {})
    adapters = _adapters(base)
    first, before = adapters.combined([_lora(layer)])
    tensors = load_file(layer / "adapter_model.safetensors")
    save_file({name: each * 2 for name, each in tensors.items()}, layer / "adapter_model.safetensors")
    os.utime(layer / "adapter_model.safetensors", ns=(1, 1))
    second, after = adapters.combined([_lora(layer)])
    assert first != second
    name = "model.layers.0.self_attn.q_proj"
    np.testing.assert_array_equal(after[name][0], before[name][0] * 2)


def _changed(
    folder: Path,
    config: Mapping[str, Any],
    *,
    drop: str = "",
    rename: tuple[str, str] = ("", ""),
    dtype: Any = None,
    of: str = LORAS[0],
) -> Path:
    """A copy of a demo layer with another configuration, or without or with other tensors."""
    source = installed(of)
    folder.mkdir(exist_ok=True)
    document = {**read_json(source / "adapter_config.json"), **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    tensors = load_file(source / "adapter_model.safetensors")
    kept = {
        name.replace(*rename) if rename[0] else name: each.astype(dtype) if dtype else each
        for name, each in tensors.items()
        if not drop or drop not in name
    }
    save_file(kept, folder / "adapter_model.safetensors")
    return folder


_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dora": ({"config": {"use_dora": True}}, "use_dora"),
    "biases": ({"config": {"bias": "lora_only"}}, "bias"),
    "whole modules": ({"config": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
    "what is not known yet": ({"config": {"use_next_years_idea": {"a": 1}}}, "use_next_years_idea"),
    "a start that changes the base": ({"config": {"init_lora_weights": "pissa_niter_4"}}, "pissa_niter_4"),
    "another kind": ({"config": {"peft_type": "IA3"}}, "IA3"),
    "another rank": ({"config": {"r": 5}}, "rank 5"),
    "a rank of its own for some": ({"config": {"rank_pattern": {"o_proj": 2}}}, "o_proj.*rank 2"),
    "no rank": ({"config": {"r": 0}}, "rank"),
    "no alpha": ({"config": {"lora_alpha": None}}, "lora_alpha"),
    "modules it does not name": ({"config": {"target_modules": ["q_proj"]}}, "target_modules"),
    "half a pair": ({"drop": "layers.2.mlp.up_proj.lora_B"}, "one half"),
    "a module that is not there": ({"rename": ("layers.3.", "layers.4.")}, "no linear layer.*layers.4"),
    "another module's shape": ({"rename": ("gate_proj", "no_proj")}, "no_proj"),
    "embeddings": ({"rename": ("lora_A.weight", "lora_embedding_A")}, "lora_embedding_A"),
    "numbers that are no floats": ({"dtype": np.int32}, "I32"),
    "a pattern that is none": ({"config": {"target_modules": "("}}, "regular expression"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "told"), _REFUSED.values(), ids=_REFUSED)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    """The message names the layer and what is wrong with it; the sum that is in use stays what it was."""
    adapters = _adapters(installed(BASE))
    used = [_lora(installed(LORAS[1]))]
    key, deltas = adapters.combined(used)
    layer = _changed(tmp_path, change.pop("config", {}), **change)
    with pytest.raises(ValueError, match=f"(?s)some/layer v1.*{told}"):
        adapters.combined([*used, _lora(layer)])
    again, same = adapters.combined(used)
    assert (again, same is deltas) == (key, True)


def test_a_layer_of_another_base_is_refused(tmp_path: Path) -> None:
    """A layer whose matrices are of another width names both shapes."""
    base = make_model(tmp_path)
    with pytest.raises(ValueError, match=r"rank 4.*\(4, 80\)"):
        _adapters(base).combined([_lora(installed(LORAS[0]))])


@pytest.mark.parametrize("weight", ["1", None, True, float("nan")])
def test_a_weight_is_a_number(weight: Any) -> None:
    """What is no number, or none that can be multiplied with, is refused."""
    with pytest.raises(ValueError, match="weight"):
        _adapters(installed(BASE)).combined([_lora(installed(LORAS[0]), weight)])


def test_what_is_no_layer_is_named(tmp_path: Path) -> None:
    """A directory without an adapter's files is refused with the file that it lacks."""
    with pytest.raises(ValueError, match=r"some/layer v1.*adapter_config\.json"):
        _adapters(installed(BASE)).combined([_lora(tmp_path)])


def test_few_layers_are_kept() -> None:
    """Layers that have not been used for long are forgotten, those used last are not read again."""
    adapters = _adapters(installed(BASE))
    layers = [_lora(installed(name), name=f"{name}{number}") for name in LORAS for number in range(4)]
    for each in layers:
        adapters.combined([each])
    kept = [stamp.name for stamp in adapters._read]
    assert kept == [each["name"] for each in layers[-8:]]
