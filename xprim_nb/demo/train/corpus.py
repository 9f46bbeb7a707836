"""The three domains as token streams, with held-out text and seeded batches. In: text; out: arrays of ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xprim_nb.demo.train.bytetokens import Ids, encode, join_documents
from xprim_nb.demo.train.novels import fetch_prose, read_prose, split_prose
from xprim_nb.demo.train.problems import TrainingError
from xprim_nb.demo.train.recipe import DOMAINS
from xprim_nb.demo.train.records import make_records
from xprim_nb.demo.train.sources import read_standard_library, split_modules

HELD_OUT_EVERY = 20
"""Every 20th document is never trained on: 5 % is enough for a bits/byte figure with two digits."""

JSON_BYTES = 3_000_000
"""About the size of the prose, so that no domain is seen many more times than another."""

PROMPTED_SHARE = 0.3
"""Share of an adapter's rows that begin with another domain: enough to turn any prompt; more costs quality."""

IGNORED = -100
"""The label that `LlamaForCausalLM` leaves out of its loss."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """One kind of text.

    Args:
        name: one of `DOMAINS`.
        train: `(tokens,) uint16`.
        held_out: `(tokens,) uint16`, never trained on.
        starts: `(documents,) int64`, where each document's bytes begin in `train`.
        sha256: of all documents joined by NUL, in hex.
        source: where it came from, as the cards say it.
    """

    name: str
    train: Ids
    held_out: Ids
    starts: npt.NDArray[np.int64]
    sha256: str
    source: str


def make_domain(name: str, documents: Sequence[str], *, source: str) -> Domain:
    """The documents split into training and held-out streams.

    Raises:
        TrainingError: too few documents to hold any out.
    """
    if len(documents) < 2 * HELD_OUT_EVERY:
        raise TrainingError(
            f"Only {len(documents)} documents of {name}: too few to hold any out.",
            subject=name,
            hint="Give a text of 100 kB or more.",
        )
    held_out = [text for number, text in enumerate(documents) if number % HELD_OUT_EVERY == 7]
    train = [text for number, text in enumerate(documents) if number % HELD_OUT_EVERY != 7]
    stream, starts = join_documents(train)
    digest = hashlib.sha256("\0".join(documents).encode("utf-8")).hexdigest()
    return Domain(
        name=name,
        train=stream,
        starts=starts,
        held_out=join_documents(held_out)[0],
        sha256=digest,
        source=source,
    )


def gather(*, seed: int, prose: Path | None, python_version: str) -> tuple[Domain, ...]:
    """All domains, in the order of `DOMAINS`.

    Args:
        seed: of the JSON generator.
        prose: a UTF-8 file to use in place of the Debian package.
        python_version: named in the cards, since the standard library is a training text.

    Raises:
        TrainingError: a text is missing.
    """
    novels = fetch_prose() if prose is None else read_prose(prose)
    named = "Jane Austen's six novels (Debian package `r-cran-janeaustenr`)" if prose is None else prose.name
    domains = (
        make_domain("prose", split_prose(novels), source=named),
        make_domain(
            "python",
            split_modules(read_standard_library()),
            source=f"CPython {python_version} standard library",
        ),
        make_domain(
            "json", make_records(seed=seed, total_bytes=JSON_BYTES), source=f"seeded generator, seed {seed}"
        ),
    )
    assert tuple(domain.name for domain in domains) == DOMAINS
    return domains


def draw_mixture(
    rng: np.random.Generator, domains: Sequence[Domain], shares: Sequence[float], *, rows: int, length: int
) -> tuple[Rows, Rows]:
    """Random crops of all domains by their shares: ids and labels, each `(rows, length) int64`."""
    weights = np.array(shares) / sum(shares)
    ids = np.stack(
        [_crop(rng, domains[int(rng.choice(len(domains), p=weights))], length) for _ in range(rows)]
    )
    return ids, ids


def draw_adapter(
    rng: np.random.Generator, domains: Sequence[Domain], target: int, *, rows: int, length: int
) -> tuple[Rows, Rows]:
    """Crops of one domain, `PROMPTED_SHARE` of them after an unscored beginning from another one.

    The beginning teaches the adapter to turn any prompt towards its own domain; only what follows is scored.

    Returns:
        Ids and labels, each `(rows, length) int64`, labels `IGNORED` over the beginning.
    """
    others = [number for number in range(len(domains)) if number != target]
    domain = domains[target]
    newline = encode("\n").astype(np.int64)
    all_ids, all_labels = [], []
    for _ in range(rows):
        if rng.random() >= PROMPTED_SHARE:
            ids = _crop(rng, domain, length)
            labels = ids
        else:
            other = domains[others[int(rng.integers(len(others)))]]
            prompt = _prompt(rng, other)
            ids = np.concatenate([prompt, newline, _from_start(rng, domain, length)])[:length]
            labels = ids.copy()
            labels[: prompt.size] = IGNORED
        all_ids.append(ids)
        all_labels.append(labels)
    return np.stack(all_ids), np.stack(all_labels)


def _crop(rng: np.random.Generator, domain: Domain, length: int) -> Rows:
    start = int(rng.integers(domain.train.size - length))
    return domain.train[start : start + length].astype(np.int64)


def _from_start(rng: np.random.Generator, domain: Domain, length: int) -> Rows:
    """`length` tokens from the beginning of a document that has as many after it."""
    usable = int(np.searchsorted(domain.starts, domain.train.size - length))
    start = int(domain.starts[int(rng.integers(usable))])
    return domain.train[start : start + length].astype(np.int64)


def _prompt(rng: np.random.Generator, domain: Domain) -> Rows:
    """4 to 80 bytes of a document's beginning or, as often, of its middle."""
    length = int(rng.integers(4, 81))
    ids = _from_start(rng, domain, length) if rng.random() < 0.5 else _crop(rng, domain, length)
    return ids[ids < 256]
