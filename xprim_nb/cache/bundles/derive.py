"""A bundle's documents made from what is installed. Pure: facts in, bytes out.

What cannot be known is said: the card lists it under `unknown`, a document says it in a sentence.

Source: spec 2 §Information bundle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from xprim_nb._text import format_bytes, format_count
from xprim_nb.cache.bundles.facts import ModelFacts, split_front_matter
from xprim_nb.cache.bundles.naming import MODEL_CARD
from xprim_nb.cache.bundles.scripts import basic_usage, notebook

__all__ = ["card_of_readme", "derive_documents", "json_bytes"]

# What a card says of a model in words; whatever of it is missing is listed under `unknown`.
_CARD_KEYS = (
    "license", "language", "library_name", "pipeline_tag", "tags", "datasets", "base_model",
)  # fmt: skip
# Of config.json: what tells one architecture from another, in the spelling of transformers.
_SHAPE_KEYS = (
    "model_type", "architectures", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "torch_dtype", "dtype",
    "quantization_config", "tie_word_embeddings", "rope_theta", "sliding_window",
)  # fmt: skip
_ADAPTER_KEYS = (
    "peft_type",
    "task_type",
    "base_model_name_or_path",
    "revision",
    "r",
    "lora_alpha",
    "target_modules",
)
# Beyond this a reference is no reference any more; the count tells how many are left out.
_MAX_TENSORS_LISTED = 5_000
_ARXIV = re.compile(r"(?:arxiv[:./ ]+(?:org/)?(?:abs/|pdf/)?)(\d{4}\.\d{4,5})", re.IGNORECASE)


def derive_documents(facts: ModelFacts) -> dict[str, bytes]:
    """Every document that can be derived, by path."""
    texts = {
        "documentation/README.md": facts.readme or _no_readme(facts),
        "documentation/technical_specs.md": _technical_specs(facts),
        "documentation/usage_guide.md": _usage_guide(facts),
        "documentation/changelog.md": _changelog(facts),
        "examples/basic_usage.py": basic_usage(str(facts.model.ref)),
    }
    documents = {
        MODEL_CARD: model_card(facts),
        "examples/advanced_examples.ipynb": notebook(str(facts.model.ref)),
        "examples/api_reference.json": _api_reference(facts),
        "benchmarks/performance_metrics.json": _performance(facts),
        "benchmarks/comparison_data.json": _comparison(facts),
    }
    return {path: text.encode() for path, text in texts.items()} | {
        path: json_bytes(document) for path, document in documents.items()
    }


def json_bytes(document: object) -> bytes:
    """JSON for people."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def card_of_readme(model_id: str, text: str) -> dict[str, Any]:
    """The model card that a README with front matter amounts to."""
    problems: list[str] = []
    front, body = split_front_matter(text, problems)
    return {"schema_version": 1, "model_id": model_id, **_told(front, body), "problems": problems}


def model_card(facts: ModelFacts) -> dict[str, Any]:
    """`model_card.json`: what the README and the files say, and what nobody says."""
    peeked = facts.peeked
    return {
        "schema_version": 1,
        "model_id": facts.model.ref.name,
        "version": facts.model.ref.version,
        "manifest_hash": facts.model.manifest_hash,
        **_told(facts.front_matter, facts.body),
        "architecture": {key: facts.config[key] for key in _SHAPE_KEYS if key in facts.config},
        "adapter": {key: facts.adapter[key] for key in _ADAPTER_KEYS if key in facts.adapter},
        "dependencies": list(facts.dependencies),
        "parameters": peeked.parameters if peeked and peeked.tensor_files else None,
        "bytes_by_dtype": peeked.dtypes if peeked else {},
        "size_bytes": facts.model.total_size,
        "files": {file.path: file.size for file in facts.files},
        "derived_from": _sources(facts),
        "problems": list(facts.problems),
    }


def _told(front: Mapping[str, Any], body: str) -> dict[str, Any]:
    told = {key: front.get(key) for key in _CARD_KEYS}
    rest = {key: value for key, value in front.items() if key not in _CARD_KEYS}
    title = re.search(r"^# +(.+)$", body, re.MULTILINE)
    return {
        "title": title[1].strip() if title else None,
        "summary": _first_paragraph(body),
        **told,
        "further": rest,
        "papers": sorted(set(_ARXIV.findall(f"{told['tags']} {body}"))),
        "unknown": [key for key, value in told.items() if value in (None, "", [], {})],
    }


def _first_paragraph(body: str) -> str | None:
    for block in re.split(r"\n\s*\n", body):
        lines = [
            line
            for line in block.strip().splitlines()
            if not line.lstrip().startswith(("#", "<", "!", "|", "```"))
        ]
        if lines:
            return " ".join(" ".join(lines).split())[:2_000]
    return None


def _sources(facts: ModelFacts) -> list[str]:
    found = {"README.md": facts.readme, "config.json": facts.config, "adapter_config.json": facts.adapter}
    named = [name for name, value in found.items() if value]
    tensors = [f"the header of {path}" for path in (facts.peeked.tensor_files if facts.peeked else ())]
    return [f"the manifest {facts.model.manifest_hash}", *named, *tensors]


def _no_readme(facts: ModelFacts) -> str:
    return (
        f"# {facts.model.ref.name}\n\nThe publisher wrote no README for {facts.model.ref}. "
        "What its files tell of themselves is in `technical_specs.md`; nothing else is known here.\n"
    )


def _technical_specs(facts: ModelFacts) -> str:
    model, peeked = facts.model, facts.peeked
    size = f"{format_bytes(model.total_size)} ({format_count(model.total_size, 'byte')})"
    lines = [
        f"# Technical specifications of {model.ref}",
        "",
        f"Derived from what is installed (manifest `{model.manifest_hash}`).",
        "",
        "| | |",
        "|---|---|",
        f"| size | {size} in {format_count(len(facts.files), 'file')} |",
    ]
    if peeked and peeked.tensor_files:
        lines.append(f"| parameters | {peeked.parameters:,} |")
        lines += [f"| in {dtype} | {format_bytes(size)} |" for dtype, size in peeked.dtypes.items()]
    else:
        lines.append("| parameters | not known: no safetensors or GGUF header could be read |")
    for source in (facts.config, facts.adapter):
        keys = _SHAPE_KEYS if source is facts.config else _ADAPTER_KEYS
        lines += [f"| {key} | `{_cell(source[key])}` |" for key in keys if key in source]
    if not facts.config and not facts.adapter:
        lines.append("| architecture | not known: there is no `config.json` |")
    lines += ["", "## Files", "", "| file | bytes | tensors |", "|---|---:|---:|"]
    for file in facts.files:
        tensors = (
            len(peeked.tensor_files[file.path].tensors) if peeked and file.path in peeked.tensor_files else ""
        )
        lines.append(f"| `{_cell(file.path)}` | {file.size:,} | {tensors} |")
    lines += [f"\n> {problem}" for problem in facts.problems]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text[:200].replace("|", "\\|").replace("`", "'").replace("\n", " ")


def _usage_guide(facts: ModelFacts) -> str:
    ref, architectures = facts.model.ref, facts.config.get("architectures")
    parts = [
        f"# Using {ref}",
        "Where its files lie, and that they are right:",
        f"```sh\nxprim models path {ref}\n```",
        f'```python\nfrom xprim_nb import connect\n\nwith connect() as kit:\n    path = kit.path("{ref}").result()\n```',
    ]
    if facts.adapter:
        parts.append(
            f"It is an adapter: it needs {' and '.join(facts.dependencies) or 'a base model nobody names'}."
        )
    elif isinstance(architectures, list) and architectures:
        parts.append(
            f"`config.json` names {', '.join(map(_cell, architectures))}; with the extra `transformers` installed, "
            "`AutoModel.from_pretrained(path)` reads it from that directory, without a network."
        )
    else:
        parts.append("Which library loads it is not known: neither `config.json` nor the README says.")
    library, task = facts.front_matter.get("library_name"), facts.front_matter.get("pipeline_tag")
    if library or task:
        parts.append(
            f"The publisher says: library {_cell(library or 'not named')}, task {_cell(task or 'not named')}."
        )
    parts.append("`examples/basic_usage.py` runs as it is.")
    return "\n\n".join(parts) + "\n"


def _changelog(facts: ModelFacts) -> str:
    lines = [
        f"# Versions of {facts.model.ref.name} on this machine",
        "",
        "The publisher's own list of changes is not part of the model; this is what was installed here.",
        "",
    ]
    for each in sorted(facts.versions, key=lambda model: model.installed_at, reverse=True):
        lines.append(
            f"* **{each.ref.version}**, installed {each.installed_at:%Y-%m-%d}: {format_bytes(each.total_size)} in "
            f"{format_count(each.file_count, 'file')}, manifest `{each.manifest_hash[:12]}`"
        )
    return "\n".join(lines) + "\n"


def _api_reference(facts: ModelFacts) -> dict[str, Any]:
    tensors = [
        {
            "file": path,
            "name": each.name,
            "dtype": each.dtype,
            "shape": list(each.shape),
            "size_bytes": each.size_bytes,
        }
        for path, file in (facts.peeked.tensor_files.items() if facts.peeked else ())
        for each in file.tensors
    ]
    return {
        "schema_version": 1,
        "model_id": facts.model.ref.name,
        "version": facts.model.ref.version,
        "task": facts.front_matter.get("pipeline_tag"),
        "architectures": facts.config.get("architectures"),
        "inputs": None,
        "outputs": None,
        "note": "Inputs and outputs are not described by any file of the model: they are those of its architecture.",
        "files": [
            {"path": file.path, "size_bytes": file.size, "sha256": file.sha256} for file in facts.files
        ],
        "tensors": tensors[:_MAX_TENSORS_LISTED],
        "tensors_left_out": max(0, len(tensors) - _MAX_TENSORS_LISTED),
    }


def _performance(facts: ModelFacts) -> dict[str, Any]:
    results = []
    index = facts.front_matter.get("model-index")
    for entry in index if isinstance(index, list) else ():
        found = entry.get("results") if isinstance(entry, dict) else None
        results += found if isinstance(found, list) else []
    note = "As the publisher's model-index states them; not measured here."
    return {
        "schema_version": 1,
        "model_id": facts.model.ref.name,
        "version": facts.model.ref.version,
        "results": results,
        "note": note if results else "The publisher states no results, and none were measured here.",
    }


def _comparison(facts: ModelFacts) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "model_id": facts.model.ref.name,
        "note": "The versions on this machine; other models are not compared.",
        "versions": [
            {
                "version": each.ref.version,
                "manifest_hash": each.manifest_hash,
                "size_bytes": each.total_size,
                "files": each.file_count,
            }
            for each in facts.versions
        ],
    }
