// The pull panel: rows come and go, buttons say their word, the focus stays, nothing is left behind.
import assert from "node:assert/strict";
import test from "node:test";

import { show } from "./dom.js";
import view from "../xprim_widgets/static/pulls.js";

const row = (ref, state, buttons, more = {}) => ({
  ref, state, buttons, line: `${state} line`, hint: "", percent: 40, reused: 10, fetched: 30, chunk_map: "2310", ...more,
});
const RUNNING = row("demo/big v1", "running", ["pause", "cancel"]);

test("a row has a bar of two tones that reads out how far it is", async () => {
  const { root, close } = await show(view, { rows: [RUNNING], empty: "nothing" });
  const bar = root.querySelector('[role="progressbar"]');
  assert.equal(bar.getAttribute("aria-valuenow"), "40");
  assert.equal(bar.getAttribute("aria-valuetext"), "40 %, running: running line");
  assert.deepEqual([...bar.children].map((each) => each.style.width), ["10%", "30%"]);
  assert.equal(root.querySelector(".xprim-map").getAttribute("aria-label"),
    "1 stretches were here, 1 fetched, 1 in flight, 1 missing");
  close();
});

test("buttons say what is wanted of which pull", async () => {
  const { root, model, close } = await show(view, { rows: [RUNNING], empty: "" });
  const [pause, cancel] = root.querySelectorAll(".xprim-actions button");
  assert.equal(pause.getAttribute("aria-label"), "Pause demo/big v1");
  pause.click();
  cancel.click();
  assert.deepEqual(model.sent, [{ op: "pause", ref: "demo/big v1" }, { op: "cancel", ref: "demo/big v1" }]);
  close();
});

test("while progress comes in, the focused button stays the same element", async () => {
  const { root, model, close } = await show(view, { rows: [RUNNING], empty: "" });
  const pause = root.querySelector(".xprim-actions button");
  pause.focus();
  model.set("rows", [{ ...RUNNING, percent: 50 }, row("demo/other v1", "queued", ["cancel"])]);
  assert.equal(document.activeElement, pause);
  model.set("rows", [{ ...RUNNING, state: "paused", buttons: ["resume", "cancel"] }]);
  assert.equal(document.activeElement.textContent, "Resume");
  assert.equal(root.querySelectorAll(".xprim-row").length, 1);
  close();
});

test("what is read out changes with the state and at each quarter, not with every byte", async () => {
  const { root, model, close } = await show(view, { rows: [RUNNING], empty: "" });
  const said = root.querySelector('[role="status"]');
  assert.equal(said.textContent, "demo/big v1: running, 40 %");
  model.set("rows", [{ ...RUNNING, percent: 45 }]);
  assert.equal(said.textContent, "demo/big v1: running, 40 %");
  model.set("rows", [{ ...RUNNING, percent: 51 }]);
  assert.equal(said.textContent, "demo/big v1: running, 51 %");
  close();
});

test("without pulls it says how to start one", async () => {
  const { root, close } = await show(view, { rows: [], empty: "Start one." });
  assert.equal(root.querySelector("p").textContent, "Start one.");
  assert.equal(root.querySelector("p").hidden, false);
  close();
});

test("hostile names and lines are text", async () => {
  const text = `<img src=x onerror=alert(1)>"'&`;
  const { root, close } = await show(view, { rows: [row(text, "failed", ["retry"], { line: text, hint: text })], empty: "" });
  assert.equal(root.querySelectorAll("img").length, 0);
  assert.equal(root.querySelector(".xprim-ref").textContent, text);
  close();
});

test("a view that is closed listens to nothing", async () => {
  const { model, close } = await show(view, { rows: [RUNNING], empty: "" });
  close();
  assert.equal(model.listening, 0);
});
