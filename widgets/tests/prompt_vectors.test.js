// One prompt, one hash in Python and in JavaScript: tests/prompts/vectors.json, checked from this side.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as check from "../../tests/prompts/check_vectors.mjs";

const vectors = JSON.parse(readFileSync(new URL("../../tests/prompts/vectors.json", import.meta.url), "utf8"));

for (const { name, value, canonical } of vectors.canonical) {
  test(`canonical: ${name}`, () => assert.equal(check.canonical(check.decoded(value)), canonical));
}

for (const { name, value } of vectors.refused) {
  test(`refused: ${name}`, () => assert.throws(() => check.canonical(check.decoded(value)), TypeError));
}

for (const [kind, of] of Object.entries({
  file_maps: check.fileMapHash,
  blocks: check.blockHash,
  messages: check.messageHash,
  schemas: check.schemaHash,
  tools: check.toolsHash,
  requests: (asked) => check.requestHash(asked, vectors.fields),
  prefixes: (given) => check.prefixHashes(given.get("hashes"), given.get("root")),
  rendered: (given) => check.renderedHash(given.get("renderer"), given.get("body")),
})) {
  for (const { name, value, hash } of vectors[kind]) {
    test(`${kind}: ${name}`, () => assert.deepEqual(of(check.decoded(value)), hash));
  }
}
