// @ts-check
// A model's row of the residency panel, with what can be done about it, and its plan.
import { button, el, progress } from "./shared.js";

const LABELS = { evict: "Evict", pin: "Pin", unpin: "Unpin", retry: "Retry", plan: "Load" };
const MARKS = { broken: "✕", loading: "…", waking: "…", resident: "●", leaving: "↗", parked: "◐", elsewhere: "☁", absent: "○" };
let ids = 0;

/**
 * A row is made anew only when it looks different: a click must not lose its button. How far a loading is moves in place.
 * @param {any} model @param {any} row @param {any} job @param {any} plan
 */
export function makeRow(model, row, job, plan) {
  const { key, name } = row;
  const id = `xprim-m${(ids += 1)}`;
  const whose = row.mine ? name : `${name} of another kernel`;
  const halt = () => model.send({ op: "stop", key });
  const bar = row.percent !== null ? progress(`Loading ${whose}`, halt) : null;
  const waits = el("span", {});
  const halted = job && !bar ? button("Stop waiting", halt, { "data-key": `stop|${row.id}`, "aria-label": `Stop waiting for ${whose}` }) : null;
  const why = row.acts.includes("evict") ? row.why_not_evict : "";
  const act = (/** @type {string} */ op, /** @type {number} */ at) => button(LABELS[op], () => model.send({ op, key }), {
    class: `xprim-button ${at ? "xprim-quiet" : ""}`, "aria-label": `${LABELS[op]} ${whose}`, "data-key": `${op}|${row.id}`,
    disabled: Boolean(job) || (op === "evict" && Boolean(why)), "aria-describedby": job ? `${id}b` : op === "evict" && why ? `${id}w` : null });
  const cell = (/** @type {string} */ label, /** @type {any[]} */ ...children) =>
    el("td", { role: "cell", "data-label": label, class: `xprim-at-${label.split(" ")[0].toLowerCase()}` }, ...children);
  const faint = (/** @type {string} */ text) => (text ? el("div", { class: "xprim-faint" }, text) : null);
  const counts = el("div", {});
  const idle = el("div", { class: "xprim-faint" });
  const line = el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row" }, el("span", { class: "xprim-name" }, name), faint(row.backend)),
    cell("State", el("span", { class: "xprim-status" }, el("i", { "data-state": row.state, "aria-hidden": "true" }, MARKS[row.state] ?? "?"), row.words),
      row.pinned ? el("div", { class: "xprim-pinned" }, "pinned") : null, row.cause ? el("div", { class: "xprim-text" }, row.cause) : null),
    cell("Takes", row.size || row.device ? el("div", {}, [row.size, row.device && `on ${row.device}`].filter(Boolean).join(" ")) : "nothing",
      faint(row.context && `context ${row.context}`)),
    cell("Requests", counts, idle),
    cell("Held by", row.process ? el("div", {}, row.process) : null, faint(row.note)),
    cell("Actions", el("div", { class: "xprim-actions" }, ...row.acts.map(act)),
      why ? el("div", { id: `${id}w`, class: "xprim-faint xprim-text" }, `Evict: ${why}`) : null,
      job ? el("div", { id: `${id}b`, class: "xprim-actions" }, waits, halted) : null));
  const panel = plan ? planPanel(model, key, plan) : null;
  const below = bar || panel ? el("tr", { role: "row", class: "xprim-below" }, el("td", { role: "cell", colspan: 6 }, bar?.box, panel)) : null;

  /** @param {any} now @param {any} doing */
  const update = (now, doing) => {
    if (counts.textContent !== now.counts) counts.textContent = now.counts;
    if (idle.textContent !== now.idle) idle.textContent = now.idle;
    if (doing && waits.textContent !== doing.line) waits.textContent = doing.line;
    if (halted) halted.hidden = !doing?.stop;
    bar?.update({ line: `loading${now.percent ? `: ${now.percent} %` : ""}`, percent: now.percent || null, stop: Boolean(doing?.stop) });
  };
  update(row, job);
  return { box: el("tbody", { role: "rowgroup", "data-state": row.state }, line, below), update };
}

/** What of a row, when it changes, makes another row of it. @param {any} row @param {any} job @param {any} plan */
export function faceOf(row, job, plan) {
  return JSON.stringify({ ...row, counts: "", idle: "", percent: row.percent === null ? null : 0, job: Boolean(job), plan: plan ?? null });
}

/** @param {any} model @param {string} key @param {any} plan */
export function planPanel(model, key, plan) {
  return el("div", { class: "xprim-plan", role: "group", "aria-label": `Plan for ${plan.name}` },
    el("pre", { class: "xprim-lines" }, plan.lines.join("\n")),
    el("div", { class: "xprim-actions" },
      plan.go ? button("Load now", () => model.send({ op: "load", key }),
        { class: "xprim-button xprim-primary", "data-key": `load|${key}`, "aria-label": `Load ${plan.name} now` }) : null,
      button(plan.go ? "Cancel" : "Close", () => model.send({ op: "leave" }),
        { class: "xprim-button xprim-quiet", "data-key": `leave|${key}`, "aria-label": `${plan.go ? "Cancel" : "Close"} the plan for ${plan.name}` })));
}
