"""What the checkpoint store takes and gives: checkpoints, their nodes, what was noted and called on the way, the audit.

Source: seeds/001 (Checkpoint, GraphNode, ScratchpadArtifact, ToolTrace); spec 6 §Checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from xprim_nb.prompts.values import JsonValue, Value

__all__ = [
    "ArtifactKind",
    "AuditFault",
    "AuditReport",
    "AuditRow",
    "Checkpoint",
    "GraphNode",
    "NodeKind",
    "Purity",
    "ScratchpadArtifact",
    "ToolTrace",
    "TreeNode",
]

NodeKind: TypeAlias = Literal["plan", "module", "file"]
ArtifactKind: TypeAlias = Literal["note", "code", "test", "lint"]
Purity: TypeAlias = Literal["pure", "idempotent", "effect"]

_Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Json: TypeAlias = Mapping[str, JsonValue]


class GraphNode(Value):
    """One step of a plan, a module or a file, with what went in and what came out.

    Attributes:
        kind: What it is about.
        name: Of the step, the module, or the file's path.
        state: Where it stands.
        inputs: What it was given.
        outputs: What it made.
        metadata: Whatever else is to be kept.
        id: Given by the store: the hash of all above, so that equal nodes are the same.
        payload: Given by the store: the digest of what `erase` takes away.
        is_erased: True when the payload was erased; state, inputs, outputs and metadata are empty then.
    """

    kind: NodeKind
    name: _Line
    state: _Json = Field(default_factory=dict)
    inputs: _Json = Field(default_factory=dict)
    outputs: _Json = Field(default_factory=dict)
    metadata: _Json = Field(default_factory=dict)
    id: str = ""
    payload: str = ""
    is_erased: bool = False


class Checkpoint(Value):
    """A state that was saved.

    Attributes:
        id: The hash of its scaffold, parent, label, payload and nodes; what is equal in these is the same checkpoint.
        scaffold: The scaffold's hash or name.
        name: The branch that it was first saved on.
        label: What a person calls it.
        parent: The id of the one that it follows; None at a root.
        state: As it was saved, without its secrets.
        metadata: As it was saved, without its secrets.
        nodes: In the order in which they were saved.
        branches: Those whose tip it is.
        payload: The digest of state and metadata, which `erase` takes.
        is_erased: True when these were erased, and are empty.
        at: When it was first saved, in seconds since 1970.
    """

    id: str
    scaffold: str
    name: str
    label: str
    parent: str | None
    state: _Json
    metadata: _Json
    nodes: tuple[GraphNode, ...]
    branches: tuple[str, ...]
    payload: str
    is_erased: bool
    at: float


class TreeNode(Value):
    """A checkpoint as a tree shows it: all but what it holds. `branches` are those whose tip it is."""

    id: str
    parent: str | None
    scaffold: str
    name: str
    label: str
    at: float
    branches: tuple[str, ...]
    is_tip: bool


class ScratchpadArtifact(Value):
    """What was written down on the way. `span` is the id of the span it came from, `payload` what `erase` takes."""

    id: str
    checkpoint: str
    kind: ArtifactKind
    content: str
    metadata: _Json
    span: str
    payload: str
    is_erased: bool
    at: float


class ToolTrace(Value):
    """One call of a tool.

    Attributes:
        id: Of this call alone: two equal calls are two.
        checkpoint: The one that it was made after.
        tool: The tool's name.
        inputs: What it was given, without secrets.
        outputs: What it gave, without secrets.
        duration_s: How long it took, in seconds.
        success: False when it failed.
        error: Why it failed; empty when it did not.
        purity: `pure` may be left out when replayed, `idempotent` may be repeated, `effect` is done once.
        span: The id of the span it ran in, or empty.
        payload: The digest of inputs, outputs and error, which `erase` takes.
        is_erased: True when these were erased, and are empty.
        at: When it was kept, in seconds since 1970.
    """

    id: str
    checkpoint: str
    tool: str
    inputs: _Json
    outputs: JsonValue
    duration_s: float
    success: bool
    error: str
    purity: Purity
    span: str
    payload: str
    is_erased: bool
    at: float


class AuditRow(Value):
    """One thing that was done.

    Attributes:
        number: From 1, without gaps.
        at: When, in seconds since 1970.
        action: `add`, `move` or `delete`; of a payload, `erase` or `restore`.
        kind: What it was done to: `checkpoint`, `branch`, `artifact`, `trace` or `payload`.
        subject: Its id; of a branch, its scaffold and name.
        record: The hash of its row after that; empty when it is gone.
        payloads: The digests of what it holds.
        before: The digest of the row before this one.
        digest: The hash of all above.
    """

    number: int
    at: float
    action: str
    kind: str
    subject: str
    record: str
    payloads: tuple[str, ...]
    before: str
    digest: str


class AuditFault(Value):
    """What is not as it was written: its kind (`audit` for the trail itself), its id or number, and what is off."""

    kind: str
    subject: str
    what: str


class AuditReport(Value):
    """What `verify` found.

    Attributes:
        rows: How many were looked at.
        head: The digest of the last one. Kept elsewhere, it later proves that nobody wrote the whole trail anew.
        faults: Empty when everything is as it was written.
    """

    rows: int
    head: str
    faults: tuple[AuditFault, ...]

    @property
    def is_whole(self) -> bool:
        """True when nothing was tampered with."""
        return not self.faults
