"""The backend `numpy`: the demo models in real worker processes, and what it says of a model before there is one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.workers.engines.llamas import LORAS, installed
from xprim_nb.errors import ConfigError, GenerationFailedError, LoadFailedError, UnsupportedModelError
from xprim_nb.testing.backend_contract import BackendContract, read
from xprim_nb.testing.models import StaticLibrary
from xprim_nb.workers.backends.numpy import NumpyBackend, create, supports
from xprim_nb.workers.contract import Backend, BackendContext
from xprim_nb.workers.values import (
    Environment,
    GenerateRequest,
    LoadOptions,
    LoraChoice,
    Message,
    ModelFacts,
    Sampling,
)

_MODEL = "demo/tiny-llama v2"
# Two tables; four blocks of attention, feed-forward layer and two norms; the last norm.
_NUMBERS = 2 * 259 * 192 + 4 * (2 * 192 * 192 + 2 * 64 * 192 + 3 * 512 * 192 + 2 * 192) + 192


@pytest.fixture(scope="module")
def root() -> Path:
    """A data directory with the second version of the demo model alone."""
    return installed(_MODEL).parents[2]


@pytest.fixture
def library(root: Path) -> StaticLibrary:
    """The models in it."""
    return StaticLibrary(root)


@pytest.fixture
def numpy(library: StaticLibrary) -> NumpyBackend:
    """The backend over them."""
    return create(BackendContext(library=library))


@pytest.fixture
def options() -> LoadOptions:
    """One thread: several workers run here."""
    return LoadOptions(context_tokens=512, settings={"threads": 1})


class TestNumpy(BackendContract):
    """It keeps what every backend promises."""

    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[Backend]:
        """Over a directory of its own, in which the second version is installed."""
        library = StaticLibrary(tmp_path)
        await library.install(_MODEL, lambda _: None)
        backend = create(BackendContext(library=library))
        yield backend
        await backend.aclose()

    @pytest.fixture
    def available(self) -> str:
        """The demo model."""
        return _MODEL

    @pytest.fixture
    def missing(self) -> str:
        """A version that it never had."""
        return "demo/tiny-llama v9"

    @pytest.fixture
    def installable(self) -> str:
        """Its first version."""
        return "demo/tiny-llama v1"

    @pytest.fixture
    def options(self) -> LoadOptions:
        """One thread."""
        return LoadOptions(context_tokens=512, settings={"threads": 1})


async def test_facts_are_what_the_worker_will_hold(numpy: NumpyBackend, options: LoadOptions) -> None:
    """Weights stored in two bytes take four; the other numbers are those of the configuration."""
    facts = await numpy.facts(_MODEL, options)
    assert facts == ModelFacts(
        name=_MODEL,
        backend="numpy",
        fingerprint="e285e19d21270c479818197866d58f4c2bdf82fab3f21f1851e689d1d27e83be",
        weight_bytes=4 * _NUMBERS,
        layers=4,
        key_value_heads=2,
        head_dim=32,
        hidden_size=192,
        intermediate_size=512,
        vocabulary=259,
        max_context_tokens=1024,
        cache_item_bytes=4,
    )


async def test_a_worker_holds_what_the_facts_say(numpy: NumpyBackend) -> None:
    """Keys and values of a longer context show in the resident set as soon as it is loaded, at the facts' price."""
    sizes = {}
    for context_tokens in (64, 1024):
        runner = await numpy.load(_MODEL, LoadOptions(context_tokens=context_tokens), lambda *_: None)
        sizes[context_tokens] = runner.measured.host_bytes
        await runner.close()
    facts = await numpy.facts(_MODEL, LoadOptions())
    token_bytes = 2 * facts.layers * facts.key_value_heads * facts.head_dim * facts.cache_item_bytes
    grown = sizes[1024] - sizes[64]
    assert 0.5 * 960 * token_bytes < grown < 2 * 960 * token_bytes + (2 << 20)


async def test_a_layer_is_used_for_one_answer(numpy: NumpyBackend, options: LoadOptions) -> None:
    """The same worker answers with layers, without, and with others; those it cannot use it refuses by name."""
    runner = await numpy.load(_MODEL, options, lambda *_: None)
    plain = GenerateRequest('{"name": ', sampling=Sampling(24))
    try:
        texts = [(await read(runner.generate(plain))).text]
        for name in LORAS:
            choice = LoraChoice(name, installed_layer(name))
            answered = await read(runner.generate(replace(plain, loras=(choice,))))
            texts.append(answered.text)
            assert answered.ended.lora_s > 0
        with pytest.raises(GenerationFailedError, match="my/layer v1"):
            await read(
                runner.generate(replace(plain, loras=(LoraChoice("my/layer v1", Path(__file__).parent),)))
            )
        assert len(set(texts)) > 2
        assert (await read(runner.generate(plain))).text == texts[0]
    finally:
        await runner.close()


def installed_layer(name: str) -> Path:
    """Where a layer was installed before this event loop ran."""
    return Path.home() / "llamas" / "demo" / name.split("/")[1].removesuffix(" v1") / "v1"


@pytest.fixture(scope="module", autouse=True)
def layers() -> None:
    """The demo layers are installed."""
    for name in LORAS:
        installed(name)


async def test_messages_and_prompts_are_timed(numpy: NumpyBackend, options: LoadOptions) -> None:
    """The end tells the tokens of the prompt, and the seconds of prompt and answer."""
    runner = await numpy.load(_MODEL, options, lambda *_: None)
    try:
        said = GenerateRequest(messages=(Message("user", "abc"),), sampling=Sampling(8))
        ended = (await read(runner.generate(said))).ended
        assert ended.prompt_tokens == len("abc\n\n")
        assert min(ended.prefill_s, ended.decode_s) > 0
    finally:
        await runner.close()


@pytest.mark.parametrize(("settings", "seen"), [({"threads": 2}, "2"), ({}, "1")])
async def test_threads_are_the_workers(
    library: StaticLibrary, numpy: NumpyBackend, settings: dict[str, object], seen: str
) -> None:
    """Their number, one for so small a model, reaches the worker's environment; a variable of one's own wins."""
    where = Environment(variables={"OPENBLAS_NUM_THREADS": "3"})
    chosen = LoadOptions(context_tokens=64, settings=settings, environment=where)
    runner = await numpy.load(_MODEL, chosen, lambda *_: None)
    try:
        assert library.holds == {_MODEL: 1}
        assert runner.pid is not None
        environ = psutil.Process(runner.pid).environ()
        assert (environ["OMP_NUM_THREADS"], environ["OPENBLAS_NUM_THREADS"]) == (seen, "3")
    finally:
        await runner.close()
    await asyncio.sleep(0)
    assert library.holds == {_MODEL: 0}


async def test_a_model_is_let_go_when_loading_fails(
    library: StaticLibrary, numpy: NumpyBackend, tmp_path: Path
) -> None:
    """A model that was held for a worker that never came is held no longer."""
    nowhere = LoadOptions(environment=Environment(python=tmp_path / "python"))
    with pytest.raises(Exception, match="cannot be started"):
        await numpy.load(_MODEL, nowhere, lambda *_: None)
    assert library.holds == {_MODEL: 0}


@pytest.mark.parametrize("threads", [0, -1, True, "2", 1.5, None])
async def test_threads_are_a_whole_number(numpy: NumpyBackend, threads: object) -> None:
    """What is no number of threads is refused, for facts and for loading."""
    wrong = LoadOptions(settings={"threads": threads})
    for refused in (numpy.facts(_MODEL, wrong), numpy.load(_MODEL, wrong, lambda *_: None)):
        with pytest.raises(ConfigError, match="threads") as caught:
            await refused
        assert caught.value.subject == "threads"


async def test_another_device_is_refused(numpy: NumpyBackend) -> None:
    """NumPy has no accelerator, and says which backend has."""
    with pytest.raises(UnsupportedModelError, match="cuda:0") as caught:
        await numpy.load(_MODEL, LoadOptions(device="cuda:0"), lambda *_: None)
    assert "transformers" in caught.value.hint


async def test_another_architecture_is_refused_before_there_is_a_process(
    numpy: NumpyBackend, tmp_path: Path, options: LoadOptions
) -> None:
    """The message names the architecture; so does `supports`, which reads no file."""
    _copy(installed_model(), tmp_path, architectures=["FalconForCausalLM"], model_type="falcon")
    for refused in (numpy.facts(str(tmp_path), options), numpy.load(str(tmp_path), options, lambda *_: None)):
        with pytest.raises(UnsupportedModelError, match="FalconForCausalLM"):
            await refused
    assert "FalconForCausalLM" in supports({"architectures": ["FalconForCausalLM"]})
    assert supports(json.loads((installed_model() / "config.json").read_text())) == ""


async def test_what_the_engine_refuses_is_a_failed_load(
    numpy: NumpyBackend, tmp_path: Path, options: LoadOptions
) -> None:
    """A directory whose tokenizer is missing passes the headers, and is refused by the engine with its reason."""
    _copy(installed_model(), tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(LoadFailedError, match=r"tokenizer\.json"):
        await numpy.load(str(tmp_path), options, lambda *_: None)


def installed_model() -> Path:
    """Where the demo model lies."""
    return Path.home() / "llamas" / "demo" / "tiny-llama" / "v2"


def _copy(source: Path, target: Path, **config: object) -> None:
    for file in source.iterdir():
        if file.is_file():
            os.link(file, target / file.name)
    document = json.loads((source / "config.json").read_text())
    (target / "config.json").unlink()
    (target / "config.json").write_text(json.dumps({**document, **config}))
