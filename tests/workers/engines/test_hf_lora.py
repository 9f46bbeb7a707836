"""LoRA layers: what PEFT makes of them, added up exactly, refused before anything changes, gone without a trace."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.workers.tinymodels import Demo, ask, edit_json, install_demo, spec_of, write_tiny
from xprim_nb.workers.engines.hf_lora import Layers
from xprim_nb.workers.engines.hf_transformers import HFTransformers, create

# PEFT asks transformers for something by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

_IDS = torch.tensor([list(b"The quick brown fox, {")])


@torch.inference_mode()  # type: ignore[untyped-decorator]  # torch has no types here
def scores(model: Any) -> Any:
    """The scores of every token after every token of a fixed text."""
    return model(input_ids=_IDS).logits


def base(path: Path) -> Any:
    """The model alone."""
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo model and its layers."""
    return install_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def model(demo: Demo) -> Any:
    """The demo model, with no layers."""
    return base(demo.model)


@pytest.fixture
def layers(model: Any) -> Layers:
    """Those of `model`, two at most."""
    return Layers(model, "cpu", 2)


@pytest.fixture
def strange(demo: Demo, tmp_path: Path) -> Path:
    """A copy of the json layer that a test may spoil."""
    return Path(shutil.copytree(demo.layers["json"], tmp_path / "strange"))


def one(path: Path, weight: float = 1.0) -> list[dict[str, Any]]:
    """A request's layers: that one."""
    return [{"name": "strange", "path": str(path), "weight": weight}]


# --- what they do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["json", "prose", "python"])
def test_a_layer_does_what_peft_makes_of_it(demo: Demo, model: Any, layers: Layers, name: str) -> None:
    """The scores with a layer are those of PEFT's own model, bit for bit, and not the base model's."""
    plain = scores(model)
    assert layers.use(demo.loras(name))
    theirs = scores(peft.PeftModel.from_pretrained(base(demo.model), demo.layers[name]))
    assert torch.equal(scores(model), theirs)
    assert not torch.equal(plain, theirs)


def test_several_are_added_up_exactly(demo: Demo, model: Any, layers: Layers) -> None:
    """Three layers with weights are PEFT's concatenation of them, which is the exact sum whatever their ranks."""
    weights = {"json": 0.7, "prose": -0.4, "python": 1.2}
    combined = base(demo.model)
    for name in weights:
        if name == "json":
            combined = peft.PeftModel.from_pretrained(combined, demo.layers[name], adapter_name=name)
        else:
            combined.load_adapter(demo.layers[name], name)
    combined.add_weighted_adapter(list(weights), list(weights.values()), "all", combination_type="cat")
    combined.set_adapter("all")
    layers.use(demo.loras(**weights))
    assert torch.allclose(scores(model), scores(combined), atol=1e-4)


def test_the_text_is_what_peft_generates(demo: Demo) -> None:
    """An answer with a layer is `generate` of PEFT's model; the next without is the base model's."""
    engine = create()
    engine.load(spec_of(demo.model), lambda *_: None)
    plain = said(engine, ask("The "))
    theirs = peft.PeftModel.from_pretrained(base(demo.model), demo.layers["json"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.model)
    inputs = tokenizer("The ", return_tensors="pt")
    ids = theirs.generate(**inputs, max_new_tokens=24, do_sample=False)[0, 4:]
    with_layer = said(engine, ask("The ", loras=demo.loras("json")))
    assert with_layer == tokenizer.decode(ids, skip_special_tokens=True) != plain
    assert said(engine, ask("The ")) == plain


def said(engine: HFTransformers, request: dict[str, Any]) -> str:
    """The text of an answer."""
    return "".join(piece.get("text", "") for piece in engine.generate(request, lambda: False))


def test_the_time_of_a_change_is_told(demo: Demo) -> None:
    """Loading a layer counts as `lora_s`; an answer with the same layers again spends next to nothing."""
    engine = create()
    engine.load(spec_of(demo.model), lambda *_: None)
    ends = [
        list(engine.generate(ask(loras=demo.loras("json")), lambda: False))[-1]["ended"] for _ in range(2)
    ]
    assert ends[0]["lora_s"] > 10 * ends[1]["lora_s"] > 0


def test_without_layers_every_bit_is_as_before(demo: Demo, model: Any, layers: Layers) -> None:
    """After any layers, none at all is the base model, bit for bit."""
    before = scores(model)
    for loras in (demo.loras("json"), demo.loras(json=0.5, prose=0.5), demo.loras("python")):
        layers.use(loras)
        assert not torch.equal(scores(model), before)
        layers.use([])
        assert torch.equal(scores(model), before)


def test_what_ran_before_leaves_no_trace(demo: Demo, model: Any, layers: Layers) -> None:
    """The scores with some layers are the same bits, whichever layers and weights came between."""
    layers.use(demo.loras(json=0.5, prose=0.5))
    before = scores(model)
    for loras in (demo.loras(prose=2.0), demo.loras(python=0.3, json=-1.0), []):
        layers.use(loras)
    layers.use(demo.loras(json=0.5, prose=0.5))
    assert torch.equal(scores(model), before)


def test_a_weight_of_nothing_is_no_layer(demo: Demo, model: Any, layers: Layers) -> None:
    """Weight 0.0 is the base model, bit for bit."""
    before = scores(model)
    layers.use(demo.loras(json=0.0))
    assert torch.equal(scores(model), before)


def test_a_layer_named_twice_counts_twice(demo: Demo, model: Any, layers: Layers) -> None:
    """Two weights of one layer add up."""
    layers.use(demo.loras(json=0.75))
    once = scores(model)
    layers.use(demo.loras(json=0.5) + demo.loras(json=0.25))
    assert torch.equal(scores(model), once)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_layers_of_other_architectures(tmp_path: Path, kind: str) -> None:
    """Conv1D of GPT-2, tied weights and layers on embeddings work as PEFT has them."""
    targets = {"gpt2": ["c_attn", "wte"], "qwen2": ["q_proj", "down_proj"]}[kind]
    path = write_tiny(kind, tmp_path / kind)
    config = peft.LoraConfig(
        r=4,
        target_modules=targets,
        task_type="CAUSAL_LM",
        fan_in_fan_out=kind == "gpt2",
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(base(path), config).eval()
    theirs.save_pretrained(tmp_path / "layer", save_embedding_layers=False)
    mine = base(path)
    before = scores(mine)
    layers = Layers(mine, "cpu", 2)
    layers.use(one(tmp_path / "layer"))
    assert torch.equal(scores(mine), scores(theirs))
    layers.use([])
    assert torch.equal(scores(mine), before)


# --- how many stay ----------------------------------------------------------------------------------


def names(layers: Layers) -> list[str]:
    """Of the layers that are loaded, longest unused first."""
    return [Path(path).parent.name.removeprefix("lora-") for path in layers.loaded]


def test_the_longest_unused_leaves(demo: Demo, model: Any, layers: Layers) -> None:
    """Above the limit, the layer that was used longest ago leaves; what stays works as before."""
    seen = {}
    for name in ("json", "prose"):
        layers.use(demo.loras(name))
        seen[name] = scores(model)
    layers.use(demo.loras("json"))
    layers.use(demo.loras("python"))
    assert names(layers) == ["json", "python"]
    layers.use(demo.loras("json"))
    assert torch.equal(scores(model), seen["json"])
    layers.use(demo.loras("prose"))
    assert names(layers) == ["json", "prose"]
    assert torch.equal(scores(model), seen["prose"])


def test_one_answer_may_have_more_than_stay(demo: Demo, model: Any, layers: Layers) -> None:
    """The limit is of what stays, not of what an answer may be made with."""
    layers.use(demo.loras("json", "prose", "python"))
    assert sorted(names(layers)) == ["json", "prose", "python"]
    layers.use(demo.loras("python"))
    layers.use([])
    assert torch.equal(scores(model), scores(base(demo.model)))


def test_a_single_place_changes_hands(demo: Demo, model: Any) -> None:
    """With a limit of one, each new layer takes the place of the last."""
    layers = Layers(model, "cpu", 1)
    for name in ("json", "prose", "json"):
        layers.use(demo.loras(name))
        assert names(layers) == [name]
        assert torch.equal(
            scores(model), scores(peft.PeftModel.from_pretrained(base(demo.model), demo.layers[name]))
        )


def test_the_same_layers_again_change_nothing(demo: Demo, layers: Layers) -> None:
    """Only another choice, another weight or another order is work."""
    assert layers.use(demo.loras(json=1.0, prose=0.5))
    assert not layers.use(demo.loras(json=1.0, prose=0.5))
    assert layers.use(demo.loras(json=1.0, prose=0.6))
    assert layers.use([])
    assert not layers.use([])


def test_a_layer_that_was_trained_on_is_read_again(strange: Path, model: Any, layers: Layers) -> None:
    """When its file changes, the next answer has the new one."""
    layers.use(one(strange))
    before = scores(model)
    tensors = load_file(strange / "adapter_model.safetensors")
    save_file({key: each * 2 for key, each in tensors.items()}, strange / "new", metadata={"format": "pt"})
    (strange / "new").replace(strange / "adapter_model.safetensors")
    layers.use(one(strange))
    assert not torch.equal(scores(model), before)


# --- refusals ---------------------------------------------------------------------------------------


@pytest.fixture
def unchanged(demo: Demo, model: Any, layers: Layers) -> Iterator[None]:
    """Whatever the test does, the model with a layer and without is as before, and that layer is still loaded."""
    plain = scores(model)
    layers.use(demo.loras("prose"))
    before = scores(model)
    yield
    assert torch.equal(scores(model), before)
    assert names(layers) == ["prose"]
    layers.use([])
    assert torch.equal(scores(model), plain)


@pytest.mark.parametrize(
    ("changes", "said_of_it"),
    [
        ({"peft_type": "IA3"}, "'IA3' adapter"),
        ({"use_dora": True}, "uses use_dora"),
        ({"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
        ({"bias": "all"}, "replaces biases"),
        ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changes the base model"),
        ({"target_modules": None}, "names no target_modules"),
        ({"target_modules": ["q_proj"]}, "which its target_modules do not name"),
        ({"target_modules": r"model\.layers\.\d+\.mlp\..*"}, "which its target_modules do not name"),
        ({"r": 8}, "has rank 4"),
        ({"r": 0}, "no whole number above 0"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_configuration_that_does_not_fit_is_refused(
    strange: Path, layers: Layers, changes: dict[str, object], said_of_it: str
) -> None:
    """A layer that cannot be added up, or whose configuration and tensors differ, is refused by its name."""
    edit_json(strange / "adapter_config.json", **changes)
    with pytest.raises(ValueError, match=f"^strange.*{said_of_it}"):
        layers.use(one(strange))


@pytest.mark.usefixtures("unchanged")
def test_a_layer_of_another_base_model_is_refused(strange: Path, layers: Layers, tmp_path: Path) -> None:
    """Shapes and names of modules tell which base model a layer belongs to."""
    tensors = load_file(strange / "adapter_model.safetensors")
    key = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    for changed in (
        tensors | {key: torch.zeros(7, 4)},
        {key.replace("layers.1", "layers.9"): each for key, each in tensors.items()},
    ):
        save_file(changed, strange / "adapter_model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ValueError, match=r"^strange belongs to another base model"):
            layers.use(one(strange))


@pytest.mark.usefixtures("unchanged")
def test_a_damaged_layer_is_refused(demo: Demo, strange: Path, layers: Layers, tmp_path: Path) -> None:
    """A file that is cut short, half a layer, no tensors and no file at all are refused."""
    file = strange / "adapter_model.safetensors"
    tensors = load_file(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="of strange is damaged"):
        layers.use(one(strange))
    save_file({key: each for key, each in tensors.items() if "lora_A" in key}, file)
    with pytest.raises(ValueError, match="strange has one half alone"):
        layers.use(one(strange))
    save_file({}, file)
    with pytest.raises(ValueError, match="strange has no tensors"):
        layers.use(one(strange))
    save_file({"base_model.model.lm_head.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(ValueError, match="strange has a tensor 'base_model"):
        layers.use(one(strange))
    (strange / "adapter_config.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match="of strange cannot be read"):
        layers.use(one(strange))
    file.unlink()
    with pytest.raises(ValueError, match=r"strange has no adapter_model\.safetensors"):
        layers.use(one(strange))
    with pytest.raises(ValueError, match=r"strange has no adapter_model\.safetensors"):
        layers.use(demo.loras("json") + one(strange))


def spoil(strange: Path) -> None:
    """Take out a module that the target_modules name, which shows only while the layer is loaded."""
    tensors = load_file(strange / "adapter_model.safetensors")
    fewer = {key: each for key, each in tensors.items() if "layers.3.mlp.down_proj" not in key}
    save_file(fewer, strange / "adapter_model.safetensors", metadata={"format": "pt"})


@pytest.mark.usefixtures("unchanged")
def test_what_shows_only_while_loading_is_taken_back(demo: Demo, strange: Path, layers: Layers) -> None:
    """A layer that fails late, alone or after another that was loaded, leaves everything as it was."""
    spoil(strange)
    for loras in (one(strange), demo.loras("json") + one(strange)):
        with pytest.raises(ValueError, match="strange and its target_modules differ"):
            layers.use(loras)


def test_the_first_layer_leaves_the_bare_model(strange: Path, model: Any, layers: Layers) -> None:
    """Where there was no layer before, there is none after: the very modules are back."""
    spoil(strange)
    before, structure = scores(model), [id(module) for module in model.modules()]
    with pytest.raises(ValueError, match="strange and its target_modules differ"):
        layers.use(one(strange))
    assert [id(module) for module in model.modules()] == structure
    assert not hasattr(model, "peft_config")
    assert torch.equal(scores(model), before)


@pytest.mark.usefixtures("unchanged")
def test_no_room_for_a_layer_is_taken_back(
    demo: Demo, layers: Layers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Want of memory in the middle of a change passes as such, and everything is as it was."""
    real, calls = peft.peft_model.set_peft_model_state_dict, []

    def no_room(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        return real(*args, **options)

    monkeypatch.setattr("peft.peft_model.set_peft_model_state_dict", no_room)
    with pytest.raises(torch.OutOfMemoryError):
        layers.use(demo.loras("json", "python"))


def test_no_way_back_is_told(demo: Demo, model: Any, layers: Layers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the layers from before cannot be read again, the base model is left, and the error says so."""
    before = scores(model)
    layers.use(demo.loras("prose"))

    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("peft.peft_model.set_peft_model_state_dict", no_room)
        with pytest.raises(torch.OutOfMemoryError) as caught:
            layers.use(demo.loras("json"))
    assert "could not be read again" in caught.value.__notes__[0]
    assert layers.loaded == []
    assert torch.equal(scores(model), before)
    assert layers.use(demo.loras("json"))
