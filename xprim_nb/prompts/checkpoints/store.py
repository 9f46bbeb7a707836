"""The checkpoint store: states of a scaffold's work by their content, as a tree with named branches, and an audit trail.

A checkpoint is its content: saved again after the same parent it is the same, with the same id. A branch is a tip, a name
that is moved on by each save. What is kept had its secrets taken out first, and shares its values with LangGraph's
checkpoints in the same database.

    async with CheckpointStore.open("runs.sqlite", redactor=redactor) as store:
        first = await store.save(scaffold.hash, {"plan": ["read", "write"]})
        await store.add_trace(first.id, "read", inputs={"path": "a.py"}, outputs="…", duration_s=0.1)
        await store.branch_from("main", "bolder")
        assert (await store.verify()).is_whole

Source: spec 6 §Checkpoints; seeds/001 (CheckpointStore, GraphNodeStore).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xprim_nb.prompts.values import JsonValue

from . import finding, saving, trail
from .database import Session
from .naming import check_label, check_limit, check_name, check_scaffold
from .note_store import NOTHING, NoteStore, check_mapping
from .saved import AuditReport, AuditRow, Checkpoint, GraphNode, TreeNode
from .sqlite_database import SqliteDatabase

__all__ = ["CheckpointStore"]

_DEFAULT_LIMIT = 100


class CheckpointStore(NoteStore):
    """Saved checkpoints in a database, a saver's own included; see `NoteStore` for how it is made."""

    # --- checkpoints -----------------------------------------------------------------------------

    async def save(
        self,
        scaffold: str,
        state: Mapping[str, JsonValue],
        name: str = "main",
        *,
        nodes: Sequence[GraphNode] = (),
        parent: str | None = None,
        label: str = "",
        metadata: Mapping[str, JsonValue] = NOTHING,
    ) -> Checkpoint:
        """The checkpoint, once it is kept, and its branch ends in it.

        Args:
            scaffold: Its hash or name.
            state: JSON values by name.
            name: The branch; begun when there is none.
            nodes: The plan, modules and files that it is made of; their ids are given here.
            parent: Id or branch that it follows; None for wherever the branch ends.
            label: What a person calls it; one line.
            metadata: Whatever else is to be kept.

        Raises:
            ConfigError: A name may not be, something is no JSON, or the branch has gone on from the parent meanwhile.
            CheckpointNotFoundError: There is no such parent.
        """
        check_mapping(state, "state")
        check_mapping(metadata, "metadata")
        scaffold, name = check_scaffold(scaffold, self._redactor), check_name(name, self._redactor)
        label, at = check_label(label, self._redactor), self._clock()

        def save() -> Checkpoint:
            # Made on this thread, for hashing a large state takes a while.
            payload = self._draft("checkpoint", {"state": state, "metadata": metadata})
            drafts = tuple(self._node(node) for node in nodes)
            draft = saving.CheckpointDraft(scaffold, name, label, parent, payload, drafts, at)
            payloads = (payload, *(node.payload for node in drafts))

            def work(session: Session) -> finding.Found:
                return finding.read_checkpoint(session, saving.save_checkpoint(session, draft), payloads)

            found = self.database.write(work)
            return found.checkpoint(self._serde)

        return await self.database.aside(save)

    async def get(self, checkpoint: str, *, scaffold: str | None = None) -> Checkpoint:
        """The checkpoint of this id (its first 8 digits suffice), or the tip of this branch.

        Raises:
            CheckpointNotFoundError: There is none.
            ConfigError: There are several: two scaffolds have a branch of this name, say.
        """

        def get(session: Session) -> finding.Found:
            return finding.read_checkpoint(session, finding.find_id(session, checkpoint, scaffold)[0])

        return (await self.database.aread(get)).checkpoint(self._serde)

    async def branch_from(self, checkpoint: str, name: str, *, scaffold: str | None = None) -> Checkpoint:
        """The checkpoint, in which a new branch of this name ends from now on.

        Raises:
            CheckpointNotFoundError: There is no such checkpoint.
            ConfigError: The name may not be, or its scaffold has a branch of this name that ends elsewhere.
        """
        name, at = check_name(name, self._redactor), self._clock()

        def branch(session: Session) -> finding.Found:
            return finding.read_checkpoint(
                session, saving.begin_branch(session, checkpoint, name, scaffold, at)
            )

        return (await self.database.awrite(branch)).checkpoint(self._serde)

    async def list(
        self,
        limit: int = _DEFAULT_LIMIT,
        *,
        scaffold: str | None = None,
        branch: str | None = None,
        before: str | None = None,
    ) -> tuple[TreeNode, ...]:
        """Checkpoints, newest first, without what they hold.

        Args:
            limit: At most so many.
            scaffold: Only this one's.
            branch: Only what led to this branch's tip.
            before: Only those saved before this one: the last of the page before.
        """
        check_limit(limit)
        return await self.database.aread(
            lambda session: finding.history(
                session, limit=limit, scaffold=scaffold, branch=branch, before=before
            )
        )

    async def tree(self, scaffold: str | None = None) -> tuple[TreeNode, ...]:
        """Every checkpoint, parents before children."""
        return await self.database.aread(lambda session: finding.tree(session, scaffold, tips=False))

    async def branches(self, scaffold: str | None = None) -> tuple[TreeNode, ...]:
        """The tip of each branch, under the branch's name."""
        return await self.database.aread(lambda session: finding.tree(session, scaffold, tips=True))

    async def node(self, node: str) -> GraphNode:
        """The node of this id; CheckpointNotFoundError when no checkpoint has it."""
        return await self.database.aread(lambda session: finding.read_node(session, node, self._serde))

    async def delete(self, checkpoint: str, *, scaffold: str | None = None) -> None:
        """Take a checkpoint away with its artifacts and traces; a branch that ended in it ends in its parent.

        Raises:
            CheckpointNotFoundError: There is none.
            ConfigError: Others follow it, or there are several.
        """
        at = self._clock()
        await self.database.awrite(
            lambda session: saving.delete_checkpoint(session, checkpoint, scaffold, at), alone=True
        )

    async def erase(self, payload: str) -> None:
        """Take away what a checkpoint, node, artifact or trace holds, and all else that holds the very same.

        The digest stays, and the audit trail still verifies. A saver's thread that has an equal value keeps it. Of
        a SQLite file the bytes are overwritten, and out of its log when the last one that has it open closes it; a
        PostgreSQL server overwrites them when it vacuums. Backups are the caller's.

        Raises:
            CheckpointNotFoundError: There is no such payload.
        """
        at = self._clock()

        def erase(session: Session) -> None:
            if isinstance(self.database, SqliteDatabase):
                session.rows("PRAGMA secure_delete = ON")  # else the bytes would stay in free pages
            saving.erase_payload(session, payload, at)

        await self.database.awrite(erase, alone=True)

    async def compact(self) -> int:
        """Give back the room of what was deleted and erased; so many bytes less. See `Database.compact`."""
        return await self.database.aside(self.database.compact)

    # --- audit -----------------------------------------------------------------------------------

    async def verify(self, *, known_head: str = "", contents: bool = True) -> AuditReport:
        """What is not as it was written; see `trail`.

        Args:
            known_head: The head of an earlier report, kept elsewhere.
            contents: Read every payload too, and compare it with its digest.
        """
        return await self.database.aread(
            lambda session: trail.verify(session, self._serde, known_head=known_head, contents=contents)
        )

    async def audit(self, limit: int = _DEFAULT_LIMIT) -> tuple[AuditRow, ...]:
        """The last things that were done, newest first."""
        check_limit(limit)
        return tuple(
            await self.database.aread(lambda session: trail.rows_of(session, limit=limit, newest=True))
        )

    def _node(self, node: GraphNode) -> saving.NodeDraft:
        parts = {
            "state": node.state,
            "inputs": node.inputs,
            "outputs": node.outputs,
            "metadata": node.metadata,
        }
        return saving.draft_node(node.kind, self._redactor.text(node.name), self._draft("node", parts))
