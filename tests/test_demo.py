"""The embedded registry holds real models that real libraries load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from xprim_nb import Config, Manager
from xprim_nb.demo import registry_path

ADAPTERS = ("json", "prose", "python")


@pytest.fixture
def demo(tmp_path: Path) -> Config:
    """The configuration of somebody who configured nothing but a place."""
    return Config(data_dir=tmp_path / "models")


async def test_it_is_the_registry_when_none_is_configured(demo: Config) -> None:
    """Without a registry URL the embedded one answers, offline too, and says so."""
    async with Manager(demo) as manager:
        assert manager.uses_demo_registry
        listed = [str(model.ref) for model in await manager.list_remote()]
    assert listed == [
        *(f"demo/lora-{name} {version}" for name in ADAPTERS for version in ("latest", "v1")),
        *(f"demo/tiny-llama {version}" for version in ("latest", "v1", "v2")),
    ]


async def test_latest_is_version_2(demo: Config) -> None:
    """`latest` is an alias, and an alias installs what it stands for."""
    async with Manager(demo) as manager:
        assert (await manager.get_remote("demo/tiny-llama latest")).alias_of == "v2"


async def test_version_2_costs_less_than_a_third(demo: Config) -> None:
    """Most tensors of the two versions are the same bytes, and only the others are fetched."""
    async with Manager(demo) as manager:
        await manager.pull("demo/tiny-llama v1")
        receipt = (await manager.pull("demo/tiny-llama v2")).receipt
    assert receipt.bytes_network < (receipt.bytes_network + receipt.bytes_local) / 3
    assert set(receipt.local_models) == {"demo/tiny-llama v1"}


def test_the_whole_registry_fits_into_a_wheel() -> None:
    """It stays below 12 MB."""
    assert sum(path.stat().st_size for path in registry_path().rglob("*") if path.is_file()) <= 12 << 20


async def test_each_card_names_the_licence_of_each_text(demo: Config) -> None:
    """The model cards say what the weights were trained on, and under which licence that is."""
    async with Manager(demo) as manager:
        for ref in (
            "demo/tiny-llama v1",
            "demo/tiny-llama v2",
            *(f"demo/lora-{name} v1" for name in ADAPTERS),
        ):
            card = ((await manager.pull(ref)).path / "README.md").read_text("utf-8")
            front_matter = card.split("---")[1]
            assert "license: mit" in front_matter
            assert front_matter.count("license:") >= 2


@pytest.mark.timeout(300)  # to load the library takes seconds, and on a loaded machine many
@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_transformers_continues_a_text(demo: Config, version: str) -> None:
    """The model loads where everybody loads models, and knows that Python functions have bodies."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    async with Manager(demo) as manager:
        path = (await manager.pull(f"demo/tiny-llama {version}")).path
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    assert 1_000_000 <= model.num_parameters() <= 4_000_000
    prompt = tokenizer("def __init__(self", return_tensors="pt")
    said = tokenizer.decode(
        model.generate(**prompt, max_new_tokens=60, do_sample=False)[0], skip_special_tokens=True
    )
    assert said.startswith("def __init__(self")
    assert "self." in said.removeprefix("def __init__(self")


@pytest.mark.parametrize("name", ADAPTERS)
async def test_each_adapter_fits_its_base(demo: Config, name: str) -> None:
    """An adapter is in PEFT's format, and each of its pairs has the shape of a matrix of the base model."""
    async with Manager(demo) as manager:
        adapter = (await manager.pull(f"demo/lora-{name} v1")).path
        base = (await manager.pull("demo/tiny-llama v2")).path
        metadata = (await manager.get_remote(f"demo/lora-{name} v1")).metadata
    assert metadata["kind"] == "lora"
    assert metadata["base_model"] == "demo/tiny-llama v2"
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    assert config["peft_type"] == "LORA"
    with (
        safe_open(adapter / "adapter_model.safetensors", "np") as layers,
        safe_open(base / "model.safetensors", "np") as weights,
    ):
        down = [key for key in layers.keys() if key.endswith("lora_A.weight")]  # noqa: SIM118  # not iterable itself
        assert down
        for key in down:
            matrix = weights.get_slice(
                key.removeprefix("base_model.model.").replace("lora_A.", "")
            ).get_shape()
            up = layers.get_slice(key.replace("lora_A", "lora_B")).get_shape()
            assert layers.get_slice(key).get_shape() == [config["r"], matrix[1]]
            assert up == [matrix[0], config["r"]]
