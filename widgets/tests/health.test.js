// The health view without a browser: what it draws, what its buttons send, what stays where it was.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { show } from "./dom.js";

const view = (await import("../xprim_widgets/static/health.js")).default;

const NOW = Date.now() / 1000;
/** @param {string} ref @param {any} [more] */
const row = (ref, more = {}) => Object.values({
  ref, size_bytes: 1024, status: "healthy", depth: "full", checked_at: NOW - 300, found: "", advice: "", acts: [], lines: [], ...more });
const BAD = { status: "failed", found: "Damaged: w.bin", advice: "Repair it.", acts: [["repair", ""], ["rollback", "The backup is torn."]], lines: ["w.bin: chunk 3 is wrong."] };
const TRAITS = { verdict: "1 of 2 models healthy.", facts: ["The registry is far."], changed: {}, work: [], notes: {}, selected: [], said: "",
  rows: [row("demo/good v1"), row("demo/bad v1", BAD)],
  shares: [{ state: "failed", models: 1, size_bytes: 1024, percent: 50 }, { state: "healthy", models: 1, size_bytes: 1024, percent: 50 }] };
/** @type {any} */
let opened;
/** @param {any} [more] */
const open = async (more = {}) => (opened = await show(view, { ...TRAITS, ...more }));
// Also after a failure: its clock would keep the process alive.
afterEach(() => opened?.close());
/** @param {any} root @param {string} name */
const find = (root, name) => [...root.querySelectorAll("button, input")].find((each) =>
  (each.getAttribute("aria-label") ?? each.textContent) === name);
/** @param {any} root */
const names = (root) => [...root.querySelectorAll("tbody .xprim-open")].map((each) => each.textContent);
/** @param {any} input @param {string} text */
const type = (input, text) => {
  input.value = text;
  input.dispatchEvent(new Event("input"));
};

test("it shows the sentence, the bar in words, and the most urgent first", async () => {
  const { root, close } = await open();
  assert.equal(root.querySelector(".xprim-verdict").textContent, "1 of 2 models healthy.");
  assert.equal(root.querySelector(".xprim-bar").getAttribute("aria-label"),
    "Size by health. failed: 1 model, 1.0 KB; healthy: 1 model, 1.0 KB");
  assert.match(root.querySelector(".xprim-key").textContent, /✕failed: 1 model, 1.0 KB/);
  assert.deepEqual(names(root), ["demo/bad", "demo/good"]);
  assert.match(root.querySelector("tbody").textContent, /v1.*1.0 KB.*failed.*5 min ago.*every byte.*Damaged: w.bin.*Repair it/);
  close();
});

test("only what applies has a button, and one that cannot act says why", async () => {
  const { root, close } = await open();
  assert.equal(find(root, "Repair demo/good v1"), undefined);
  assert.equal(find(root, "Repair demo/bad v1").disabled, false);
  const back = find(root, "Roll back demo/bad v1");
  assert.equal(back.disabled, true);
  assert.match(root.querySelector(`#${back.getAttribute("aria-describedby")}`).textContent, /The backup is torn/);
  close();
});

test("buttons send words with plain values", async () => {
  const { model, root, close } = await open();
  find(root, "Repair demo/bad v1").click();
  find(root, "Full check demo/bad v1").click();
  find(root, "Full check").click();
  find(root, "Measure disk").click();
  assert.deepEqual(model.sent, [{ op: "repair", ref: "demo/bad v1" }, { op: "check", refs: ["demo/bad v1"], depth: "full" },
    { op: "check", refs: null, depth: "full" }, { op: "measure" }]);
  close();
});

test("what is ticked is told, and checked alone", async () => {
  const { model, root, close } = await open();
  const box = find(root, "Select demo/good v1");
  box.checked = true;
  box.dispatchEvent(new Event("change"));
  assert.deepEqual(model.sent, [{ op: "select", refs: ["demo/good v1"] }]);
  assert.match(root.querySelector(".xprim-target").textContent, /1 selected/);
  model.set("selected", []); // the answer to an older click
  assert.equal(find(root, "Select demo/good v1").hasAttribute("checked"), true);
  model.set("selected", ["demo/good v1"]);
  model.set("selected", []); // somebody else's
  assert.equal(find(root, "Select demo/good v1").hasAttribute("checked"), false);
  find(root, "Select all that match").checked = true;
  find(root, "Select all that match").dispatchEvent(new Event("change"));
  find(root, "Quick check").click();
  assert.deepEqual(model.sent.at(-1), { op: "check", refs: ["demo/bad v1", "demo/good v1"].sort(), depth: "quick" });
  close();
});

test("it filters and sorts without the kernel", async () => {
  const { model, root, close } = await open();
  [...root.querySelectorAll(".xprim-chip")].find((each) => each.textContent.includes("failed")).click();
  assert.deepEqual(names(root), ["demo/bad"]);
  root.querySelector('.xprim-chip[data-state="all"]').click();
  type(root.querySelector("input[type=search]"), "GOOD");
  assert.deepEqual(names(root), ["demo/good"]);
  assert.equal(root.querySelector(".xprim-said").textContent, "1 of 2 models match");
  type(root.querySelector("input[type=search]"), "none such");
  assert.deepEqual([names(root), [...root.querySelectorAll("p")].some((each) => !each.hidden && /No model/.test(each.textContent))], [[], true]);
  type(root.querySelector("input[type=search]"), "");
  find(root, "Model").click();
  find(root, "Model").click();
  assert.deepEqual(names(root), ["demo/good", "demo/bad"]);
  assert.equal(find(root, "Model").parentElement.getAttribute("aria-sort"), "descending");
  assert.deepEqual(model.sent, []);
  close();
});

test("ten thousand models are paged", async () => {
  const rows = Array.from({ length: 10_000 }, (_, at) => row(`group/model-${String(at).padStart(5, "0")} v1`));
  const { model, root, close } = await open({ rows });
  assert.equal(names(root).length, 25);
  find(root, "Next page").click();
  assert.equal(names(root)[0], "group/model-00025");
  assert.match(root.querySelector(".xprim-pager").textContent, /26–50 of 10,000/);
  model.set("changed", { 30: row("group/model-00030 v1", BAD) });
  find(root, "Previous page").click();
  assert.equal(names(root)[0], "group/model-00030");
  close();
});

test("progress moves in place: no button is lost under the pointer", async () => {
  const { model, root, close } = await open();
  model.set("work", [{ ref: "demo/bad v1", doing: "repair", line: "repairing: 1 of 2 KB", percent: 50, stop: true }]);
  const [bar] = root.querySelectorAll("tbody [role=progressbar]");
  assert.equal(bar.getAttribute("aria-valuetext"), "repairing: 1 of 2 KB");
  assert.match(root.querySelector("tbody").textContent, /Busy: repair/);
  assert.equal(find(root, "Repair demo/bad v1").disabled, true);
  const stop = find(root, "Stop: demo/bad v1");
  model.set("work", [{ ref: "demo/bad v1", doing: "repair", line: "repairing: 2 of 2 KB", percent: null, stop: true }]);
  assert.equal(find(root, "Stop: demo/bad v1"), stop);
  assert.equal(bar.hasAttribute("aria-valuenow"), false);
  stop.click();
  assert.deepEqual(model.sent, [{ op: "stop", ref: "demo/bad v1" }]);
  close();
});

test("a check of all has its bar and its stop, and keeps the focus", async () => {
  const { model, root, close } = await open();
  find(root, "Full check").focus();
  model.set("work", [{ ref: "", doing: "full check", line: "1 of 2 models", percent: 10, stop: true }]);
  assert.equal(find(root, "Full check").disabled, true);
  assert.match(root.querySelector(".xprim-target").textContent, /Busy: full check/);
  assert.equal(document.activeElement, find(root, "Stop: All models"));
  model.set("work", []);
  assert.equal(document.activeElement, find(root, "Full check"));
  close();
});

test("the focus stays on a model, or goes to what is near", async () => {
  const { model, root, close } = await open();
  find(root, "Repair demo/bad v1").focus();
  model.set("rows", [row("demo/good v1"), row("demo/bad v1", { ...BAD, found: "Damaged: other.bin" })]);
  assert.equal(document.activeElement, find(root, "Repair demo/bad v1"));
  model.set("rows", [row("demo/good v1"), row("demo/bad v1")]);
  assert.equal(document.activeElement, find(root, "Details of demo/bad v1"));
  model.set("rows", [row("demo/good v1")]);
  assert.equal(document.activeElement, root.querySelector("input[type=search]"));
  close();
});

test("a plan asks, a receipt is read", async () => {
  const { model, root, close } = await open({ notes: {
    "demo/bad v1": { kind: "ask", title: "Refresh?", lines: ["1 conflict"], go: "refresh", why: "" },
    "demo/good v1": { kind: "ask", title: "Back?", lines: [], go: "rollback", why: "w.bin is missing." } } });
  find(root, "Refresh now").click();
  assert.equal(find(root, "Roll back now").disabled, true);
  assert.match(root.querySelector(`#${find(root, "Roll back now").getAttribute("aria-describedby")}`).textContent, /w.bin is missing/);
  model.set("notes", { "demo/bad v1": { kind: "done", title: "Refreshed", lines: ["1 KB"], go: "", why: "" } });
  assert.match(root.querySelector(".xprim-note").textContent, /Refreshed.*1 KB/);
  find(root, "Dismiss").click();
  assert.deepEqual(model.sent, [{ op: "go", ref: "demo/bad v1" }, { op: "leave", ref: "demo/bad v1" }]);
  close();
});

test("details open under a model", async () => {
  const { root, close } = await open();
  find(root, "Details of demo/bad v1").click();
  assert.equal(find(root, "Details of demo/bad v1").getAttribute("aria-expanded"), "true");
  assert.match(root.querySelector(".xprim-lines").textContent, /chunk 3 is wrong/);
  close();
});

test("foreign text stays text", async () => {
  const evil = "<img src=x onerror=alert(1)>/<b>m</b> v1";
  const { root, close } = await open({ verdict: evil, facts: [evil], said: evil, rows: [row(evil, { ...BAD, found: evil, advice: evil, lines: [evil] })],
    notes: { [evil]: { kind: "trouble", title: evil, lines: [evil], go: "", why: "" } }, error: { text: evil, hint: evil } });
  find(root, `Details of ${evil}`).click();
  assert.equal(root.querySelector("img, b, script"), null);
  assert.equal(names(root)[0], evil.replace(" v1", ""));
  close();
});

test("how it ended and the new verdict are read out, the first one is not", async () => {
  const { model, root, close } = await open();
  assert.equal(root.querySelector(".xprim-said").textContent, "");
  model.set("said", "demo/bad v1 is whole again.");
  assert.equal(root.querySelector(".xprim-said").textContent, "demo/bad v1 is whole again. 1 of 2 models healthy.");
  close();
});

test("nothing listens when it has gone", async () => {
  const { model, close } = await open();
  close();
  assert.equal(model.listening, 0);
});
