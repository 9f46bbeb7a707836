// @ts-check
// The browser's rows without a page: read, filtered, sorted, put into words. Works while the kernel is busy.
import { formatBytes } from "./shared.js";

/** The columns that sort, as [key, label]. */
export const COLUMNS = [
  ["name", "Model"], ["version", "Version"], ["size", "Size"], ["quantisation", "Quantisation"],
  ["licence", "Licence"], ["installed", "Installed"], ["fits", "Fits"],
];

/**
 * The chips, as [key, label, what it means]. Of the first kind any may hold, of the second all must.
 * The last one is shown while the engine is open and has an accelerator: only then somebody knows.
 */
export const FACETS = [
  ["installed", "installed", "is on this machine"],
  ["remote", "remote", "is in the registry, and not on this machine"],
  ["update", "update", "the registry has a newer one"],
  ["disk", "fits this disk", "the disk has room for it"],
  ["memory", "fits in memory", "it is smaller than the memory that is free"],
  ["gpu", "fits this GPU", "it is smaller than what models may take of the largest accelerator"],
];
/** A bit for each facet, so that a keystroke asks ten thousand rows for all of them at once. */
const BITS = new Map(FACETS.map(([key], at) => [key, 1 << at]));
const ANY_OF = 0b111;

/**
 * The catalogue as arrays by row number.
 * @param {any} columns what the trait `catalogue` holds
 */
export function readCatalogue(columns) {
  const names = columns.names ?? [];
  const versions = columns.versions ?? [];
  /** @param {any} coded @returns {string[]} */
  const words = (coded) => (coded?.codes ?? []).map((/** @type {number} */ code) => coded.words[code]);
  const quantisations = words(columns.quantisations);
  const licences = words(columns.licences);
  const refs = names.map((/** @type {string} */ name, /** @type {number} */ at) => `${name} ${versions[at]}`);
  const aliases = new Map(columns.aliases ?? []);
  const hay = refs.map((/** @type {string} */ ref, /** @type {number} */ at) =>
    `${ref} ${aliases.get(at) ?? ""} ${quantisations[at]} ${licences[at]}`.toLowerCase());
  return {
    length: refs.length, refs, hay, names, versions, aliases, quantisations, licences,
    sizes: columns.sizes ?? [],
    number: new Map(refs.map((/** @type {string} */ ref, /** @type {number} */ at) => [ref, at])),
    marks: new Uint8Array(refs.length),
    facets: new Uint8Array(refs.length),
    fetches: new Map(),
    free: { disk: Infinity, memory: Infinity, gpu: 0 },
  };
}

/** What changes: which rows are installed, what pulls would fetch, what is free. @param {any} table */
export function readMarks(table, marks = {}, fetches = [], free = {}) {
  table.marks.fill(0);
  for (const at of marks.installed ?? []) table.marks[at] = 1;
  for (const at of marks.update ?? []) table.marks[at] = 2;
  table.fetches = new Map(fetches.map(([at, bytes, needed]) => [at, { bytes, needed }]));
  table.free = { disk: free.disk ?? Infinity, memory: free.memory ?? Infinity, gpu: free.gpu ?? 0 };
  for (let at = 0; at < table.length; at += 1) {
    const mark = table.marks[at];
    const needed = neededOf(table, at);
    const size = table.sizes[at];
    table.facets[at] =
      (mark > 0 ? 1 : 2) | (mark === 2 ? 4 : 0)
      | (needed >= 0 && needed <= table.free.disk ? 8 : 0) | (size >= 0 && size <= table.free.memory ? 16 : 0)
      | (size >= 0 && size <= table.free.gpu ? 32 : 0);
  }
}

/** What a version needs of a disk: nothing when it is here. @param {any} table @param {number} at */
function neededOf(table, at) {
  return table.marks[at] === 1 ? 0 : (table.fetches.get(at)?.needed ?? table.sizes[at]);
}

/**
 * The numbers of the rows that are wanted, in order; and how many of those that the text finds each facet has.
 * @param {any} table
 * @param {number[]} order all rows in order
 * @param {string} text every word of it must occur
 * @param {Set<string>} facets
 */
export function filter(table, order, text, facets) {
  const words = text.toLowerCase().replaceAll("@", " ").split(/\s+/).filter(Boolean);
  const bits = [...facets].reduce((sum, facet) => sum | (BITS.get(facet) ?? 0), 0);
  const any = bits & ANY_OF;
  const all = bits & ~ANY_OF;
  const tally = new Uint32Array(1 << FACETS.length);
  const found = [];
  for (const at of order) {
    if (words.length && !words.every((word) => table.hay[at].includes(word))) continue;
    const own = table.facets[at];
    tally[own] += 1;
    if ((own & all) === all && (!any || own & any)) found.push(at);
  }
  const counts = Object.fromEntries(FACETS.map(([key], place) =>
    [key, tally.reduce((sum, many, own) => sum + (own & (1 << place) ? many : 0), 0)]));
  return { found, counts };
}

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/** Numbers that sort as the texts do, so that ten thousand texts are compared once each. @param {string[]} texts */
function ranks(texts) {
  const rank = new Map([...new Set(texts)].sort(collator.compare).map((text, at) => [text, at]));
  return texts.map((text) => (text ? rank.get(text) : Infinity));
}

/**
 * Every row's number, in the order of a column; what is not known stands last either way.
 * @param {any} table
 * @param {string} column
 * @param {boolean} down
 * @returns {number[]}
 */
export function sort(table, column, down) {
  const numbers = Array.from({ length: table.length }, (_, at) => at);
  if (column === "name" && !down) return numbers;
  const keys =
    column === "name" ? numbers
    : column === "version" ? ranks(table.versions)
    : column === "size" ? table.sizes.map((/** @type {number} */ size) => (size < 0 ? Infinity : size))
    : column === "quantisation" ? ranks(table.quantisations)
    : column === "licence" ? ranks(table.licences)
    : column === "installed" ? numbers.map((at) => [2, 1, 0][table.marks[at]])
    : numbers.map((at) => 2 - ((table.facets[at] >> 3) & 1) - ((table.facets[at] >> 4) & 1));
  const way = down ? -1 : 1;
  return numbers.sort((one, other) => {
    const [a, b] = [keys[one], keys[other]];
    if (a === b) return one - other;
    if (a === Infinity || b === Infinity) return a === Infinity ? 1 : -1;
    return way * (a - b);
  });
}

/** Sizes and their units stay on one line. @param {number} bytes */
const sized = (bytes) => formatBytes(bytes).replace(" ", "\u00a0");

/** @param {any} table @param {number} at */
export function sizeText(table, at) {
  const size = table.sizes[at] < 0 ? "not said" : sized(table.sizes[at]);
  const fetch = table.marks[at] === 1 ? undefined : table.fetches.get(at);
  return fetch === undefined ? size : `${size}, ${sized(fetch.bytes)}\u00a0to\u00a0fetch`;
}

/** @param {any} table @param {number} at */
export function fitsText(table, at) {
  const short = neededOf(table, at) - table.free.disk;
  const said = short > 0 ? [`disk: ${sized(short)} short`] : [];
  if (table.sizes[at] < 0) return said.join() || "not known";
  if (table.sizes[at] > table.free.memory) said.push("not in memory");
  return said.join(", ") || "yes";
}

/** What the first button of a row does. @param {number} mark @param {string} [state] of its pull */
export function primary(mark, state) {
  if (state === "failed") return ["pull", "Retry"];
  if (state === "paused") return ["pull", "Resume"];
  return [["pull", "Pull"], ["use", "Use"], ["pull", "Update"]][mark];
}

/** The line of a cell that uses or pulls a version. @param {string} ref @param {boolean} installed */
export function codeOf(ref, installed) {
  const name = ref.replace(" ", "@");
  return installed ? `path = %xprim path ${name}` : `%xprim pull ${name}`;
}

/** How good the registry's list is. @param {any} registry @param {number} now seconds since the epoch */
export function registryText(registry, now) {
  if (!registry.listed) return registry.asking ? "Asking the registry…" : "The registry's list could not be had.";
  const minutes = Math.max(0, Math.floor((now - registry.confirmed_at) / 60));
  const old = minutes < 1 ? "new"
    : minutes < 60 ? `${minutes} min old`
    : minutes < 2880 ? `${Math.floor(minutes / 60)} h old` : `${Math.floor(minutes / 1440)} days old`;
  const why = registry.offline ? "; offline" : registry.why_stale && !registry.asking ? `; ${registry.why_stale}` : "";
  return `The registry's list is ${old}${why}${registry.asking ? "; asking again…" : ""}`;
}
