"""The tables of the checkpoint store, as one migration that both databases carry out. Never edit it once it has landed.

    xprim_branches ──▶ xprim_saved ──▶ xprim_nodes
                            ▲   │           │ payload       (a digest)
    xprim_artifacts, xprim_traces ──▶ xprim_payloads ──▶ xprim_blobs     held by thread 0, which no saver has
    xprim_audit ──▶ xprim_audit_head                                     what was done, each row over the one before

Source: spec 6 §Checkpoints; seeds/001 (Checkpoint, GraphNode, ScratchpadArtifact, ToolTrace).
"""

from __future__ import annotations

__all__ = ["STORE"]

STORE = """
CREATE TABLE xprim_payloads (
    digest {text} PRIMARY KEY,
    manifest {bytes}
);
CREATE TABLE xprim_saved (
    number {serial},
    id {text} NOT NULL UNIQUE,
    scaffold {text} NOT NULL,
    name {text} NOT NULL,
    label {text} NOT NULL,
    parent {text},
    payload {text} NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE INDEX xprim_saved_by_scaffold ON xprim_saved (scaffold, number);
CREATE INDEX xprim_saved_by_parent ON xprim_saved (parent);
CREATE INDEX xprim_saved_by_payload ON xprim_saved (payload);
CREATE TABLE xprim_nodes (
    checkpoint {text} NOT NULL,
    position {integer} NOT NULL,
    id {text} NOT NULL,
    kind {text} NOT NULL,
    name {text} NOT NULL,
    payload {text} NOT NULL,
    PRIMARY KEY (checkpoint, position)
);
CREATE INDEX xprim_nodes_by_id ON xprim_nodes (id);
CREATE INDEX xprim_nodes_by_payload ON xprim_nodes (payload);
CREATE TABLE xprim_branches (
    scaffold {text} NOT NULL,
    name {text} NOT NULL,
    checkpoint {text} NOT NULL,
    PRIMARY KEY (scaffold, name)
);
CREATE INDEX xprim_branches_by_checkpoint ON xprim_branches (checkpoint);
CREATE TABLE xprim_artifacts (
    number {serial},
    id {text} NOT NULL UNIQUE,
    checkpoint {text} NOT NULL,
    kind {text} NOT NULL,
    span {text} NOT NULL,
    payload {text} NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE INDEX xprim_artifacts_by_checkpoint ON xprim_artifacts (checkpoint, number);
CREATE INDEX xprim_artifacts_by_payload ON xprim_artifacts (payload);
CREATE TABLE xprim_traces (
    number {serial},
    id {text} NOT NULL UNIQUE,
    checkpoint {text} NOT NULL,
    tool {text} NOT NULL,
    duration_s DOUBLE PRECISION NOT NULL,
    success {integer} NOT NULL,
    purity {text} NOT NULL,
    span {text} NOT NULL,
    payload {text} NOT NULL,
    at DOUBLE PRECISION NOT NULL
);
CREATE INDEX xprim_traces_by_checkpoint ON xprim_traces (checkpoint, number);
CREATE INDEX xprim_traces_by_payload ON xprim_traces (payload);
CREATE TABLE xprim_audit (
    number {integer} PRIMARY KEY,
    at DOUBLE PRECISION NOT NULL,
    action {text} NOT NULL,
    kind {text} NOT NULL,
    subject {text} NOT NULL,
    record {text} NOT NULL,
    payloads {text} NOT NULL,
    before {text} NOT NULL,
    digest {text} NOT NULL
);
CREATE TABLE xprim_audit_head (
    id {integer} PRIMARY KEY,
    number {integer} NOT NULL,
    digest {text} NOT NULL
);
INSERT INTO xprim_audit_head (id, number, digest) VALUES (1, 0, '');
"""
