"""One model in this process: what it says is what transformers says, and it can be asked, stopped and asked again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers

from tests.workers.tinymodels import KINDS, Demo, ask, edit_json, install_demo, spec_of, write_tiny
from xprim_nb.demo.train.bytetokens import EOS_ID
from xprim_nb.workers.engines.hf_transformers import HFTransformers, create

PROMPTS = ("def __init__(self", "The 🦊 and the ", "\n")


def loaded(path: Path, **options: Any) -> HFTransformers:
    """An engine with that model, and no word about progress."""
    engine = create()
    engine.load(spec_of(path, **options), lambda *_: None)
    return engine


def answer(
    engine: HFTransformers, request: dict[str, Any], cancelled: Callable[[], bool] = lambda: False
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The pieces and the end of an answer."""
    *pieces, last = engine.generate(request, cancelled)
    assert all("ended" not in piece for piece in pieces)
    return pieces, last["ended"]


def said(engine: HFTransformers, request: dict[str, Any]) -> str:
    """The text of an answer."""
    return "".join(piece["text"] for piece in answer(engine, request)[0])


def reference(path: Path, prompt: str, tokens: int = 24) -> tuple[str, list[int]]:
    """What transformers itself goes on with, greedily."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[
        0, inputs.input_ids.shape[1] :
    ].tolist()
    return tokenizer.decode(ids, skip_special_tokens=True), ids


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random model of each kind."""
    folder = tmp_path_factory.mktemp("tiny")
    return {kind: write_tiny(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo model."""
    return install_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def engine(demo: Demo) -> HFTransformers:
    """An engine that has the demo model."""
    return loaded(demo.model)


@pytest.fixture
def copied(tiny: dict[str, Path], tmp_path: Path) -> Path:
    """A tiny Llama of the test's own, which it may change."""
    return write_tiny("llama", tmp_path / "model")


# --- what it says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_what_transformers_says(tiny: dict[str, Path], kind: str, prompt: str) -> None:
    """Whatever the architecture and the prompt, the greedy text is that of `model.generate`, token by token."""
    text, ids = reference(tiny[kind], prompt)
    pieces, ended = answer(loaded(tiny[kind]), ask(prompt))
    assert "".join(piece["text"] for piece in pieces) == text
    assert ended["tokens"] == sum(piece["tokens"] for piece in pieces) == len([i for i in ids if i != EOS_ID])


def test_the_demo_model_says_what_transformers_says(engine: HFTransformers, demo: Demo) -> None:
    """The trained model's greedy text is transformers' own."""
    assert (
        said(engine, ask("def __init__(self", max_tokens=40))
        == reference(demo.model, "def __init__(self", 40)[0]
    )


def test_what_the_authors_forbid_is_kept(copied: Path) -> None:
    """Constraints of generation_config.json count, as they do for `model.generate`; its sampling does not."""
    plain = said(loaded(copied), ask())
    edit_json(
        copied / "generation_config.json", repetition_penalty=5.0, do_sample=True, top_k=3, temperature=9.0
    )
    constrained = said(loaded(copied), ask())
    assert constrained == reference(copied, "def ")[0] != plain


def test_the_same_seed_gives_the_same_bytes(engine: HFTransformers) -> None:
    """Whatever ran in between, a seed's text is its own, and other seeds have others."""
    hot = ask("The ", temperature=1.0, seed=7)
    first = said(engine, hot)
    torch.rand(3)
    others = {said(engine, hot | {"seed": seed}) for seed in (0, 1, 2**63 + 5, -4)}
    assert said(engine, hot) == first
    assert len(others) == 4
    assert first not in others


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.0}, {"temperature": 1e-30}])
def test_one_choice_is_the_greedy_one(engine: HFTransformers, narrow: dict[str, Any]) -> None:
    """Where sampling leaves a single token, it is the most likely one."""
    assert said(engine, ask("The ", **{"temperature": 1.5, "seed": 3, **narrow})) == said(engine, ask("The "))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"top_p": 1.1}, {"top_k": -1}, {"max_tokens": 0}, {"temperature": float("nan")}],
)
def test_a_setting_out_of_its_range_is_refused(engine: HFTransformers, wrong: dict[str, Any]) -> None:
    """What cannot work is refused by its name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        answer(engine, ask(**wrong))


def test_no_piece_is_half_a_character(tiny: dict[str, Path]) -> None:
    """Bytes that are no character yet wait for the others; together the pieces are the whole text."""
    engine = loaded(tiny["qwen2"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny["qwen2"])
    forced = list("a🦊é\u4e16!".encode())
    steps = iter(forced)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xprim_nb.workers.engines.hf_sampling.Chooser.choose", lambda *_: next(steps))
        pieces, _ = answer(engine, ask(max_tokens=len(forced)))
    assert [piece["text"] for piece in pieces if piece["text"]] == ["a", "🦊", "é", "世", "!"]
    assert len(pieces) == len(forced)
    assert "".join(piece["text"] for piece in pieces) == tokenizer.decode(forced)


# --- how it ends ------------------------------------------------------------------------------------


def test_a_token_of_the_list_ends_it(copied: Path) -> None:
    """`eos_token_id` of generation_config.json may be a list, and any of it ends the answer before itself."""
    _, ids = reference(copied, "def ")
    end = ids[5]
    edit_json(copied / "generation_config.json", eos_token_id=[EOS_ID, end])
    pieces, ended = answer(loaded(copied), ask())
    assert ended["reason"] == "stop"
    assert ended["tokens"] == sum(piece["tokens"] for piece in pieces) == ids.index(end)


def test_a_stop_text_ends_it(engine: HFTransformers) -> None:
    """The answer ends before the first of the stop texts, of which nothing is shown."""
    whole = said(engine, ask("def __init__(self"))
    stop = whole[6:9]
    pieces, ended = answer(engine, ask("def __init__(self", stop=["never said", stop]))
    assert "".join(piece["text"] for piece in pieces) == whole[: whole.index(stop)]
    assert ended["reason"] == "stop"


def test_a_full_context_ends_it(tiny: dict[str, Path]) -> None:
    """Where prompt and answer fill the context, the answer ends with `length`."""
    pieces, ended = answer(loaded(tiny["llama"], context_tokens=16), ask("0123456789", max_tokens=99))
    assert ended["reason"] == "length"
    assert (ended["prompt_tokens"], ended["tokens"], len(pieces)) == (10, 6, 6)


def test_the_context_is_no_longer_than_the_models(tiny: dict[str, Path]) -> None:
    """A model of 256 positions is not loaded with more, whatever is asked for."""
    assert create().load(spec_of(tiny["gpt2"], context_tokens=9999), lambda *_: None)["context_tokens"] == 256


def test_a_prompt_that_leaves_no_room_is_refused(tiny: dict[str, Path]) -> None:
    """The sentence has both numbers, and the model goes on serving."""
    engine = loaded(tiny["llama"], context_tokens=16)
    with pytest.raises(ValueError, match=r"16 tokens.*context of 16"):
        answer(engine, ask("0123456789abcdef"))
    assert answer(engine, ask("012"))[1]["tokens"] == 13


def test_cancelling_ends_it_between_two_tokens(engine: HFTransformers) -> None:
    """A cancelled answer says so and leaves the model as it was."""
    before = said(engine, ask("The "))
    seen: list[str] = []
    pieces = engine.generate(ask("The "), lambda: len(seen) >= 3)
    for piece in pieces:
        if "ended" in piece:
            assert piece["ended"]["reason"] == "cancelled"
            assert piece["ended"]["tokens"] == 3
            break
        seen.append(piece["text"])
    assert len(seen) == 3
    assert said(engine, ask("The ")) == before


def test_cancelling_ends_a_prompt_half_way(engine: HFTransformers) -> None:
    """A prompt that is being read is left before the model has gone through it."""
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) > 5

    pieces, ended = answer(engine, ask("word " * 100), cancelled)
    assert (pieces, ended["reason"], ended["tokens"]) == ([], "cancelled", 0)
    assert len(asked) == 6
    assert ended["prompt_tokens"] == 500


def test_leaving_it_unread_harms_nothing(engine: HFTransformers) -> None:
    """Closing the iterator is enough; the next answer is the usual one."""
    before = said(engine, ask("The "))
    pieces = iter(engine.generate(ask("The "), lambda: False))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    assert said(engine, ask("The ")) == before


def test_the_time_is_told(engine: HFTransformers) -> None:
    """Prompt and answer are timed apart, and their tokens counted; the steps of all answers are added up."""
    before = engine.stats()["steps"]
    _, ended = answer(engine, ask("The ", max_tokens=5))
    assert ended["prompt_tokens"] == 4
    assert ended["tokens"] == 5
    assert ended["prefill_s"] > 0
    assert ended["decode_s"] > 0
    assert ended["lora_s"] >= 0
    assert engine.stats() == {"steps": before + 5, "device_bytes": None}


# --- what it is asked -------------------------------------------------------------------------------


def test_messages_are_laid_out_by_the_template(engine: HFTransformers, demo: Demo) -> None:
    """Messages say the same as the text that the model's own template makes of them."""
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.model)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert said(engine, ask(None, messages=messages)) == said(engine, ask(prompt))


def test_no_template_is_a_sentence(copied: Path) -> None:
    """Messages for a model without a chat template are refused."""
    edit_json(copied / "tokenizer_config.json", chat_template=None)
    with pytest.raises(ValueError, match="no chat template"):
        answer(loaded(copied), ask(None, messages=[{"role": "user", "content": "Hello"}]))


def test_a_template_may_refuse(copied: Path) -> None:
    """What the template itself says against the messages is told."""
    edit_json(copied / "tokenizer_config.json", chat_template="{{ raise_exception('no system role') }}")
    with pytest.raises(ValueError, match="refuses these messages: no system role"):
        answer(loaded(copied), ask(None, messages=[{"role": "system", "content": "Hello"}]))


def test_an_empty_prompt_begins_a_text(engine: HFTransformers, demo: Demo) -> None:
    """Nothing at all begins with the model's first token, as it does for transformers."""
    model = transformers.AutoModelForCausalLM.from_pretrained(demo.model, dtype=torch.float32)
    ids = model.generate(max_new_tokens=12, do_sample=False)[0, 1:].tolist()
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.model)
    assert said(engine, ask("", max_tokens=12)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_tokenizer_of_another_model_is_found_out(copied: Path) -> None:
    """A token that the model has no row for is refused: on an accelerator it would break the process."""
    engine = loaded(copied)
    engine._loaded.tokenizer.add_tokens(["<new>"])  # type: ignore[union-attr]  # it is loaded
    with pytest.raises(ValueError, match="do not belong together"):
        answer(engine, ask("a <new> word"))


def test_nothing_is_answered_before_a_model_is_there() -> None:
    """An engine that has loaded nothing says so, and has nothing to tell."""
    engine = create()
    with pytest.raises(RuntimeError, match="No model"):
        answer(engine, ask())
    assert engine.stats() == {"steps": 0, "device_bytes": None}


def test_the_cpu_has_nowhere_to_park(engine: HFTransformers) -> None:
    """A model in the machine's memory is refused, not moved."""
    with pytest.raises(NotImplementedError, match="no other memory"):
        engine.park()
    assert engine.wake() == {"device_bytes": None}


def test_a_parked_model_wakes_and_answers_as_before(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is parked a request is refused; parking and waking twice is once. The accelerator is the CPU here."""
    engine = loaded(copied)
    before, held = said(engine, ask()), {"bytes": 900}
    monkeypatch.setattr("xprim_nb.workers.engines.hf_transformers.place", lambda _: "cuda")
    monkeypatch.setattr("xprim_nb.workers.engines.hf_transformers.used_bytes", lambda _: held["bytes"])
    monkeypatch.setattr(
        "xprim_nb.workers.engines.hf_transformers.release_unused", lambda _: held.update(bytes=100)
    )
    assert engine.park() == engine.park() == {"device_bytes": 100}
    with pytest.raises(RuntimeError, match="parked"):
        answer(engine, ask())
    assert engine.wake() == engine.wake() == {"device_bytes": 100}
    assert said(engine, ask()) == before


def test_nothing_is_left_after_unloading(copied: Path) -> None:
    """An engine lets go of its model."""
    engine = loaded(copied)
    engine.unload()
    with pytest.raises(RuntimeError, match="No model"):
        answer(engine, ask())
