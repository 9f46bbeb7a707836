// @ts-check
import { button, el, keepFocus, outlet, watch } from "./shared.js";
import { crashCard, makeDevice } from "./residency_parts.js";
import { faceOf, makeRow, planPanel } from "./residency_rows.js";
import { clock, freshness } from "./residency_watch.js";

let listIds = 0;
const COLUMNS = ["Model", "State", "Takes", "Requests", "Held by", "Actions"];

/** @param {{model: any, el: any}} context */
function render({ model, el: root }) {
  const { errors, region, say, stop } = outlet(model, root, "residency");
  const verdict = el("p", { class: "xprim-verdict", tabindex: -1 });
  const devices = el("div", { class: "xprim-devices", role: "list", "aria-label": "Devices" });
  const crash = el("div", {});
  const table = el("table", { role: "table", "aria-label": "Models" }, el("thead", { role: "rowgroup" },
    el("tr", { role: "row" }, ...COLUMNS.map((name) => el("th", { scope: "col", role: "columnheader" }, name)))));
  const queue = el("ol", { class: "xprim-queue" });
  const more = el("div", { class: "xprim-faint" });
  const waiting = el("section", { "aria-label": "Queue" }, el("div", { class: "xprim-title" }, "Waiting"), queue, more);
  const listId = `xprim-known${(listIds += 1)}`;
  const known = el("datalist", { id: listId });
  const ask = () => {
    if (name.value.trim()) model.send({ op: "ask", name: name.value.trim() });
  };
  const name = el("input", { type: "text", list: listId, placeholder: "demo/tiny-llama v2", "aria-label": "Model to load",
    autocomplete: "off", spellcheck: "false", "data-key": "name|load",
    // Not a form: in JupyterLab Enter submits none.
    onkeydown: (/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter") ask(); } });
  const elsewhere = el("div", { class: "xprim-elsewhere" });
  const field = el("div", { class: "xprim-load" },
    el("div", { class: "xprim-actions" }, name, known, button("Load…", ask, { "aria-label": "Load another model…" })), elsewhere);
  const news = el("ul", {});
  const happened = el("details", { class: "xprim-news", open: true }, el("summary", {}, "What happened"), news);
  const nothing = el("p", { class: "xprim-faint" }, "No model has been used here yet. The first one that is asked for something is shown here.");
  /** @type {Map<string, any>} */
  const bars = new Map();
  /** @type {Map<string, any>} */
  let made = new Map();

  const drawDevices = () => {
    const rows = model.get("devices");
    devices.hidden = rows.length === 0;
    for (const [id, each] of bars) {
      if (rows.some((/** @type {any} */ row) => row.id === id)) continue;
      each.box.remove();
      bars.delete(id);
    }
    rows.forEach((/** @type {any} */ row, /** @type {number} */ at) => {
      const each = bars.get(row.id) ?? makeDevice(row.id);
      bars.set(row.id, each);
      each.update(row);
      if (devices.children[at] !== each.box) devices.insertBefore(each.box, devices.children[at] ?? null);
    });
  };

  const drawModels = () => {
    const rows = model.get("models");
    const doing = model.get("doing");
    const planned = model.get("planned");
    keepFocus(table, verdict, () => {
      const next = new Map();
      for (const row of rows) {
        const job = row.mine || !rows.some((/** @type {any} */ each) => each.mine && each.key === row.key) ? doing[row.key] : undefined;
        const plan = planned.key === row.key && row.mine ? planned : undefined;
        const face = faceOf(row, job, plan);
        let each = made.get(row.id);
        if (each?.face !== face) each = { face, ...makeRow(model, row, job, plan) };
        each.update(row, job);
        next.set(row.id, each);
      }
      made = next;
      const boxes = [...made.values()].map((each) => each.box);
      for (const old of [...table.tBodies]) if (!boxes.includes(old)) old.remove();
      boxes.forEach((box, at) => {
        if (table.tBodies[at] !== box) table.insertBefore(box, table.tBodies[at] ?? null);
      });
    });
    const keys = new Set(rows.filter((/** @type {any} */ row) => row.mine).map((/** @type {any} */ row) => row.key));
    drawElsewhere(Object.entries(doing).filter(([key]) => !keys.has(key)), planned.key && !keys.has(planned.key) ? planned : null);
    table.hidden = rows.length === 0;
    nothing.hidden = rows.length > 0;
  };

  /** What concerns a model that is in no row yet stands where it was named. */
  let elsewhereFace = "";
  const drawElsewhere = (/** @type {any[]} */ jobs, /** @type {any} */ plan) => {
    const face = JSON.stringify([jobs, plan]);
    if (face === elsewhereFace) return;
    elsewhereFace = face;
    keepFocus(elsewhere, name, () => elsewhere.replaceChildren(
      ...jobs.map(([key, job]) => el("div", { class: "xprim-actions" }, el("strong", {}, key), el("span", {}, job.line),
        job.stop ? button("Stop waiting", () => model.send({ op: "stop", key }), { "data-key": `stop|${key}`, "aria-label": `Stop waiting for ${key}` }) : null)),
      ...(plan ? [planPanel(model, plan.key, plan)] : [])));
    const yes = elsewhere.querySelector('[data-key^="load|"]');
    if (yes && document.activeElement === name) yes.focus({ preventScroll: true });
  };

  const drawNews = () => {
    const rows = model.get("news");
    happened.hidden = rows.length === 0;
    news.replaceChildren(...rows.map((/** @type {any} */ row) => el("li", {}, el("span", { class: "xprim-faint" }, `${clock(row.at)} `), row.text)));
  };

  const drawQueue = () => {
    const { rows = [], total = 0 } = model.get("queue");
    waiting.hidden = rows.length === 0;
    queue.replaceChildren(...rows.map((/** @type {any} */ row) => el("li", { value: row.position },
      el("strong", {}, row.model), ` · ${row.priority} · waits for ${row.waited}`, el("div", { class: "xprim-faint" }, row.reason))));
    more.textContent = total > rows.length ? `… and ${(total - rows.length).toLocaleString("en")} more.` : "";
  };

  let shown = "";
  const drawCrash = () => {
    const latest = model.get("crash");
    if (shown === JSON.stringify(latest)) return; // its log may be scrolled to where somebody reads
    shown = JSON.stringify(latest);
    keepFocus(crash, verdict, () =>
      crash.replaceChildren(...(latest.title ? [crashCard(latest, () => model.send({ op: "read", crash: latest.id }))] : [])));
  };

  let quiet = true;
  const tell = () => {
    if (!quiet) say(model.get("said"));
    quiet = false;
  };

  root.setAttribute("data-lm-suppress-shortcuts", "true"); // keys typed here are not the notebook's
  const fresh = freshness(model, root);
  root.append(errors, verdict, fresh.line, devices, crash, table, nothing, field, waiting, happened, region);
  const ends = [stop, fresh.stop, watch(model, ["news"], drawNews),
    watch(model, ["known"], () => known.replaceChildren(...model.get("known").map((/** @type {string} */ each) => el("option", { value: each })))), watch(model, ["verdict"], () => (verdict.textContent = model.get("verdict"))), watch(model, ["devices"], drawDevices),
    watch(model, ["models", "doing", "planned"], drawModels), watch(model, ["queue"], drawQueue), watch(model, ["crash"], drawCrash),
    watch(model, ["said"], tell)];
  return () => ends.forEach((end) => end());
}

export default { render };
