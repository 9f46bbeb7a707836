"""One answer of the engine: what comes, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xprim_nb.workers.engines.llama_model import LlamaModel
from xprim_nb.workers.engines.llama_numpy import NumpyLlama, create

from .llamas import BASE, LORAS, answer, installed, load, make_model, their_model

# Torch computes the reference, and the threads of both wait for each other: among others these take ten times as long.
pytestmark = pytest.mark.timeout(180)

_PROMPT = "def open(path: str) -> "
_LONG = (_PROMPT * 20)[:300]


@pytest.fixture(scope="module")
def engine() -> NumpyLlama:
    """The demo model, loaded once: each answer must leave it as it was."""
    return load(installed(BASE))


def _lora(name: str, weight: float = 1.0) -> dict[str, Any]:
    return {"name": name, "path": str(installed(name)), "weight": weight}


def _change(folder: Path, file: str, **values: Any) -> Path:
    """A copy of the demo model with another setting."""
    shutil.copytree(installed(BASE), folder, ignore=shutil.ignore_patterns(".xprim"))
    document = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**document, **values}))
    return folder


# --- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [_PROMPT, "x", _LONG, "Elizabeth was 😀"])
def test_the_greedy_answer_is_that_of_transformers(engine: NumpyLlama, prompt: str) -> None:
    """Prompt and answer, text and number of tokens, are what `generate` of transformers makes."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(installed(BASE))
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        out = their_model(installed(BASE)).generate(**inputs, max_new_tokens=80, do_sample=False)
    new = out[0, inputs.input_ids.shape[1] :].tolist()
    text, ended, pieces = answer(engine, prompt, max_tokens=80)
    assert text == tokenizer.decode(new, skip_special_tokens=True)
    ends = [257] if 257 in new else []
    assert ended["tokens"] == len(new) - len(ends) == sum(piece["tokens"] for piece in pieces)
    assert ended["prompt_tokens"] == inputs.input_ids.shape[1]
    assert ended["reason"] == ("stop" if ends else "length")


def test_an_end_token_ends_the_answer_and_is_no_text(engine: NumpyLlama, tmp_path: Path) -> None:
    """Each of several tokens of `generation_config.json` ends an answer; it is neither text nor counted."""
    text, _, _ = answer(engine, _PROMPT)
    first, later = text[5], text[9]
    several = _change(tmp_path / "a", "generation_config.json", eos_token_id=[257, ord(later), ord(first)])
    assert answer(load(several), _PROMPT)[0] == text[: min(text.index(first), text.index(later))]
    of_config = _change(tmp_path / "b", "config.json", eos_token_id=ord(first))
    (of_config / "generation_config.json").unlink()
    found, ended, _ = answer(load(of_config), _PROMPT)
    assert found == text[: text.index(first)]
    assert (ended["reason"], ended["tokens"]) == ("stop", len(found))


def test_a_stop_text_over_several_tokens_never_comes(engine: NumpyLlama) -> None:
    """Each token is a byte here: no beginning of a stop text is sent before it is sure to be none."""
    text, _, _ = answer(engine, _PROMPT)
    stop = text[10:15]
    found, ended, pieces = answer(engine, _PROMPT, stop=["never", stop])
    assert found == text[: text.index(stop)]
    assert ended["reason"] == "stop"
    assert sum(piece["tokens"] for piece in pieces) == ended["tokens"] == len(found) + len(stop)
    # Without it the same beginning is held back, and comes in the end.
    held, ended, _ = answer(engine, _PROMPT, stop=[text[27:32] + "\0"])
    assert (held, ended["reason"]) == (text, "length")


@pytest.mark.parametrize("most", [1, 2, 31])
def test_max_tokens_ends_an_answer(engine: NumpyLlama, most: int) -> None:
    """An answer has as many tokens as it may, and says why it ended."""
    _, ended, pieces = answer(engine, _PROMPT, max_tokens=most)
    assert (len(pieces), ended["tokens"], ended["reason"]) == (most, most, "length")


def test_a_full_context_ends_an_answer() -> None:
    """Prompt and answer fill the context to its last token, and not one more."""
    engine = load(installed(BASE), context_tokens=40)
    _, ended, _ = answer(engine, _PROMPT, max_tokens=999)
    assert (ended["prompt_tokens"] + ended["tokens"], ended["reason"]) == (40, "length")
    _, ended, _ = answer(engine, "x" * 39, max_tokens=999)
    assert (ended["tokens"], ended["reason"]) == (1, "length")
    with pytest.raises(ValueError, match="40 tokens, which leaves no room"):
        answer(engine, "x" * 40)
    # The last position was used: the same prompt with more room begins with the same answer.
    assert answer(load(installed(BASE), 60), _PROMPT, max_tokens=999)[0].startswith(
        answer(engine, _PROMPT)[0]
    )


def test_the_same_seed_makes_the_same_bytes(engine: NumpyLlama) -> None:
    """Whatever came between, a seed names one answer; other seeds name others."""
    asked: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "top_k": 50}
    texts = [answer(engine, _PROMPT, seed=seed, **asked)[0] for seed in (1, 2, 3, 1, 2, 3)]
    assert texts[:3] == texts[3:]
    assert len(set(texts)) == 3
    assert answer(load(installed(BASE)), _PROMPT, seed=1, **asked)[0] == texts[0]


def test_pieces_hold_whole_characters() -> None:
    """A model that answers with arbitrary bytes never sends half a character, and the pieces are all of the text."""
    engine = load(installed(BASE))
    sent: list[str] = []
    for seed in range(6):
        text, _, pieces = answer(engine, "é東😀" * 5, seed=seed, temperature=3.0, max_tokens=120)
        assert text == "".join(piece["text"] for piece in pieces)
        sent += [piece["text"] for piece in pieces]
    assert any(len(each) > 1 for each in sent) or any(ord(each) > 127 for each in sent if each)


def test_messages_are_answered_as_the_template_lays_them_out(engine: NumpyLlama) -> None:
    """A conversation is the prompt that its template makes of it."""
    said = [{"role": "user", "content": "import os"}, {"role": "assistant", "content": "import re"}]
    found = answer(engine, None, messages=said)
    assert found[0] == answer(engine, "import os\n\nimport re\n\n")[0]


# --- cancelling -------------------------------------------------------------------------------------


def _after(times: int) -> Callable[[], bool]:
    asked = [0]

    def cancelled() -> bool:
        asked[0] += 1
        return asked[0] > times

    return cancelled


@pytest.mark.parametrize("times", [0, 1, 3, 6, 9, 12, 15, 60])
def test_a_cancelled_answer_leaves_the_model_as_it_was(engine: NumpyLlama, times: int) -> None:
    """Before the prompt, amid a block of it, between blocks and between tokens: the next answer is the same."""
    whole = answer(engine, _LONG)[0]
    answer(engine, "something else that is longer than a block of the prompt " * 3)
    text, ended, _ = answer(engine, _LONG, _after(times))
    assert ended["reason"] == "cancelled"
    assert whole.startswith(text)
    assert answer(engine, _LONG)[0] == whole


def test_an_answer_that_nobody_reads_on_leaves_the_model_as_it_was(engine: NumpyLlama) -> None:
    """A reader that goes away after a piece changes nothing for the next."""
    whole = answer(engine, _LONG)[0]
    going = engine.generate(
        {"prompt": _LONG[:-9] + "other way", "max_tokens": 50, "temperature": 0.0}, lambda: False
    )
    next(going)
    going.close()  # type: ignore[attr-defined]  # it is a generator
    assert answer(engine, _LONG)[0] == whole


# --- what is kept of a prompt -----------------------------------------------------------------------


def _bits(engine: NumpyLlama, prompt: str, **request: Any) -> list[bytes]:
    """The logits of an answer, bit by bit."""
    assert engine._loaded is not None
    model, found = engine._loaded.model, []
    plain = model.logits

    def logits(*args: Any) -> Any:
        found.append(plain(*args))
        return found[-1]

    model.logits = logits  # type: ignore[method-assign, assignment]  # looks on
    try:
        answer(engine, prompt, max_tokens=8, **request)
    finally:
        model.logits = plain  # type: ignore[method-assign]  # as it was
    return [each.tobytes() for each in found]


def _forwarded(engine: NumpyLlama, prompt: str, **request: Any) -> int:
    """Tokens of the prompt that went through the model."""
    assert engine._loaded is not None
    model, counts = engine._loaded.model, []
    plain = model.forward

    def forward(ids: Any, *args: Any) -> Any:
        counts.append(len(ids))
        return plain(ids, *args)

    model.forward = forward  # type: ignore[method-assign, assignment]  # looks on
    try:
        answer(engine, prompt, max_tokens=1, **request)
    finally:
        model.forward = plain  # type: ignore[method-assign]  # as it was
    return sum(counts)


@pytest.mark.parametrize("same", [0, 1, 63, 64, 65, 127, 128, 200, 299, 300])
def test_a_common_beginning_changes_no_bit(same: int) -> None:
    """Logits after a prompt that began alike equal those of a fresh model bit for bit, and whole blocks are spared."""
    engine = load(installed(BASE))
    answer(engine, _LONG[:same] + "#" * (300 - same))
    other = _LONG[:same] + "$" * 40
    expected = _bits(load(installed(BASE)), other)
    assert _bits(engine, other) == expected
    assert _bits(engine, other) == expected
    spared = len(other) - _forwarded(engine, other)
    assert spared == (len(other) - 1) // 64 * 64


def test_a_prompt_under_other_layers_is_computed_anew() -> None:
    """Keys and values that other LoRA layers made are never used, not even with the same layers in another order."""
    engine = load(installed(BASE))
    one, other = _lora(LORAS[0], 0.8), _lora(LORAS[1])
    for loras in ([], [one], [one, other], [other, one], [{**one, "weight": 0.3}], []):
        fresh = _bits(load(installed(BASE)), _LONG, loras=loras)
        assert _bits(engine, _LONG, loras=loras) == fresh
        assert _forwarded(engine, _LONG, loras=loras) == 300 - 256
    assert _forwarded(engine, _LONG, loras=[one]) == 300


def test_without_layers_no_bit_is_other_than_before() -> None:
    """After any layers, and after one that was refused, the model is what it was."""
    engine = load(installed(BASE))
    before = _bits(engine, _PROMPT)
    with_layers = _bits(engine, _PROMPT, loras=[_lora(name) for name in LORAS])
    assert with_layers != before
    with pytest.raises(ValueError, match="my/layer"):
        answer(
            engine,
            _PROMPT,
            loras=[_lora(LORAS[0]), {"name": "my/layer", "path": str(installed(BASE)), "weight": 1}],
        )
    assert _bits(engine, _PROMPT) == before
    assert _bits(engine, _PROMPT, loras=[_lora(LORAS[0], 0.0)]) == before


def test_layers_are_timed(engine: NumpyLlama) -> None:
    """Reading a layer is told apart from prompt and answer, and is not paid for again."""
    engine = load(installed(BASE))
    _, first, _ = answer(engine, _PROMPT, loras=[_lora(LORAS[2])])
    _, again, _ = answer(engine, _PROMPT, loras=[_lora(LORAS[2])])
    assert first["lora_s"] > again["lora_s"] > 0
    assert min(first["prefill_s"], first["decode_s"]) > 0


# --- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"prompt": None}, "a prompt or messages"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "not both"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": None}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"stop": [""]}, "stop"),
        ({"loras": [{"name": "my/layer", "path": "/nowhere", "weight": 1.0}]}, "my/layer"),
    ],
)
def test_a_request_that_cannot_be_is_refused(engine: NumpyLlama, request_: dict[str, Any], told: str) -> None:
    """The reason names what is wrong, and the next answer is the same as before."""
    whole = answer(engine, _PROMPT)[0]
    with pytest.raises(ValueError, match=told):
        answer(engine, **{"prompt": _PROMPT, **request_})
    assert answer(engine, _PROMPT)[0] == whole


def test_a_token_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    """A tokenizer of another model is told before it reads outside the table."""
    engine = load(make_model(tmp_path, vocab_size=258, pad_token_id=None))
    with pytest.raises(ValueError, match="token 258, and the model has 258"):
        answer(engine, "a<|pad|>")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["PhiForCausalLM"]}, "PhiForCausalLM"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"num_hidden_layers": 5}, "lack the tensor"),
        ({"eos_token_id": ["x"]}, None),
    ],
)
def test_a_model_that_is_not_built_is_refused(
    change: dict[str, Any], told: str | None, tmp_path: Path
) -> None:
    """The reason names the architecture, the setting or the tensor."""
    folder = _change(tmp_path / "model", "config.json", **change)
    if told is None:
        (folder / "generation_config.json").unlink()
        told = "eos_token_id"
    with pytest.raises(ValueError, match=told):
        load(folder)


def test_another_device_is_refused() -> None:
    """NumPy computes on the CPU."""
    with pytest.raises(ValueError, match="cuda:0"):
        create().load(
            {"path": str(installed(BASE)), "device": "cuda:0", "context_tokens": 64}, lambda *_: None
        )


# --- the engine's other verbs -----------------------------------------------------------------------


def test_loading_tells_how_far_it_is() -> None:
    """Progress grows to one, and the result says what was loaded: the context is at most the model's."""
    told: list[float] = []
    engine = create()
    spec = {"path": str(installed(BASE)), "device": "cpu", "context_tokens": 5000, "device_limit_bytes": None}
    result = engine.load(spec, lambda fraction, _: told.append(fraction))
    assert result == {
        "context_tokens": 1024,
        "device_bytes": None,
        "dtype": "float32",
        "architecture": "llama",
    }
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 30


def test_steps_are_counted_and_unloading_lets_go() -> None:
    """Each token counts; an engine that is unloaded has no model."""
    engine = load(installed(BASE))
    answer(engine, _PROMPT, max_tokens=7)
    assert engine.stats() == {"steps": 7, "device_bytes": None}
    engine.unload()
    with pytest.raises(RuntimeError, match="No model"):
        answer(engine, _PROMPT)


def test_there_is_no_accelerator_to_leave(engine: NumpyLlama) -> None:
    """Parking is not offered."""
    for verb in (engine.park, engine.wake):
        with pytest.raises(NotImplementedError):
            verb()


def test_a_block_that_fails_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Want of memory amid a prompt leaves nothing half computed behind."""
    engine = load(installed(BASE))
    whole, calls = answer(engine, _LONG)[0], []
    answer(engine, "y" * 300)
    plain = LlamaModel.forward

    def forward(self: LlamaModel, *args: Any) -> Any:
        calls.append(True)
        found = plain(self, *args)
        if len(calls) == 3:
            raise MemoryError("there is no more")
        return found

    monkeypatch.setattr(LlamaModel, "forward", forward)
    with pytest.raises(MemoryError):
        answer(engine, _LONG)
    monkeypatch.undo()
    assert answer(engine, _LONG)[0] == whole
