"""A directory is loaded as it is meant, or refused with a sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from safetensors.torch import load_file, save_file

from tests.workers.tinymodels import KINDS, edit_json, spec_of, write_tiny
from xprim_nb.workers.engines import hf_loading
from xprim_nb.workers.engines.hf_loading import Loaded, in_words, load


def quietly(path: Path, **options: Any) -> Loaded:
    """The model in that directory."""
    return load(spec_of(path, **options), lambda *_: None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama."""
    return write_tiny("llama", tmp_path / "model", dtype="float16")


@pytest.mark.parametrize(
    ("wanted", "held"),
    [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
def test_weights_are_held_in_the_dtype(model: Path, wanted: str, held: str) -> None:
    """Every weight has the dtype that was asked for, and the result names it."""
    found = quietly(model, dtype=wanted)
    assert found.dtype == held
    assert {each.dtype for each in found.model.parameters()} == {getattr(torch, held)}


def test_progress_goes_from_nothing_to_all(model: Path) -> None:
    """Fractions rise from 0.0 to 1.0, with steps while weights are read, and transformers gets its bars back."""
    from transformers.utils import logging as hf_logging

    told: list[tuple[float, str]] = []
    load(spec_of(model), lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)
    assert len([text for _, text in told if text.endswith("of 21 tensors")]) == 21
    assert hf_logging.set_tqdm_hook(None) is None


def test_threads_are_those_of_the_setting(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`threads` is told to torch; without it torch chooses."""
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    quietly(model)
    quietly(model, threads=3)
    assert asked == [3]


# --- refusals ---------------------------------------------------------------------------------------


def refusal(path: Path, **options: Any) -> str:
    """The sentence that a directory is refused with."""
    with pytest.raises(ValueError, match=r"\.\Z|\)\Z|: .+\Z") as caught:
        quietly(path, **options)
    return str(caught.value)


def test_code_of_a_model_is_not_run(model: Path) -> None:
    """A model whose architecture comes as Python code is refused, and the code is not imported."""
    trap = model / "modeling_own.py"
    trap.write_text("raise SystemExit('it was run')", "utf-8")
    edit_json(
        model / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"},
    )
    assert "Python code of its own" in refusal(model)


def test_code_beside_a_known_architecture_is_ignored(model: Path) -> None:
    """Where transformers knows the architecture, its own code is used, whatever else the model brings."""
    (model / "modeling_own.py").write_text("raise SystemExit('it was run')", "utf-8")
    edit_json(model / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})
    assert type(quietly(model).model).__name__ == "LlamaForCausalLM"


def test_code_of_a_tokenizer_is_not_run(model: Path) -> None:
    """The same for a tokenizer."""
    (model / "own.py").write_text("raise SystemExit('it was run')", "utf-8")
    edit_json(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
    assert "The tokenizer" in refusal(model)


def test_an_unknown_architecture_is_named(model: Path) -> None:
    """What transformers does not know, or what is no language model, is refused by its type."""
    edit_json(model / "config.json", model_type="vit")
    assert "'vit'" in refusal(model)


def test_pickled_weights_are_not_read(model: Path) -> None:
    """A model without safetensors is refused: other formats can hold code."""
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "no .safetensors file" in refusal(model)


def test_a_missing_tensor_is_not_made_up(model: Path) -> None:
    """transformers would put random numbers where a tensor is missing."""
    tensors = load_file(model / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 tensors" in refusal(model)
    assert "model.layers.1.mlp.up_proj.weight" in refusal(model)


def test_a_missing_tokenizer_is_a_sentence(model: Path) -> None:
    """A directory with weights and no tokenizer is refused."""
    for path in model.glob("tokenizer*"):
        path.unlink()
    assert "tokenizer" in refusal(model)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_configuration_is_a_sentence(model: Path, content: str) -> None:
    """A config.json that is none is named."""
    (model / "config.json").write_text(content, "utf-8")
    assert "config.json" in refusal(model)


def test_no_directory_is_a_sentence(tmp_path: Path) -> None:
    """A directory that is not there is named."""
    assert "nowhere" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("device", ["cuda:7", "mps", "meta", "gpu"])
def test_a_device_that_is_not_here_is_refused(model: Path, device: str) -> None:
    """A device that torch has not is named."""
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    assert device in refusal(model, device=device)


def test_an_unknown_setting_is_refused(model: Path) -> None:
    """A setting that nobody reads is refused rather than ignored."""
    assert "'quantisation'" in refusal(model, quantisation="4bit")


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantising_names_what_it_lacks(model: Path, quantization: str) -> None:
    """Without bitsandbytes, quantisation is an ImportError that names it."""
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ImportError, match="bitsandbytes") as caught:
        quietly(model, quantization=quantization)
    assert caught.value.name == "bitsandbytes"


def test_an_old_transformers_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another interpreter may have a version that works in another way."""
    monkeypatch.setattr(hf_loading, "transformers", SimpleNamespace(__version__="4.57.1"))
    with pytest.raises(ImportError, match=r"5\.14 or newer") as caught:
        quietly(model)
    assert caught.value.name == "transformers"


def test_want_of_memory_is_a_memory_error() -> None:
    """What torch calls a RuntimeError is told as what it is, and other RuntimeErrors stay."""
    with pytest.raises(MemoryError), in_words():
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), in_words():
        torch.zeros(2).view(3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_whole(tmp_path: Path, kind: str) -> None:
    """No architecture of the tests is refused for tensors that it shares or does not need."""
    found = quietly(write_tiny(kind, tmp_path))
    assert not found.model.training
    assert not any(each.requires_grad for each in found.model.parameters())
