"""What an engine raised, as an error of ours: the one seam where foreign exceptions of workers are translated.

Source: spec 4 §Workers; STYLE rule 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xprim_nb.errors import (
    EngineError,
    GenerationFailedError,
    LoadFailedError,
    MissingExtraError,
    UnsupportedModelError,
    WorkerMemoryError,
    XprimError,
)
from xprim_nb.workers.values import CrashReport

__all__ = ["generation_error", "load_error"]


# A model that is loaded is used as it is: whoever asks for no context gets the one that somebody asked for before.
_MORE_ROOM = (
    "Shorten the prompt, or ask with a larger context_tokens: the model is then loaded again with it."
)


def _text(words: Mapping[str, Any]) -> str:
    return f"{words['type']}: {words['text']}"


def load_error(
    words: Mapping[str, Any], model: str, engine: str, python: str, report: CrashReport
) -> XprimError:
    """The error of a load that the engine ended by an exception.

    Args:
        words: The error frame.
        model: What was to be loaded.
        engine: The engine's name.
        python: The worker's interpreter.
        report: What is known of the worker, for want of memory.
    """
    kind, text = words["kind"], _text(words)
    if kind == "memory":
        return WorkerMemoryError(
            f"{model} does not fit: {text}", subject=model, retryable=True, report=report
        )
    if kind == "missing":
        package = str(words["name"]).partition(".")[0]
        if not package or "No module named" not in str(words["text"]):
            return MissingExtraError(
                f"{python} cannot import what {engine} needs for {model}: {text}",
                subject=package or engine,
                hint="Bring the packages of that environment to versions that fit each other.",
            )
        return MissingExtraError(
            f"{python} has no package {package!r}, which {engine} needs for {model}.",
            subject=package,
            hint=f"{python} -m pip install {package}",
        )
    if kind == "unsupported":
        return UnsupportedModelError(f"{engine} cannot run {model}: {words['text']}", subject=model)
    if kind == "refused":
        return LoadFailedError(f"{engine} refused to load {model}: {words['text']}", subject=model)
    return LoadFailedError(f"{model} could not be loaded: {text}", subject=model)


def generation_error(
    words: Mapping[str, Any], model: str, report: CrashReport, *, retryable: bool
) -> EngineError:
    """The error of an answer that the engine ended by an exception.

    Args:
        words: The error frame.
        model: Which answered.
        report: What is known of the worker, for want of memory.
        retryable: Whether no piece had come.
    """
    if words["kind"] == "memory":
        return WorkerMemoryError(
            f"{model} had too little memory for this answer: {_text(words)}",
            subject=model,
            retryable=retryable,
            report=report,
        )
    if words["type"] == "PromptTooLongError":
        return GenerationFailedError(
            f"{model} could not answer: {words['text']}", subject=model, hint=_MORE_ROOM
        )
    return GenerationFailedError(f"{model} could not answer: {_text(words)}", subject=model)
