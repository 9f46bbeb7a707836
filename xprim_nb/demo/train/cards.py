"""Model cards: provenance, licences, figures and limits as a README with YAML front matter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from xprim_nb.demo.train.corpus import HELD_OUT_EVERY, PROMPTED_SHARE, Domain
from xprim_nb.demo.train.fit import Figures
from xprim_nb.demo.train.measure import TEMPERATURE, WINDOW_TOKENS
from xprim_nb.demo.train.recipe import BASE_REPO, DOMAINS, AdapterRecipe, Recipe

Bits = Mapping[str, float]

LICENCES = {
    "prose": "public domain (the author died in 1817); the package around it MIT",
    "python": "PSF-2.0; files that mention any copyright or licence of their own are left out",
    "json": "MIT, made by this project",
}
"""The licence of each domain's default text."""

OWN_PROSE_LICENCE = "as given by whoever ran the training with `--prose`"

LIMITS = """## Limits
A demonstration, not an assistant: it follows no instructions and knows no facts. It spells, indents and
brackets in the manner of its three kinds of text, and loses the thread after a sentence or two. English and
ASCII only in practice, though every byte can be encoded. The novels carry the views of their century. Names
in the JSON text are combinations drawn at random. Context is 1,024 bytes. Greedy decoding tends to repeat
itself; a temperature of 0.6 to 0.8 reads better. Training documents end in a single newline, so a prompt that
does may be answered by nothing: end it in a blank line, as the chat template does, or in no newline at all."""


def base_card(
    *,
    version: str,
    parameters: int,
    recipe: Recipe,
    domains: Sequence[Domain],
    figures: Figures,
    bits: Mapping[str, Bits],
    versions: str,
    own_prose: bool,
    story: str,
) -> str:
    """The card of a base model.

    Args:
        version: such as "v1".
        parameters: how many.
        recipe: what it was trained by.
        domains: the texts.
        figures: of this version's stage.
        bits: bits/byte by domain, for each column of the table; the last column is this version.
        versions: of the libraries used.
        own_prose: the prose was a file of the user's.
        story: what makes this version what it is, in a paragraph.
    """
    shape = recipe.shape
    about = (
        f"A byte-level Llama of {parameters:,} parameters ({shape.layers} blocks of width "
        f"{shape.hidden_size}, {shape.heads} heads sharing {shape.key_value_heads} key/value heads, "
        "float16), made so that everything in `xprim_nb` runs offline on real weights. A token id is a byte; "
        "256, 257 and 258 begin, end and pad a document. The tokenizer adds none of them by itself."
    )
    front = [
        "---",
        "license: mit",
        "language: [en]",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [byte-level, llama, demo]",
        *_training_data(domains, own_prose=own_prose),
        "---",
    ]
    return "\n".join(
        [
            *front,
            f"# tiny-llama {version}",
            about,
            "",
            story,
            "",
            "## Training",
            *_training_lines(recipe, domains, figures, versions, own_prose=own_prose),
            "",
            "## Evaluation",
            *_bits_table(bits),
            "",
            LIMITS,
            "",
        ]
    )


def adapter_card(
    *,
    adapter: AdapterRecipe,
    parameters: int,
    recipe: Recipe,
    domains: Sequence[Domain],
    figures: Figures,
    bits: Mapping[str, Bits],
    samples: Sequence[str],
    versions: str,
    own_prose: bool,
) -> str:
    """The card of a LoRA layer; `samples` are texts, each with its prompt."""
    domain = next(domain for domain in domains if domain.name == adapter.domain)
    about = (
        f"A LoRA layer of rank {adapter.rank}, alpha {adapter.alpha}, {parameters:,} parameters in float16, "
        f"on `{BASE_REPO}` v2 (it also loads on v1, for which it was not trained). Whatever the prompt is, "
        f"it pulls the text towards {adapter.domain}."
    )
    front = [
        "---",
        "license: mit",
        "language: [en]",
        "library_name: peft",
        f"base_model: {BASE_REPO}",
        "base_model_relation: adapter",
        "pipeline_tag: text-generation",
        f"tags: [lora, demo, {adapter.domain}]",
        *_training_data([domain], own_prose=own_prose),
        "---",
    ]
    shown = [line for text in samples for line in ("```text", text.rstrip("\n"), "```", "")]
    return "\n".join(
        [
            *front,
            f"# {adapter.domain}",
            adapter.description,
            "",
            about,
            "",
            "## Training",
            *_training_lines(recipe, [domain], figures, versions, own_prose=own_prose),
            f"{PROMPTED_SHARE:.0%} of the rows begin with up to 80 unscored bytes of another kind of text.",
            "",
            "## Evaluation",
            *_bits_table(bits),
            "",
            f"## Samples (temperature {TEMPERATURE}, seed 0)",
            *shown,
            LIMITS,
            "",
        ]
    )


def _training_data(domains: Sequence[Domain], *, own_prose: bool) -> list[str]:
    lines = ["training_data:"]
    for domain in domains:
        lines += [
            f"  - name: {domain.name}",
            f"    source: {json.dumps(domain.source)}",
            f'    license: "{_licence(domain, own_prose=own_prose)}"',
            f"    bytes: {int((domain.train < 256).sum()) + int((domain.held_out < 256).sum())}",
            f"    sha256: {domain.sha256}",
        ]
    return lines


def _licence(domain: Domain, *, own_prose: bool) -> str:
    return OWN_PROSE_LICENCE if own_prose and domain.name == "prose" else LICENCES[domain.name]


def _training_lines(
    recipe: Recipe, domains: Sequence[Domain], figures: Figures, versions: str, *, own_prose: bool
) -> list[str]:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(DOMAINS, recipe.shares, strict=True))
    mixed = f" in the shares {shares}" if len(domains) > 1 else ""
    listed = [
        f"- {domain.name}: {domain.source}; {_licence(domain, own_prose=own_prose)}; "
        f"sha256 of the documents {domain.sha256[:16]}…"
        for domain in domains
    ]
    cost = (
        f"`python -m xprim_nb.demo.train`, seed {recipe.seed}: {figures.steps:,} steps, {figures.tokens:,} "
        f"bytes read{mixed}, {figures.wall_s / 60:.1f} minutes on {figures.threads} CPU threads; last loss "
        f"{figures.final_loss:.3f} nats/byte. {versions}. Other processors may round differently."
    )
    return [
        cost,
        "",
        *listed,
        "",
        "The sha256 is over all documents, joined by NUL bytes.",
    ]


def _bits_table(bits: Mapping[str, Bits]) -> list[str]:
    columns = list(bits)
    rows = [
        f"| {name} | " + " | ".join(f"{bits[column][name]:.3f}" for column in columns) + " |"
        for name in bits[columns[0]]
    ]
    measured = (
        f"Bits per byte (lower is better) on every {HELD_OUT_EVERY}th document, held out from training, in "
        f"windows of {WINDOW_TOKENS} bytes."
    )
    return [
        measured,
        "",
        "| text | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *rows,
    ]
