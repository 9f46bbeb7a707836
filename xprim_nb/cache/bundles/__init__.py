"""What is known of a model, beside its weights: card, documentation, examples, benchmarks, papers.

Comes in: URLs of documents, or an installed model that tells of itself. Goes out: a bundle at
`<base>/info/<group>/<model>/`, whose checksums a user can check with `sha256sum -c metadata/integrity.sha256`
and no Python; documents that load when they are read; a report of the same shape as a model's.

A document that somebody edited is never overwritten: what upstream has is written beside it as `<name>.upstream`.

Source: spec 2 §Information bundle; seeds/000 §Cache architecture.
"""
