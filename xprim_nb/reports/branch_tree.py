"""Where a run stands and where it forked, as a tree: checkpoints, their branches, and the tip of each.

As in `cache_bar` it is HTML without scripts: nested lists, in which what merely follows stands on one level, and only
what forks is set in. A long stretch between two forks is folded, and opened by keyboard or click without any script.

Source: spec 6 §Checkpoints (branches), §Faces; research/prompts §9 (6: branch tree).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeAlias

from xprim_nb._text import clean, format_count
from xprim_nb.reports.markup import NO_MATHS, escaped

__all__ = ["BranchNode", "BranchTree"]

# A screen of steps is read; of more, the first and the last say where it went.
_MOST_STEPS, _KEPT_AT_ENDS = 10, 2
# As many digits as people type, where they are enough to tell all apart.
_ID_CHARS = 8

_LIST = "list-style:none;margin:0;padding:0"
_INSET = f"{_LIST};margin-left:1em;padding-left:1em;border-left:2px solid #808080"
_TIP = "border:1px solid #808080;border-radius:3px;padding:0 .4em;margin-left:.5em;font-weight:bold"


@dataclass(frozen=True, slots=True)
class BranchNode:
    """A checkpoint, as a tree shows it.

    Attributes:
        id: Its own.
        parent: Whose state it went on from; empty for the first.
        name: Of the branch that it was made on; empty where branches have no names.
        label: What people call it: its name, or the kind of its node.
        is_tip: Whether a branch stands there now.
        tips: Names of the branches that do; its own when empty.
    """

    id: str
    parent: str
    name: str
    label: str = ""
    is_tip: bool = False
    tips: tuple[str, ...] = ()

    @property
    def ending(self) -> tuple[str, ...]:
        """Names of the branches that stand there now."""
        return self.tips or ((self.name,) if self.is_tip else ())


class _Saved(Protocol):
    """A checkpoint of a store: what `CheckpointStore.tree` returns."""

    @property
    def id(self) -> str: ...
    @property
    def parent(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def branches(self) -> tuple[str, ...]: ...


class _Kept(Protocol):
    """A state of a LangGraph thread: what `graph.get_state_history` and a saver's `list` yield."""

    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def parent_config(self) -> Mapping[str, Any] | None: ...
    @property
    def metadata(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class _Line:
    """Checkpoints that follow each other on one level, each with the lines that fork from it."""

    steps: tuple[tuple[BranchNode, tuple[_Line, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Spoken:
    """What lines say of ids: each id shortened, and the parents that are not here any more."""

    ids: Mapping[str, str]
    lost: frozenset[str]

    @classmethod
    def of(cls, nodes: Sequence[BranchNode]) -> Self:
        """Of all nodes: the first digits of each, or, as of ids that begin with the time, the last, or all of them."""
        known = {each.id for each in nodes}
        ids = {each: each[:_ID_CHARS] for each in known}
        if len(set(ids.values())) < len(known):
            ids = {each: f"…{each[-_ID_CHARS:]}" for each in known}
        if len(set(ids.values())) < len(known):
            ids = {each: each for each in known}
        return cls(ids, frozenset({each.parent for each in nodes if each.parent} - known))


_Steps: TypeAlias = Sequence[tuple[BranchNode, tuple[_Line, ...]]]


@dataclass(frozen=True, slots=True)
class BranchTree:
    """Checkpoints by whom they went on from.

    Attributes:
        nodes: Oldest first.
        title: Whose they are; empty when there is nothing to say.
    """

    nodes: tuple[BranchNode, ...]
    title: str = ""

    @classmethod
    def of_checkpoints(cls, saved: Iterable[_Saved], title: str = "") -> Self:
        """The tree of a store.

        Args:
            saved: Oldest first, as `CheckpointStore.tree` returns them.
            title: Whose they are.
        """
        return cls(
            tuple(
                BranchNode(
                    each.id, each.parent or "", each.name, each.label, bool(each.branches), each.branches
                )
                for each in saved
            ),
            title,
        )

    @classmethod
    def of_thread(cls, states: Iterable[_Kept], title: str = "") -> Self:
        """The tree of a LangGraph thread; its branches have no names, and each ends where nothing goes on.

        Args:
            states: The latest first, as `graph.get_state_history(config)` and `saver.list(config)` yield them.
            title: Whose they are.
        """
        kept = list(states)[::-1]
        parents = {_id_of(each.parent_config) for each in kept}
        return cls(
            tuple(
                BranchNode(
                    id=(own := _id_of(each.config)),
                    parent=_id_of(each.parent_config),
                    name="",
                    label=_step_of(each.metadata or {}),
                    is_tip=own not in parents,
                )
                for each in kept
            ),
            title,
        )

    @property
    def tips(self) -> dict[str, BranchNode]:
        """Where each branch stands, by its name."""
        return {name: each for each in self.nodes for name in each.ending}

    @property
    def verdict(self) -> str:
        """All of it in one sentence."""
        if not self.nodes:
            return "No checkpoint is kept yet."
        branches = sum(len(each.ending) for each in self.nodes)
        whose = f"{self.title}: " if self.title else ""
        many = f"{branches:,} branches" if branches != 1 else "1 branch"
        return f"{whose}{format_count(len(self.nodes), 'checkpoint')} on {many}."

    def text(self) -> str:
        """The tree in words, a line a checkpoint; what forks is set in."""
        lines, spoken = [self.verdict], _Spoken.of(self.nodes)
        for line in self._lines():
            lines += _text(line.steps, spoken)
        return clean("\n".join(lines))

    def html(self) -> str:
        """The tree as nested lists."""
        lines, spoken = self._lines(), _Spoken.of(self.nodes)
        body = "".join(f'<ul style="{_LIST}">{_html(line.steps, spoken)}</ul>' for line in lines)
        return f'<div class="xprim-branch-tree {NO_MATHS}"><p><strong>{escaped(self.verdict)}</strong></p>{body}</div>'

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    def _lines(self) -> list[_Line]:
        """One for each checkpoint that went on from none that is here."""
        known = {each.id: each for each in self.nodes}
        children: dict[str, list[BranchNode]] = {}
        for each in known.values():
            if each.parent in known:
                children.setdefault(each.parent, []).append(each)
        seen: set[str] = set()
        roots = [each for each in known.values() if each.parent not in known]
        # What is its own ancestor is no tree; it is shown all the same, from its oldest on.
        return [_line(each, children, seen) for each in (*roots, *known.values()) if each.id not in seen]


def _id_of(config: Mapping[str, Any] | None) -> str:
    return str((config or {}).get("configurable", {}).get("checkpoint_id", ""))


def _step_of(metadata: Mapping[str, Any]) -> str:
    """What LangGraph says of a state: `loop 3`; the input of a thread is its step -1."""
    return f"{metadata.get('source', 'step')} {metadata.get('step', '')}".strip()


def _line(start: BranchNode, children: Mapping[str, Sequence[BranchNode]], seen: set[str]) -> _Line:
    """A checkpoint and what follows it: on its own branch, if that goes on, else on the oldest that does."""
    run: list[tuple[BranchNode, list[BranchNode]]] = []
    at: BranchNode | None = start
    while at is not None:
        seen.add(at.id)
        after = [each for each in children.get(at.id, ()) if each.id not in seen]
        following = next((each for each in after if each.name == at.name), after[0] if after else None)
        run.append((at, [each for each in after if each is not following]))
        at = following
    return _Line(
        tuple(
            (node, tuple(_line(each, children, seen) for each in aside if each.id not in seen))
            for node, aside in run
        )
    )


def _folds(steps: _Steps) -> list[_Steps]:
    """Stretches of a line: one that is to be folded is longer than one step."""
    stretches: list[list[tuple[BranchNode, tuple[_Line, ...]]]] = []
    is_open = False
    for step in steps:
        node, aside = step
        plain = not aside and not node.is_tip
        if plain and is_open:
            stretches[-1].append(step)
        else:
            stretches.append([step])
        is_open = plain
    shown: list[_Steps] = []
    for stretch in stretches:
        if len(stretch) <= _MOST_STEPS:
            shown += [[each] for each in stretch]
            continue
        begin, end = stretch[:_KEPT_AT_ENDS], stretch[-_KEPT_AT_ENDS:]
        shown += [[each] for each in begin]
        shown.append(stretch[_KEPT_AT_ENDS:-_KEPT_AT_ENDS])
        shown += [[each] for each in end]
    return shown


def _text(steps: _Steps, spoken: _Spoken) -> Iterable[str]:
    before = ""
    for stretch in _folds(steps):
        node, aside = stretch[0]
        if len(stretch) > 1:
            yield f"⋮ {format_count(len(stretch), 'more step')}"
        else:
            tip = f" [{_tip(node)}]" if node.is_tip else ""
            yield f"{_mark(node)} {_words(node, before, spoken)}{tip}"
            for line in aside:
                first, *others = _text(line.steps, spoken)
                yield f"├─ {first}"
                yield from (f"│  {each}" for each in others)
        before = stretch[-1][0].name


def _html(steps: _Steps, spoken: _Spoken) -> str:
    items, before = [], ""
    for stretch in _folds(steps):
        lines = []
        for node, aside in stretch:
            forks = "".join(f'<ul style="{_INSET}">{_html(line.steps, spoken)}</ul>' for line in aside)
            lines.append(f"<li>{_html_node(node, before, spoken)}{forks}</li>")
            before = node.name
        if len(stretch) > 1:
            summary = f"<summary>{format_count(len(stretch), 'more step')}</summary>"
            lines = [f'<li><details>{summary}<ul style="{_LIST}">{"".join(lines)}</ul></details></li>']
        items += lines
    return "".join(items)


def _html_node(node: BranchNode, before: str, spoken: _Spoken) -> str:
    tip = f'<span style="{_TIP}">{escaped(_tip(node))}</span>' if node.is_tip else ""
    mark = f'<span aria-hidden="true">{_mark(node)}</span>'
    return f"{mark} {escaped(_words(node, before, spoken))}{tip}"


def _tip(node: BranchNode) -> str:
    named = ", ".join(filter(None, node.ending))
    return f"tip of {named}" if named else "tip"


def _mark(node: BranchNode) -> str:
    return "●" if node.is_tip else "○"


def _words(node: BranchNode, before: str, spoken: _Spoken) -> str:
    """Its label and its id; and its branch, where that is neither told already nor about to be."""
    label = f"{node.label} " if node.label else ""
    branch = f" on {node.name}" if node.name not in ("", before, *node.ending) else ""
    gone = ", went on from one that is deleted" if node.parent in spoken.lost else ""
    return f"{label}{spoken.ids[node.id]}{branch}{gone}"
