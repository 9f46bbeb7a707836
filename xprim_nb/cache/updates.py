"""Which installed versions the registry has another manifest for. Pure.

Source: seeds/002 §`models update`; fault G25 of the original.
"""

from __future__ import annotations

from collections.abc import Sequence

from xprim_nb.cache.values import InstalledModel, UpdateCheck
from xprim_nb.refs import ModelRef
from xprim_nb.registry.client import IndexAnswer
from xprim_nb.registry.index import Index

__all__ = ["check_models"]


def check_models(models: Sequence[InstalledModel], answer: IndexAnswer) -> list[UpdateCheck]:
    """A check for each installed model that the index lists, sorted by ref."""
    checks = []
    for model in sorted(models, key=lambda each: each.ref):
        remote = answer.index.models.get(model.ref)
        if remote is None:
            continue
        notice = answer.notice_for(model.ref)
        resolved = model.extra.get("resolved_version")
        checks.append(
            UpdateCheck(
                ref=model.ref,
                installed_hash=model.manifest_hash,
                remote_hash=remote.manifest_hash,
                installed_version=resolved if isinstance(resolved, str) else _version(model, answer.index),
                remote_version=remote.alias_of or remote.ref.version,
                notice=notice.message if notice else "",
            )
        )
    return checks


def _version(model: InstalledModel, index: Index) -> str | None:
    """The real version whose manifest is installed, found by its hash."""
    for each in index:
        same = ModelRef(each.ref.group, each.ref.model) == ModelRef(model.ref.group, model.ref.model)
        if same and each.alias_of is None and each.manifest_hash == model.manifest_hash:
            return each.ref.version
    return None
