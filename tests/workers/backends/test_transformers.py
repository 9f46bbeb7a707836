"""The backend `transformers`: real models in real worker processes, several at once, and what it says before that."""

from __future__ import annotations

import asyncio
import contextlib
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from tests.workers.tinymodels import KINDS, Demo, edit_json, install_demo, write_tiny
from xprim_nb.errors import (
    ConfigError,
    GenerationFailedError,
    LoadFailedError,
    MissingExtraError,
    NotInstalledError,
    UnsupportedModelError,
)
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.testing.models import StaticLibrary
from xprim_nb.workers.backends.transformers import TransformersBackend, create
from xprim_nb.workers.contract import BackendContext, Runner
from xprim_nb.workers.values import (
    Environment,
    GenerateRequest,
    LoadOptions,
    LoraChoice,
    Message,
    Sampling,
)

pytestmark = pytest.mark.timeout(180)  # workers import torch, three of them at once inside the first test

MODEL = "demo/tiny-llama v2"
_CONTEXT = 512


def over(library: StaticLibrary) -> TransformersBackend:
    """The backend over that library."""
    return create(BackendContext(library=library))


def options(**settings: object) -> LoadOptions:
    """How models are loaded here: one thread each, because there are several."""
    return LoadOptions(context_tokens=_CONTEXT, settings={"threads": 1, **settings})


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo model and its layers."""
    return install_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def library(demo: Demo) -> StaticLibrary:
    """What is installed there, and any directory by its path."""
    return StaticLibrary(demo.data_dir)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, demo: Demo) -> dict[str, Path]:
    """The demo model, and two tiny ones of other architectures, of which GPT-2 has no chat template."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny = {kind: write_tiny(kind, folder / kind) for kind in ("qwen2", "gpt2")}
    edit_json(tiny["gpt2"] / "tokenizer_config.json", chat_template=None)
    return {"demo": demo.model, **tiny}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runners(library: StaticLibrary, paths: dict[str, Path]) -> AsyncIterator[dict[str, Runner]]:
    """Each of them in a worker of its own, loaded at the same time."""
    backend = over(library)
    names = {name: MODEL if name == "demo" else str(path) for name, path in paths.items()}
    async with contextlib.AsyncExitStack() as stack:
        loaded = await asyncio.gather(
            *(backend.load(name, options(), lambda *_: None) for name in names.values())
        )
        for runner in loaded:
            stack.push_async_callback(runner.close)
        assert all(library.holds[name] == 1 for name in names.values())
        yield dict(zip(names, loaded, strict=True))
    assert not any(library.holds[name] for name in names.values())


def asked(prompt: str, tokens: int = 24, **more: Any) -> GenerateRequest:
    """A greedy request."""
    return GenerateRequest(prompt, sampling=Sampling(tokens), **more)


def expected(path: Path, prompt: str, tokens: int) -> str:
    """What transformers says in this process."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs.input_ids.shape[1] :]
    return str(tokenizer.decode(ids, skip_special_tokens=True))


# --- loaded models ----------------------------------------------------------------------------------


class TestLoaded:
    """Three real models in three real processes."""

    pytestmark = pytest.mark.asyncio(loop_scope="module")

    async def test_on_the_cpu_nothing_parks(self, runners: dict[str, Runner]) -> None:
        """There is no accelerator to leave, and the worker serves on."""
        with pytest.raises(UnsupportedModelError):
            await runners["gpt2"].park()
        assert (await read(runners["gpt2"].generate(asked("x", 3)))).ended.tokens == 3

    async def test_three_models_answer_at_the_same_time(
        self, runners: dict[str, Runner], paths: dict[str, Path]
    ) -> None:
        """Each in its own process, each the text of transformers itself, and none waits for another's end."""
        assert len({runner.pid for runner in runners.values()}) == 3
        answers = [runner.generate(asked("def f(", 80)) for runner in runners.values()]
        begun = await asyncio.gather(*(anext(answer) for answer in answers))
        # None has ended: not half of an answer is made for somebody who does not read it.
        texts = ["".join([getattr(item, "text", "") async for item in answer]) for answer in answers]
        whole = [getattr(first, "text", "") + text for first, text in zip(begun, texts, strict=True)]
        assert whole == [expected(path, "def f(", 80) for path in paths.values()]

    async def test_layers_come_and_go(self, runners: dict[str, Runner], demo: Demo) -> None:
        """A layer changes the next answer of a running worker, two are combined, and none is as before."""
        runner = runners["demo"]
        plain = (await read(runner.generate(asked("The ")))).text
        choices = tuple(
            LoraChoice(f"demo/lora-{name} v1", demo.layers[name], 0.5) for name in ("json", "prose")
        )
        texts = [
            (await read(runner.generate(asked("The ", loras=loras)))).text
            for loras in (choices[:1], choices[1:], choices)
        ]
        assert len({plain, *texts}) >= 3
        assert (await read(runner.generate(asked("The ")))).text == plain

    async def test_a_refused_request_leaves_the_model_serving(
        self, runners: dict[str, Runner], tmp_path: Path
    ) -> None:
        """What the engine refuses is a sentence that names the model and why; the next request is answered."""
        runner = runners["gpt2"]
        refused = {
            "no chat template": GenerateRequest(messages=(Message("user", "Hello"),)),
            "context of 256": asked("x" * 300),
            "my/layer has no adapter_model": asked("x", loras=(LoraChoice("my/layer", tmp_path),)),
        }
        for why, request in refused.items():
            with pytest.raises(GenerationFailedError, match=why) as caught:
                await read(runner.generate(request))
            assert "gpt2" in caught.value.message
        assert (await read(runner.generate(asked("x", 3)))).ended.tokens == 3

    async def test_leaving_early_leaves_the_model_serving(self, runners: dict[str, Runner]) -> None:
        """An answer whose reader goes away ends, and its worker is the same."""
        runner = runners["qwen2"]
        pid, whole = runner.pid, (await read(runner.generate(asked("def ")))).text
        answering = runner.generate(asked("def ", 180))
        await anext(answering)
        await answering.aclose()
        assert (await read(runner.generate(asked("def ")))).text == whole
        assert runner.pid == pid

    async def test_it_accounts_for_itself(self, runners: dict[str, Runner]) -> None:
        """On the CPU its resident set is the measure; steps are the tokens that it made."""
        runner = runners["qwen2"]
        before = (await runner.stats()).steps
        ended = (await read(runner.generate(asked("def ", 9)))).ended
        stats = await runner.stats()
        assert stats.steps == before + 9
        assert stats.measured.how == "rss"
        assert stats.measured.host_bytes == stats.measured.device_bytes > 50 << 20
        assert (ended.prompt_tokens, ended.tokens, ended.reason) == (4, 9, "length")
        assert min(ended.prefill_s, ended.decode_s) > 0


# --- loading ----------------------------------------------------------------------------------------


async def test_an_interpreter_without_torch_is_named(library: StaticLibrary, tmp_path: Path) -> None:
    """The error names the extra and the interpreter, and says what to install there."""
    venv.create(tmp_path / "bare", with_pip=False)
    python = next(path for path in (tmp_path / "bare").glob("*/python*") if path.stem == "python")
    where = LoadOptions(environment=Environment(python=python))
    with pytest.raises(MissingExtraError) as caught:
        await over(library).load(MODEL, where, lambda *_: None)
    assert caught.value.subject == "transformers"
    assert f"{python} has no package 'torch'" in caught.value.message
    assert "The extra 'transformers'" in caught.value.message
    assert caught.value.hint == f"{python} -m pip install torch transformers peft accelerate"


async def test_what_transformers_refuses_is_a_sentence(library: StaticLibrary, tmp_path: Path) -> None:
    """A model that brings its own code is a LoadFailedError that says so."""
    path = write_tiny("llama", tmp_path / "own")
    edit_json(path / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"})
    with pytest.raises(LoadFailedError, match="Python code of its own"):
        await over(library).load(str(path), options(), lambda *_: None)
    assert not library.holds[str(path)], "it is let go"


@pytest.mark.parametrize(
    ("settings", "named"), [({"quantisation": "4bit"}, "quantisation"), ({"dtype": "int4"}, "dtype")]
)
async def test_settings_are_refused_by_name(
    library: StaticLibrary, settings: dict[str, object], named: str
) -> None:
    """Before any process is started, and for an estimate too."""
    with pytest.raises(ConfigError, match=named) as caught:
        await over(library).load(MODEL, options(**settings), lambda *_: None)
    assert caught.value.subject == named
    with pytest.raises(ConfigError, match=named):
        await over(library).facts(MODEL, options(**settings))


async def test_what_it_cannot_run_is_told_before_a_process(
    tmp_path: Path, demo: Demo, library: StaticLibrary
) -> None:
    """GGUF, a LoRA layer, and a directory that says nothing of an architecture."""
    bare = write_tiny("llama", tmp_path / "bare")
    edit_json(bare / "config.json", model_type=None)
    backend = over(library)
    for name, why in ((str(demo.layers["json"]), "LoRA layer"), (str(bare), "no model_type")):
        with pytest.raises(UnsupportedModelError, match=why):
            await backend.facts(name, options())
        with pytest.raises(UnsupportedModelError, match=why):
            await backend.load(name, options(), lambda *_: None)
    with pytest.raises(NotInstalledError):
        await backend.load("a/nothing v1", options(), lambda *_: None)


# --- facts ------------------------------------------------------------------------------------------


def held_bytes(model: Any) -> int:
    """What the parameters of a model take, shared ones once."""
    return sum(each.numel() * each.element_size() for each in model.parameters())


@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
async def test_weight_bytes_are_exact(tmp_path: Path, library: StaticLibrary, kind: str, stored: str) -> None:
    """Whatever is stored and whatever is asked for, the bytes are those that torch will hold."""
    path = write_tiny(kind, tmp_path, dtype=stored)
    backend, name = over(library), str(path)
    for wanted, held in (("auto", {"float16": "float32"}.get(stored, stored)), ("float16", "float16")):
        facts = await backend.facts(name, options(dtype=wanted))
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, held))
        assert facts.weight_bytes == held_bytes(model)
        assert facts.cache_item_bytes == getattr(torch, held).itemsize
    assert (facts.layers, facts.vocabulary, facts.max_context_tokens) == (2, 259, 256)


async def test_what_is_not_loaded_is_not_counted(tmp_path: Path, library: StaticLibrary) -> None:
    """A head that is tied, and tables that older files have, take nothing."""
    from safetensors.torch import load_file, save_file

    path = write_tiny("qwen2", tmp_path)
    backend, name = over(library), str(path)
    before = (await backend.facts(name, options())).weight_bytes
    tensors = load_file(path / "model.safetensors") | {
        "lm_head.weight": torch.zeros(259, 32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4),
        "h.0.attn.bias": torch.zeros(1, 1, 8, 8),
        "h.0.attn.masked_bias": torch.zeros(()),
    }
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    assert (await backend.facts(name, options())).weight_bytes == before


async def test_quantised_weights_are_counted_as_bitsandbytes_holds_them(
    tmp_path: Path, library: StaticLibrary
) -> None:
    """Matrices shrink, with their scales; embeddings, head and norms stay in the dtype."""
    backend, name = over(library), str(write_tiny("llama", tmp_path))
    whole = (await backend.facts(name, options(dtype="float16"))).weight_bytes
    shapes = [(32, 32), (16, 32), (16, 32), (32, 32), (64, 32), (64, 32), (32, 64)] * 2
    numbers = sum(a * b for a, b in shapes)
    for quantization, matrices in (
        ("8bit", sum(a * b + 4 * a for a, b in shapes)),
        ("4bit", sum(a * b // 2 + 4 * (a * b // 64) + 64 for a, b in shapes)),
    ):
        facts = await backend.facts(name, options(dtype="float16", quantization=quantization))
        assert facts.weight_bytes == whole - 2 * numbers + matrices


# --- the suite that every backend is held to ---------------------------------------------------------


@pytest.mark.asyncio(loop_scope="module")
class TestContract(BackendContract):
    """What every backend promises. Tests that end a worker of their own are slow, by the fixture that starts it."""

    @pytest_asyncio.fixture(loop_scope="module", params=[pytest.param("own worker", marks=pytest.mark.slow)])
    async def fresh(  # type: ignore[override]  # it has what the suite's has
        self, backend: TransformersBackend, available: str
    ) -> AsyncIterator[Runner]:
        """A loaded model that the test may close."""
        runner = await backend.load(available, options(), lambda *_: None)
        yield runner
        await runner.close()

    @pytest.fixture
    def runner(self, runners: dict[str, Runner]) -> Runner:
        """The demo model, which the tests leave loaded."""
        return runners["demo"]

    @pytest.fixture
    def backend(self, library: StaticLibrary) -> TransformersBackend:
        """The backend over the demo model."""
        return over(library)

    @pytest.fixture
    def available(self) -> str:
        """The demo model."""
        return MODEL

    @pytest.fixture
    def missing(self) -> str:
        """A version that nobody published: the registry names a model that it has not without the version."""
        return "demo/tiny-llama v99"

    @pytest.fixture
    def installable(self) -> str:
        """Its first version."""
        return "demo/tiny-llama v1"

    async def test_it_parks_or_says_that_it_cannot(  # type: ignore[override]  # of what is on a CPU
        self, runner: Runner, prompt: str
    ) -> None:
        """Models on CUDA park; on the CPU there is nothing to leave, which is said."""
        with pytest.raises(UnsupportedModelError):
            await runner.park()
        assert (await read(runner.generate(asked(prompt, 4)))).pieces
