// The hashes of `xprim_nb.prompts.identity`, written down once more: what both say of vectors.json is the format.
// Source: RFC 8785; xprim_nb/prompts/identity.py.
import { createHash } from "node:crypto";

const SAFE = 2n ** 53n - 1n;

/** What JSON cannot say itself: `{"«int»": "…"}` is a whole number of any size, `{"«float»": "…"}` any other. */
export function decoded(value) {
  if (Array.isArray(value)) return value.map(decoded);
  if (value === null || typeof value !== "object") return value;
  const keys = Object.keys(value);
  if (keys.length === 1 && keys[0] === "«int»") return BigInt(value[keys[0]]);
  if (keys.length === 1 && keys[0] === "«float»") return Number(value[keys[0]]);
  // Not an assignment to {}: a key called __proto__ is a key.
  return new Map(Object.entries(value).map(([key, each]) => [key, decoded(each)]));
}

/** A string of JSON; half of a surrogate pair is refused. */
function text(value) {
  if (/\p{Surrogate}/u.test(value)) throw new TypeError("half of a surrogate pair");
  return JSON.stringify(value);
}

/** Canonical JSON of a decoded value. */
export function canonical(value) {
  if (value === null || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "string") return text(value);
  if (typeof value === "bigint") {
    return value >= -SAFE && value <= SAFE ? value.toString() : `{"$int":"${value}"}`;
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new TypeError("no number of JSON");
    return JSON.stringify(value); // ECMAScript's own form, which RFC 8785 is
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const pairs = [...value].map(([key, each]) => [key.startsWith("$") ? `$${key}` : key, each]);
  pairs.sort(([one], [two]) => (one < two ? -1 : 1)); // by UTF-16 units, as strings compare
  return `{${pairs.map(([key, each]) => `${text(key)}:${canonical(each)}`).join(",")}}`;
}

const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const map = (object) => new Map(Object.entries(object));

export function taggedHash(tag, value) {
  return sha256(`${tag}\0${canonical(value)}`);
}

export function fileMapHash(files) {
  const leaves = [...files].map(([path, content]) => [path, sha256(content)]);
  leaves.sort(([one], [two]) => Buffer.compare(Buffer.from(one), Buffer.from(two)));
  return taggedHash("xprim/filemap/v1", leaves);
}

export function blockHash(block) {
  const files = block.get("files") ?? null;
  const type = block.get("type");
  const said = files === null ? { type, content: block.get("content") ?? "" } : { type, files: fileMapHash(files) };
  return taggedHash("xprim/block/v1", map(said));
}

export function prefixHashes(hashes, root) {
  let parent = root;
  return hashes.map((each) => (parent = taggedHash("xprim/prefix/v1", [parent, each])));
}

/** A schema in which the order of keys is told. */
function ordered(value) {
  if (Array.isArray(value)) return value.map(ordered);
  if (!(value instanceof Map)) return value;
  return map({ pairs: [...value].map(([key, each]) => [key, ordered(each)]) });
}

const tool = (each) =>
  map({ name: each.get("name"), description: each.get("description"), parameters: ordered(each.get("parameters")) });

export const schemaHash = (schema) => taggedHash("xprim/schema/v1", ordered(schema));
export const toolsHash = (tools) => taggedHash("xprim/tools/v1", tools.map(tool));
export const messageHash = (message) => taggedHash("xprim/message/v1", message);

/** Of a request with all its fields; `fields` are those that change the answer. */
export function requestHash(asked, fields) {
  const parts = new Map(fields.map((name) => [name, asked.get(name)]));
  parts.set("blocks", asked.get("blocks").map(blockHash));
  parts.set("tools", asked.get("tools").map(tool));
  if (asked.get("response_schema") !== null) parts.set("response_schema", ordered(asked.get("response_schema")));
  return taggedHash("xprim/request/v1", parts);
}

export function renderedHash(renderer, body) {
  return taggedHash("xprim/rendered/v1", [renderer, sha256(body)]);
}
