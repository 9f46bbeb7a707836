"""The benchmark of the answers' cache: one key and one look-up, beside LangChain's SQLiteCache and diskcache.

All stores hold the same answers and are asked for the same ones in the same order, one after the other for each
question, so that whatever else the machine does reaches all of them. A peer is timed as its users call it, from the
prompt to the answer; ours is timed from `ResolveInput` to the answer, the hash of the request included, and once more
with the search for secrets, as `Asker.ask` does it.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.metadata
import random
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xprim_nb.prompts.answers import Answer, Usage
from xprim_nb.prompts.asking import Asker
from xprim_nb.prompts.caches import Caches
from xprim_nb.prompts.identity import request_hash
from xprim_nb.prompts.resolve import resolve_scaffold
from xprim_nb.prompts.values import ResolveInput

ANSWER_BYTES = 5_000
PROMPT_BYTES = 2_000
LANGCHAIN_SETTINGS = "[('model', 'gpt-5.6'), ('temperature', 0.0)]"
# What the room promises: spec 6.
TARGET_P95_S, TARGET_RATIO = 1e-3, 0.25

Look = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class LookUps:
    """The seconds of one store's look-ups; `cpu_p95_s` is of the processor's, which other programs do not prolong."""

    name: str
    look_ups: int
    median_s: float
    p95_s: float
    p99_s: float
    cpu_p95_s: float

    @classmethod
    def of(cls, name: str, timed: list[tuple[float, float]]) -> LookUps:
        """Summed up, from the seconds on the wall and of the processor."""
        seconds, cpu = zip(*timed, strict=True)
        shares = statistics.quantiles(seconds, n=100)
        return cls(
            name,
            len(seconds),
            statistics.median(seconds),
            shares[94],
            shares[98],
            statistics.quantiles(cpu, n=100)[94],
        )


@dataclass(frozen=True, slots=True)
class PromptsCacheResult:
    """What was measured, the key and look-up of this package first."""

    answers: int
    value_bytes: int
    stores: tuple[LookUps, ...]
    skipped: tuple[str, ...]

    def _ratio(self, name: str) -> float | None:
        peers = [store for store in self.stores if store.name.startswith(name)]
        return self.stores[0].p95_s / peers[0].p95_s if peers else None

    @property
    def failed(self) -> bool:
        """True when a promise is not held, or could not be tested."""
        ratio = self._ratio("LangChain")
        return self.stores[0].p95_s > TARGET_P95_S or ratio is None or ratio > TARGET_RATIO

    def document(self) -> dict[str, Any]:
        """As JSON."""
        ratios = {name: self._ratio(name) for name in ("LangChain", "diskcache")}
        return {**asdict(self), "p95_ratios": ratios, "failed": self.failed}

    def text(self) -> str:
        """For people."""
        lines = [f"{self.answers} answers of {self.value_bytes} bytes, warm, asked in turn"]
        for store in self.stores:
            lines.append(
                f"{store.name:44} median {store.median_s * 1e6:8.1f} µs   p95 {store.p95_s * 1e6:8.1f} µs   "
                f"p99 {store.p99_s * 1e6:8.1f} µs   of processor p95 {store.cpu_p95_s * 1e6:8.1f} µs"
            )
        for name in ("LangChain", "diskcache"):
            ratio = self._ratio(name)
            if ratio is not None:
                lines.append(f"p95 of {self.stores[0].name} is {ratio:.2f} × that of {name}")
        lines += [f"skipped {reason}" for reason in self.skipped]
        verdict = "FAILED" if self.failed else "held"
        return "\n".join([*lines, f"{verdict}: p95 at most 1 ms, and 0.25 × LangChain's"])


def run_prompts_cache(root: Path, answers: int, look_ups: int) -> PromptsCacheResult:
    """Fill the stores, warm them, and time the same look-ups in all of them, in turn."""
    folder = root / "prompts-cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    asked, said = _questions(answers), [_answer(number) for number in range(answers)]
    caches = Caches(folder / "xprim")
    for one, text in zip(asked, said, strict=True):
        answer = Answer(text, usage=Usage(500, 1200), model="gpt-5.6-2026-10-01", latency_s=2.0)
        caches.keep(request_hash(one), one, resolve_scaffold(one).rendered, answer)
    loop = asyncio.new_event_loop()
    asker = Asker(caches)
    stores: dict[str, Look] = {
        "xprim-nb, key and look-up": lambda n: caches.look_up(request_hash(asked[n])).answer,
        "xprim-nb, the whole of Asker.ask": lambda n: loop.run_until_complete(asker.ask(asked[n], _nobody)),
    }
    skipped = []
    for name, build in {"LangChain": _langchain, "diskcache": _diskcache}.items():
        try:
            stores.update(build(folder, asked, said))
        except ImportError as error:
            skipped.append(f"{name}: {error}")
    seconds = _timed(stores, answers, look_ups)
    loop.run_until_complete(asker.aclose())
    loop.close()
    caches.close()
    results = tuple(LookUps.of(name, each) for name, each in seconds.items())
    return PromptsCacheResult(answers, ANSWER_BYTES, results, tuple(skipped))


def _timed(stores: dict[str, Look], answers: int, look_ups: int) -> dict[str, list[tuple[float, float]]]:
    chosen = random.Random(1)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in stores}
    order = list(stores.items())
    for look in stores.values():  # warm: every page read once
        for number in range(answers):
            assert look(number), "a store does not find what was kept in it"
    gc.collect()
    gc.disable()
    try:
        for _ in range(look_ups):
            number = chosen.randrange(answers)
            chosen.shuffle(order)  # who comes first finds the processor's cache full of others' data
            for name, look in order:
                started_cpu_s, started_s = time.thread_time(), time.perf_counter()
                look(number)
                seconds[name].append((time.perf_counter() - started_s, time.thread_time() - started_cpu_s))
    finally:
        gc.enable()
    return seconds


def _questions(count: int) -> list[ResolveInput]:
    return [
        ResolveInput.model_validate(
            {
                "prompt": _text(f"question {number}", 200),
                "provider": "openai",
                "model": "gpt-5.6",
                "blocks": [
                    {"type": "style_guide", "content": _text("style", PROMPT_BYTES // 2)},
                    {"type": "requirements", "content": _text(f"needs {number}", PROMPT_BYTES // 2 - 200)},
                ],
            }
        )
        for number in range(count)
    ]


def _answer(number: int) -> str:
    return _text(f"answer {number}", ANSWER_BYTES)


def _text(seed: str, size: int) -> str:
    """Words, which pack as prose does, and differ from text to text."""
    words = [hashlib.sha256(f"w{n}".encode()).hexdigest()[: 3 + n % 7] for n in range(400)]
    chosen = random.Random(seed)
    text = seed
    while len(text) < size:
        text += " " + chosen.choice(words)
    return text[:size]


def _whole(asked: ResolveInput) -> str:
    return "\n\n".join([*(block.content for block in asked.blocks), asked.prompt])


def _langchain(folder: Path, asked: list[ResolveInput], said: list[str]) -> dict[str, Look]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the package is being sunset
        from langchain_community.cache import SQLiteCache
        from langchain_core.outputs import Generation
    cache = SQLiteCache(str(folder / "langchain.db"))
    prompts = [_whole(one) for one in asked]
    for prompt, text in zip(prompts, said, strict=True):
        cache.update(prompt, LANGCHAIN_SETTINGS, [Generation(text=text)])
    version = importlib.metadata.version("langchain-community")
    return {f"LangChain SQLiteCache {version}": lambda n: cache.lookup(prompts[n], LANGCHAIN_SETTINGS)}


def _diskcache(folder: Path, asked: list[ResolveInput], said: list[str]) -> dict[str, Look]:
    import diskcache

    cache = diskcache.Cache(str(folder / "diskcache"))
    prompts = [_whole(one) for one in asked]

    def key(number: int) -> str:  # as its users make one
        return hashlib.sha256(prompts[number].encode()).hexdigest()

    for number, text in enumerate(said):
        cache[key(number)] = {"text": text, "usage": {"input_tokens": 500, "output_tokens": 1200}}
    return {f"diskcache {diskcache.__version__}": lambda n: cache[key(n)]}


async def _nobody(*_: object) -> Answer:
    raise AssertionError("all is in the cache")
