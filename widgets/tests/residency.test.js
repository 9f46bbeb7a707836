// The residency panel without a browser: what it draws, what its buttons send, what stays where it was.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { show } from "./dom.js";

const view = (await import("../xprim_widgets/static/residency.js")).default;

const A = "numpy:demo/a v1";
const B = "numpy:demo/b v1";
/** @param {string} key @param {any} [more] */
const row = (key, more = {}) => ({ id: `${key} 1`, key, name: key.slice(6), backend: "numpy", state: "resident", words: "loaded", device: "sim:8gb",
  size: "2.0 GB measured", context: "4,096 tokens", counts: "3 served", idle: "idle for 3 minutes", process: "process 4711, this kernel",
  note: "loaded for cell 4", pinned: false, mine: true, why_not_evict: "", cause: "", percent: null, acts: ["evict", "pin"], ...more });
const ABSENT = row(B, { state: "absent", words: "not loaded", device: "", size: "", acts: ["plan"], counts: "0 served", idle: "", process: "this kernel" });
const CRASH = { id: "4711 1000", title: "demo/a v1: killed from outside", cause: "killed", detail: "It was killed.", facts: "process 4711", lines: ["one", "two"],
  advice: ["Run again."], curve: { points: "0,40 240,2", words: "memory: 1.0 GB at first" } };
const TRAITS = { at: Date.now() / 1000, note: "", known: ["demo/c v1"], news: [], verdict: "1 model awake.", doing: {}, planned: {}, crash: {}, said: "", models: [row(A), ABSENT],
  devices: [{ id: "sim:8gb", name: "simulated GPU", notes: "simulated: nothing is really taken of it", line: "2.0 GB of 8.0 GB taken by models", percent: 37,
    parts: [{ kind: "resident", name: "demo/a v1", words: "loaded", size: "2.0 GB", percent: 25 }, { kind: "external", name: "other programs", words: "", size: "1.0 GB", percent: 12.5 },
      { kind: "free", name: "free", words: "", size: "5.0 GB", percent: 62.5 }] }],
  queue: { rows: [{ id: "r1", position: 1, model: "demo/b v1", priority: "default", reason: "demo/a v1 answers", waited: "3 seconds" }], total: 5 } };
/** @type {any} */
let opened;
/** @param {any} [more] */
const open = async (more = {}) => (opened = await show(view, { ...TRAITS, ...more }));
afterEach(() => opened?.close());
/** @param {any} root @param {string} name */
const find = (root, name) => [...root.querySelectorAll("button")].find((each) => (each.getAttribute("aria-label") ?? each.textContent) === name);

/** What a click says: not that somebody looks. @param {any} model */
const words = (model) => model.sent.filter((/** @type {any} */ each) => each.op !== "watch");

test("a device is a bar with words beside it", async () => {
  const { root } = await open();
  const bar = root.querySelector("[role=meter]");
  assert.equal(bar.getAttribute("aria-label"), "Memory of sim:8gb");
  assert.equal(bar.getAttribute("aria-valuenow"), "37");
  assert.equal(bar.getAttribute("aria-valuetext"), "37 % taken. demo/a v1: 2.0 GB, loaded; other programs: 1.0 GB; free: 5.0 GB");
  assert.deepEqual([...bar.children].map((each) => each.getAttribute("data-kind")), ["resident", "external", "free"]);
  assert.match(root.querySelector(".xprim-device").textContent, /simulated: nothing.*2.0 GB of 8.0 GB.*demo\/a v1: 2.0 GB, loaded.*other programs: 1.0 GB/);
});

test("a row says everything", async () => {
  const { root } = await open();
  const [line] = root.querySelectorAll("tbody");
  assert.match(line.textContent, /demo\/a v1.*numpy.*loaded.*2.0 GB measured on sim:8gb.*context 4,096 tokens.*3 served.*idle for 3 minutes.*process 4711.*loaded for cell 4/);
});

test("buttons send words with the model's key", async () => {
  const { model, root } = await open({ models: [row(A), ABSENT, row("numpy:demo/c v1", { state: "broken", words: "broken", cause: "It crashed.", acts: ["retry"] })] });
  for (const name of ["Evict demo/a v1", "Pin demo/a v1", "Load demo/b v1", "Retry demo/c v1"]) find(root, name).click();
  assert.deepEqual(words(model), [{ op: "evict", key: A }, { op: "pin", key: A }, { op: "plan", key: B }, { op: "retry", key: "numpy:demo/c v1" }]);
  assert.match(root.textContent, /It crashed\./);
});

test("why a model cannot be evicted is there for everybody", async () => {
  const { model, root } = await open({ models: [row(A, { why_not_evict: "It answers 2 requests." })] });
  const evict = find(root, "Evict demo/a v1");
  assert.equal(evict.disabled, true);
  assert.equal(root.querySelector(`#${evict.getAttribute("aria-describedby")}`).textContent, "Evict: It answers 2 requests.");
  assert.equal(find(root, "Pin demo/a v1").disabled, false);
  evict.click();
  assert.deepEqual(words(model), []);
});

test("a plan asks in place", async () => {
  const { model, root } = await open();
  find(root, "Load demo/b v1").focus();
  model.set("planned", { key: B, name: "demo/b v1", lines: ["It would be loaded.", "  demo/a v1 leaves"], go: true });
  assert.match(root.querySelector(".xprim-plan").textContent, /It would be loaded\.\n {2}demo\/a v1 leaves/);
  assert.equal(document.activeElement, find(root, "Load demo/b v1"));
  find(root, "Load demo/b v1 now").click();
  find(root, "Cancel the plan for demo/b v1").click();
  assert.deepEqual(words(model), [{ op: "load", key: B }, { op: "leave" }]);
  model.set("planned", { key: B, name: "demo/b v1", lines: ["It cannot be loaded."], go: false });
  assert.equal(find(root, "Load demo/b v1 now"), undefined);
  assert.ok(find(root, "Close the plan for demo/b v1"));
});

test("progress and counts move in place: no button is lost under the pointer", async () => {
  const loading = { state: "loading", words: "loading", percent: 10, acts: ["evict", "pin"] };
  const { model, root } = await open({ models: [row(A, loading)], doing: { [A]: { line: "loading", stop: true } } });
  const stop = find(root, "Stop: Loading demo/a v1");
  const bar = root.querySelector("[role=progressbar]");
  model.set("models", [row(A, { ...loading, percent: 60, counts: "2 waiting, 3 served" })]);
  assert.equal(find(root, "Stop: Loading demo/a v1"), stop);
  assert.equal(bar.getAttribute("aria-valuenow"), "60");
  assert.match(root.querySelector("tbody").textContent, /2 waiting, 3 served.*loading: 60 %/);
  stop.click();
  assert.deepEqual(words(model), [{ op: "stop", key: A }]);
});

test("what is being done with a model disables its buttons", async () => {
  const { model, root } = await open({ doing: { [B]: { line: "number 1 in the queue", stop: true } } });
  const load = find(root, "Load demo/b v1");
  assert.equal(load.disabled, true);
  assert.match(root.querySelector(`#${load.getAttribute("aria-describedby")}`).textContent, /number 1 in the queue/);
  find(root, "Stop waiting for demo/b v1").click();
  assert.deepEqual(words(model), [{ op: "stop", key: B }]);
  model.set("doing", {});
  assert.equal(find(root, "Load demo/b v1").disabled, false);
});

test("the queue says who waits, for what, since when", async () => {
  const { model, root } = await open();
  const queue = root.querySelector(".xprim-queue");
  assert.match(queue.textContent, /demo\/b v1 · default · waits for 3 seconds.*demo\/a v1 answers/);
  assert.equal(queue.querySelector("li").getAttribute("value"), "1");
  assert.match(root.textContent, /… and 4 more\./);
  model.set("queue", { rows: [], total: 0 });
  assert.equal(queue.parentElement.hidden, true);
});

test("a crash is a card, and is dismissed", async () => {
  const { model, root } = await open({ crash: CRASH });
  const card = root.querySelector(".xprim-crash");
  assert.match(card.textContent, /killed from outside.*It was killed\..*process 4711.*memory: 1.0 GB at first.*Run again\..*one\ntwo/);
  const svg = card.querySelector("svg");
  assert.equal(svg.getAttribute("aria-label"), "memory: 1.0 GB at first");
  assert.equal(svg.firstChild.getAttribute("points"), "0,40 240,2");
  model.set("crash", { ...CRASH });
  assert.equal(root.querySelector(".xprim-crash"), card);
  find(root, "Dismiss the crash of demo/a v1: killed from outside").focus();
  find(root, "Dismiss the crash of demo/a v1: killed from outside").click();
  assert.deepEqual(words(model), [{ op: "read", crash: "4711 1000" }]);
  model.set("crash", {});
  assert.equal(root.querySelector(".xprim-crash"), null);
  assert.equal(document.activeElement, root.querySelector(".xprim-verdict"));
});

test("the same model of another kernel is a row of its own", async () => {
  const theirs = row(A, { id: `${A} 77`, mine: false, why_not_evict: "Evict it in kernel 77.", acts: ["evict"] });
  const { root } = await open({ models: [row(A), theirs], doing: { [A]: { line: "being evicted", stop: false } } });
  assert.equal(root.querySelectorAll("tbody").length, 2);
  const [mine, other] = root.querySelectorAll("tbody");
  assert.match(mine.textContent, /being evicted/);
  assert.doesNotMatch(other.textContent, /being evicted/);
  assert.equal(find(root, "Evict demo/a v1 of another kernel").disabled, true);
});

test("foreign text stays text", async () => {
  const evil = "<img src=x onerror=alert(1)><b>m</b>";
  const { root } = await open({ verdict: evil, said: evil, error: { text: evil, hint: evil },
    note: evil, known: [evil], news: [{ at: 1, text: evil }], models: [row(evil, { name: evil, backend: evil, cause: evil, note: evil, why_not_evict: evil, process: evil, device: evil })],
    devices: [{ id: evil, name: evil, notes: evil, line: evil, percent: 1, parts: [{ kind: "kernel", name: evil, words: evil, size: evil, percent: 100 }] }],
    planned: { key: evil, name: evil, lines: [evil], go: true }, doing: { [evil]: { line: evil, stop: true } },
    queue: { rows: [{ id: evil, position: 1, model: evil, priority: evil, reason: evil, waited: evil }], total: 1 },
    crash: { ...CRASH, title: evil, detail: evil, facts: evil, lines: [evil], advice: [evil], curve: { points: evil, words: evil } } });
  assert.equal(root.querySelector("img, b, script"), null);
  assert.equal(root.querySelector(".xprim-name").textContent, evil);
});

test("what has happened is read out, the first is not", async () => {
  const { model, root } = await open({ said: "old news" });
  const region = root.querySelector(".xprim-said");
  assert.equal(region.textContent, "");
  model.set("said", "demo/a v1 was evicted: demo/b v1 needs its memory.");
  assert.equal(region.textContent, "demo/a v1 was evicted: demo/b v1 needs its memory.");
});

test("without models and devices it says so", async () => {
  const { root } = await open({ models: [], devices: [], queue: { rows: [], total: 0 }, verdict: "No model is awake." });
  assert.equal(root.querySelector("table").hidden, true);
  assert.match([...root.querySelectorAll("p")].filter((each) => !each.hidden).map((each) => each.textContent).join(" "), /No model is awake\. No model has been used here yet/);
});

test("a model in no row is named below, and what concerns it stands there", async () => {
  const { model, root } = await open();
  const field = root.querySelector("input");
  const enter = () => field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  assert.deepEqual([...root.querySelectorAll("datalist option")].map((each) => each.getAttribute("value")), ["demo/c v1"]);
  enter();
  field.value = " demo/c v1 ";
  field.focus();
  enter();
  find(root, "Load another model…").click();
  assert.deepEqual(words(model), [{ op: "ask", name: "demo/c v1" }, { op: "ask", name: "demo/c v1" }]);
  const below = root.querySelector(".xprim-elsewhere");
  model.set("doing", { "demo/c v1": { line: "installing 40 %", stop: true } });
  assert.match(below.textContent, /demo\/c v1installing 40 %/);
  find(root, "Stop waiting for demo/c v1").click();
  assert.deepEqual(words(model).at(-1), { op: "stop", key: "demo/c v1" });
  model.set("doing", {});
  model.set("planned", { key: "demo/c v1", name: "demo/c v1", lines: ["It is not installed."], go: true });
  assert.equal(below.querySelectorAll(".xprim-plan").length, 1);
  assert.equal(document.activeElement, find(root, "Load demo/c v1 now"));
  model.set("planned", { key: B, name: "demo/b v1", lines: ["It is."], go: true });
  assert.equal(below.children.length, 0);
  assert.equal(root.querySelectorAll("tbody .xprim-plan").length, 1);
});

test("what happened is on screen", async () => {
  const { model, root } = await open();
  assert.equal(root.querySelector(".xprim-news").hidden, true);
  model.set("news", [{ at: Date.now() / 1000, text: "demo/a v1 was evicted: demo/b v1 needs room." }]);
  assert.match(root.querySelector(".xprim-news").textContent, /\d\d:\d\d:\d\d demo\/a v1 was evicted/);
});

test("it says that it is looked at, and of when its picture is once none comes any more", async () => {
  mock.timers.enable({ apis: ["setInterval", "Date"], now: TRAITS.at * 1000 });
  try {
    const { model, root, close } = await open();
    const stale = root.querySelector(".xprim-stale");
    assert.deepEqual(model.sent, [{ op: "watch" }]);
    mock.timers.tick(16_000);
    assert.equal(stale.hidden, true);
    mock.timers.tick(5_000);
    assert.match(stale.textContent, /^The kernel is busy, or gone\. This is the picture of \d\d:\d\d:\d\d\.$/);
    model.set("at", TRAITS.at + 20);
    assert.equal(stale.hidden, true);
    mock.timers.tick(10_000);
    assert.deepEqual(model.sent, [{ op: "watch" }, { op: "watch" }]);
    model.set("note", "This toolkit is closed.");
    assert.match(stale.textContent, /^This toolkit is closed\. This is/);
    close();
    mock.timers.tick(120_000);
    assert.equal(model.sent.length, 2);
  } finally {
    mock.timers.reset();
  }
});

test("a picture that was kept for long says so at once", async () => {
  const { root } = await open({ at: TRAITS.at - 3600 });
  assert.match(root.querySelector(".xprim-stale").textContent, /The kernel is busy, or gone/);
});

test("nothing listens when it has gone", async () => {
  const { model, close } = await open();
  close();
  assert.equal(model.listening, 0);
});
