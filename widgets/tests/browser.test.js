// The browser's front end: its pure rows, and the view on a fake model.
import assert from "node:assert/strict";
import { test } from "node:test";
import { show } from "./dom.js";
import browser from "../xprim_widgets/static/browser.js";
import { filter, fitsText, primary, readCatalogue, readMarks, registryText, sizeText, sort } from "../xprim_widgets/static/browser_rows.js";

const HOSTILE = '<img src=x onerror="hacked=1">';
const CATALOGUE = {
  names: ["demo/tiny", "demo/tiny", "demo/tiny", "other/base"],
  versions: ["latest", "v2", "v10", "q4"],
  sizes: [3 << 20, 2 << 20, 3 << 20, -1],
  quantisations: { words: ["fp16", ""], codes: [0, 0, 0, 1] },
  licences: { words: ["mit", HOSTILE], codes: [0, 0, 0, 1] },
  aliases: [[0, "v10"]],
};
const TRAITS = {
  catalogue: CATALOGUE,
  marks: { installed: [1, 3], update: [3] },
  fetches: [[2, 1 << 20, 3 << 20]],
  pulls: [],
  free: { disk: 5 << 20, memory: 2 << 20 },
  registry: { asking: false, listed: true, confirmed_at: Date.now() / 1000 - 200, why_stale: "", offline: true },
  card: {}, confirm: {}, picked: { refs: [], turn: 0 }, news: "",
};

function table() {
  const made = readCatalogue(CATALOGUE);
  readMarks(made, TRAITS.marks, TRAITS.fetches, TRAITS.free);
  return made;
}
const find = (text, ...facets) => filter(table(), [0, 1, 2, 3], text, new Set(facets)).found;
const settled = () => new Promise((done) => setTimeout(done, 0));
const buttons = (root, label) => [...root.querySelectorAll("button")].filter((each) => each.getAttribute("aria-label") === label);
const type = (root, text) => {
  const search = root.querySelector("input[type=search]");
  search.value = text;
  search.dispatchEvent(new Event("input"));
};

test("every word of a search must occur, in any order and case, and an alias is found by what it names", () => {
  assert.deepEqual(find("V2 TINY"), [1]);
  assert.deepEqual(find("demo/tiny@v10"), [0, 2]);
  assert.deepEqual(find("mit base"), []);
  assert.deepEqual(find(""), [0, 1, 2, 3]);
});

test("chips of where a model is widen each other, chips of what fits narrow", () => {
  assert.deepEqual(find("", "installed"), [1, 3]);
  assert.deepEqual(find("", "installed", "remote"), [0, 1, 2, 3]);
  assert.deepEqual(find("", "update"), [3]);
  assert.deepEqual(find("", "memory"), [1]);
  assert.deepEqual(find("", "disk", "remote"), [0, 2]);
  assert.deepEqual(filter(table(), [0, 1, 2, 3], "tiny", new Set(["update"])).counts,
    { installed: 1, remote: 2, update: 0, disk: 3, memory: 1, gpu: 0 });
});

test("what fits a GPU is asked only where there is one", async () => {
  const { model, root, close } = await show(browser, TRAITS);
  await settled();
  const chip = () => [...root.querySelectorAll(".xprim-chip")].find((each) => each.textContent.startsWith("fits this GPU"));
  assert.equal(chip().hidden, true);
  model.set("free", { ...TRAITS.free, gpu: 2 << 20 });
  await new Promise((done) => setTimeout(done, 60)); // it draws with the next frame
  assert.equal(chip().hidden, false);
  assert.equal(chip().textContent, "fits this GPU 1");
  chip().click();
  assert.equal(chip().getAttribute("aria-pressed"), "true");
  assert.equal(root.querySelectorAll("tbody").length, 1);
  model.set("free", TRAITS.free);
  await new Promise((done) => setTimeout(done, 60));
  assert.equal(chip().hidden, true);
  assert.equal(chip().getAttribute("aria-pressed"), "false");
  assert.equal(root.querySelectorAll("tbody").length, 4);
  close();
});

test("versions sort by their numbers, and what is not known stands last either way", () => {
  assert.deepEqual(sort(table(), "version", false), [0, 3, 1, 2]);
  assert.deepEqual(sort(table(), "size", false), [1, 0, 2, 3]);
  assert.deepEqual(sort(table(), "size", true), [0, 2, 1, 3]);
  assert.deepEqual(sort(table(), "installed", false), [3, 1, 0, 2]);
});

test("sizes, what fits, and what a row's button does, in words", () => {
  assert.equal(sizeText(table(), 2).replaceAll("\u00a0", " "), "3.0 MB, 1.0 MB to fetch");
  assert.equal(sizeText(table(), 3), "not said");
  assert.equal(fitsText(table(), 1), "yes");
  assert.equal(fitsText(table(), 2), "not in memory");
  const full = table();
  readMarks(full, TRAITS.marks, TRAITS.fetches, { disk: 1 << 20, memory: 9 << 20 });
  assert.equal(fitsText(full, 2).replaceAll("\u00a0", " "), "disk: 2.0 MB short");
  assert.deepEqual([primary(0), primary(1), primary(2), primary(0, "failed")].map(([, label]) => label),
    ["Pull", "Use", "Update", "Retry"]);
});

test("the registry's line tells age and silence", () => {
  const at = { listed: true, asking: false, confirmed_at: 1000, why_stale: "", offline: false };
  assert.equal(registryText(at, 1010), "The registry's list is new");
  assert.equal(registryText({ ...at, offline: true }, 1200), "The registry's list is 3 min old; offline");
  assert.equal(registryText({ ...at, why_stale: "no answer" }, 1000 + 3 * 3600), "The registry's list is 3 h old; no answer");
  assert.equal(registryText({ listed: false, asking: true }, 0), "Asking the registry…");
});

test("the table has a row for each model, and hostile words are text", async () => {
  const { root, close } = await show(browser, TRAITS);
  assert.equal(root.querySelectorAll("tbody").length, 4);
  assert.ok(root.textContent.includes(HOSTILE));
  assert.equal(root.querySelectorAll("img").length, 0);
  assert.ok(root.textContent.includes("3 min old; offline"));
  close();
});

test("typing filters at once, and `/` goes to the search", async () => {
  const { root, close } = await show(browser, TRAITS);
  type(root, "base");
  assert.equal(root.querySelectorAll("tbody").length, 1);
  type(root, "nowhere");
  assert.ok(root.textContent.includes("No model matches."));
  root.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
  assert.equal(document.activeElement, root.querySelector("input[type=search]"));
  close();
});

test("each button sends its word", async () => {
  const { root, model, close } = await show(browser, TRAITS);
  buttons(root, "Pull demo/tiny v10")[0].click();
  buttons(root, "Update other/base q4")[0].click();
  buttons(root, "Remove demo/tiny v2")[0].click();
  buttons(root, "Use demo/tiny v2")[0].click();
  assert.deepEqual(model.sent, [
    { op: "pull", ref: "demo/tiny v10" },
    { op: "pull", ref: "other/base q4" },
    { op: "ask_remove", ref: "demo/tiny v2" },
    { op: "card", ref: "demo/tiny v2" },
  ]);
  assert.equal(root.querySelector(".xprim-use input").value, "path = %xprim path demo/tiny@v2");
  close();
});

test("a pull shows how far it is, and the row flips when the model has come", async () => {
  const { root, model, close } = await show(browser, TRAITS);
  buttons(root, "Pull demo/tiny v10")[0].focus();
  model.set("pulls", [{ ref: "demo/tiny v10", state: "running", percent: 43, line: "1.3 MB of 3.0 MB", hint: "" }]);
  await settled();
  const bar = root.querySelector('[role=progressbar][aria-label="Pull of demo/tiny v10"]');
  assert.equal(bar.getAttribute("aria-valuetext"), "43 %, running: 1.3 MB of 3.0 MB");
  assert.equal(document.activeElement, buttons(root, "Pause demo/tiny v10")[0]);
  model.set("marks", { installed: [1, 2, 3], update: [3] });
  model.set("pulls", []);
  await settled();
  assert.equal(document.activeElement, buttons(root, "Use demo/tiny v10")[0]);
  assert.equal(root.querySelector("[role=status]").textContent, "demo/tiny v10: installed");
  close();
});

test("a removal asks first, with the focus on the harmless answer, and gives the focus back", async () => {
  const { root, model, close } = await show(browser, TRAITS);
  buttons(root, "Remove demo/tiny v2")[0].click();
  model.set("confirm", { ref: "demo/tiny v2", text: "Remove demo/tiny v2? It frees 2.0 MB." });
  await settled();
  assert.equal(document.activeElement, buttons(root, "Keep demo/tiny v2")[0]);
  document.activeElement.click();
  model.set("confirm", {});
  await settled();
  assert.equal(document.activeElement, buttons(root, "Remove demo/tiny v2")[0]);
  model.set("confirm", { ref: "demo/tiny v2", text: "Remove demo/tiny v2? It frees 2.0 MB." });
  await settled();
  buttons(root, "Yes, remove demo/tiny v2")[0].click();
  assert.deepEqual(model.sent.slice(1), [{ op: "keep" }, { op: "remove", ref: "demo/tiny v2" }]);
  close();
});

test("an echo of an older selection takes nothing back", async () => {
  const { root, model, close } = await show(browser, TRAITS);
  const boxes = [...root.querySelectorAll("tbody input")];
  for (const box of boxes.slice(0, 2)) {
    box.checked = true;
    box.dispatchEvent(new Event("change"));
  }
  assert.deepEqual(model.sent.at(-1), { op: "select", refs: ["demo/tiny latest", "demo/tiny v2"], turn: 2 });
  model.set("picked", { refs: ["demo/tiny latest"], turn: 1 });
  await settled();
  assert.deepEqual(boxes.map((box) => box.checked), [true, true, false, false]);
  model.set("picked", { refs: [], turn: 2 });
  await settled();
  assert.ok(boxes.every((box) => !box.checked));
  close();
});

test("where the clipboard is not allowed, the text is shown selected", async () => {
  const { root, close } = await show(browser, { ...TRAITS, picked: { refs: ["demo/tiny v2", "other/base q4"], turn: 1 } });
  [...root.querySelectorAll("button")].find((each) => each.textContent === "Copy as %xprim pull").click();
  await settled();
  const field = root.querySelector("textarea");
  assert.equal(field.hidden, false);
  assert.equal(field.value, "%xprim pull demo/tiny@v2\n%xprim pull other/base@q4");
  assert.equal(document.activeElement, field);
  close();
});

test("the card is built of allowed elements; a link that is none of ours is no link", async () => {
  const { root, model, close } = await show(browser, TRAITS);
  buttons(root, "Card of demo/tiny v2")[0].click();
  assert.ok(root.textContent.includes("Reading the card…"));
  model.set("card", {
    ref: "demo/tiny v2", installed: true, pairs: [["Licence", HOSTILE]], note: "",
    tree: [["h4", {}, "Title"], ["p", { onclick: "hacked()" }, ["a", { href: "javascript:hacked()" }, "x"], ["script", {}, HOSTILE]]],
  });
  await settled();
  const panel = root.querySelector(".xprim-panel");
  assert.equal(panel.querySelector("h4").textContent, "Title");
  assert.equal(panel.querySelectorAll("script, img, [href], [onclick]").length, 0);
  buttons(root, "Close the card")[0].click();
  assert.equal(panel.hidden, true);
  assert.equal(document.activeElement, buttons(root, "Card of demo/tiny v2")[0]);
  close();
});

test("a view that goes leaves no listener", async () => {
  const { model, close } = await show(browser, TRAITS);
  close();
  assert.equal(model.listening, 0);
});
