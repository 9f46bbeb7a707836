// @ts-check
import { age, button, el, formatBytes, keepFocus, outlet, progress, watch } from "./shared.js";

// As the kernel sends a row; a test compares them with its own.
const FIELDS = ["ref", "size_bytes", "status", "depth", "checked_at", "found", "advice", "acts", "lines"];
const MARKS = { failed: "✕", degraded: "!", healthy: "✓" };
const STATES = Object.keys(MARKS);
const DEPTHS = { quick: "quick check", full: "every byte", install: "when installed" };
const LABELS = { repair: "Repair", refresh: "Refresh", rollback: "Roll back" };
const COLUMNS = { model: "Model", version: "Version", size: "Size", health: "Health", checked: "Last check" };
const PAGE = 25;
let ids = 0;

/** @param {{model: any, el: any}} context */
function render({ model, el: root }) {
  const { errors, region, say, stop } = outlet(model, root, "health");
  const ui = { text: "", only: "all", by: "health", up: true, page: 0, sent: "", open: new Set(), ticked: new Set() };
  /** @type {any[]} */
  let items = [];
  /** @type {Map<string, any>} */
  let made = new Map();
  const verdict = el("p", { class: "xprim-verdict" });
  const facts = el("div", { class: "xprim-facts-line xprim-faint" });
  const bar = el("div", { class: "xprim-bar", role: "img" });
  const legend = el("ul", { class: "xprim-key" });
  const search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search models", "data-key": "search",
    oninput: () => { Object.assign(ui, { text: search.value.toLowerCase(), page: 0 }); draw(true); } });
  const chips = Object.fromEntries(["all", ...STATES].map((each) => [each, button("", () => {
    Object.assign(ui, { only: each, page: 0 });
    draw(true);
  }, { class: "xprim-button xprim-chip", "data-state": each })]));
  const target = el("span", { class: "xprim-target" });
  const checks = ["quick", "full"].map((depth) => button(depth === "full" ? "Full check" : "Quick check", () =>
    model.send({ op: "check", refs: ui.ticked.size ? [...ui.ticked].sort() : null, depth })));
  const measure = button("Measure disk", () => model.send({ op: "measure" }), { class: "xprim-button xprim-quiet" });
  const whole = progress("All models", () => model.send({ op: "stop", ref: "" }));
  const all = el("input", { type: "checkbox", "aria-label": "Select all that match", onchange: () =>
    tick(matching().map((each) => each.ref), all.checked) });
  const heads = Object.entries(COLUMNS).map(([by, name]) => el("th", { scope: "col", role: "columnheader" },
    button(name, () => { ui.up = ui.by === by ? !ui.up : true; ui.by = by; draw(); }, { class: "xprim-sort" })));
  const table = el("table", { role: "table", "aria-label": "Installed models by health" }, el("thead", { role: "rowgroup" },
    el("tr", { role: "row" }, el("th", { scope: "col", role: "columnheader" }, all), ...heads,
      el("th", { scope: "col", role: "columnheader" }, "What to do"))));
  const nothing = el("p", { class: "xprim-faint" }, "No model matches.");
  const where = el("span", {});
  const [back, on] = [-1, 1].map((by) => button(by < 0 ? "Previous" : "Next", () => { ui.page += by; draw(); },
    { "aria-label": by < 0 ? "Previous page" : "Next page" }));
  const pager = el("nav", { class: "xprim-pager", "aria-label": "Pages of models" }, back, where, on);

  const matching = () => items.filter((each) =>
    (ui.only === "all" || each.status === ui.only) && (!ui.text || each.ref.toLowerCase().includes(ui.text)));
  /** Ticked at once, also while the kernel is busy. @param {string[]} refs @param {boolean} yes */
  const tick = (refs, yes) => {
    for (const ref of refs) yes ? ui.ticked.add(ref) : ui.ticked.delete(ref);
    const now = [...ui.ticked].sort();
    ui.sent = JSON.stringify(now);
    model.send({ op: "select", refs: now });
    draw();
  };
  const selected = () => {
    const now = model.get("selected") ?? [];
    if (ui.sent && JSON.stringify(now) !== ui.sent) return; // the answer to an older click
    ui.sent = "";
    ui.ticked = new Set(now);
    draw();
  };
  const read = () => {
    const changed = model.get("changed") ?? {};
    items = model.get("rows").map((/** @type {any} */ row, /** @type {number} */ at) => toItem(changed[at] ?? row));
    draw();
  };

  /** @type {{items: any, key: string, found: any[]}} */
  let sifted = { items: null, key: "", found: [] };
  const sift = () => {
    const key = [ui.only, ui.by, ui.up, ui.text].join("|");
    if (sifted.items !== items || sifted.key !== key) sifted = { items, key, found: matching().sort(order(ui.by, ui.up)) };
    return sifted.found;
  };
  const draw = (heard = false) => {
    const work = model.get("work");
    const found = sift();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    ui.page = Math.min(Math.max(ui.page, 0), pages - 1);
    const first = ui.page * PAGE;
    const shown = found.slice(first, first + PAGE);
    keepFocus(table, search, () => {
      const next = new Map();
      const notes = model.get("notes");
      for (const item of shown) {
        const job = work.find((/** @type {any} */ each) => each.ref === item.ref);
        const props = { item, note: notes[item.ref], ticked: ui.ticked.has(item.ref), open: ui.open.has(item.ref), doing: job?.doing };
        const face = JSON.stringify(props);
        let row = made.get(item.ref);
        // Made anew only when it looks different: a click must not lose its button.
        if (row?.face !== face) row = { face, ...makeRow(model, props, { tick, toggle }) };
        row.update(job);
        next.set(item.ref, row);
      }
      made = next;
      const boxes = [...made.values()].map((each) => each.box);
      for (const old of [...table.tBodies]) if (!boxes.includes(old)) old.remove();
      boxes.forEach((box, at) => {
        if (table.tBodies[at] !== box) table.insertBefore(box, table.tBodies[at] ?? null);
      });
    });
    Object.keys(COLUMNS).forEach((by, at) =>
      heads[at].setAttribute("aria-sort", by !== ui.by ? "none" : ui.up ? "ascending" : "descending"));
    table.hidden = items.length === 0;
    nothing.hidden = found.length > 0 || items.length === 0;
    pager.hidden = pages < 2;
    where.textContent = `${first + 1}–${first + shown.length} of ${found.length.toLocaleString("en")}`;
    back.disabled = ui.page === 0;
    on.disabled = ui.page >= pages - 1;
    const ticked = found.filter((each) => ui.ticked.has(each.ref)).length;
    all.checked = ticked > 0 && ticked === found.length;
    all.indeterminate = ticked > 0 && ticked < found.length;
    tools(work);
    if (heard) say(`${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} models match`);
  };

  /** @param {any[]} work */
  const tools = (work) => {
    const job = work.find((each) => each.ref === "");
    const busy = Boolean(job && job.doing !== "elsewhere");
    const at = document.activeElement;
    const next = [...checks, measure].includes(at) ? whole.stop : whole.box.contains(at) ? checks[1] : null;
    for (const each of [...checks, measure]) each.disabled = busy || items.length === 0;
    const count = ui.ticked.size;
    target.textContent = busy ? `Busy: ${job.doing}.` : count ? `${count.toLocaleString("en")} selected:` : `All ${items.length.toLocaleString("en")}:`;
    whole.box.hidden = !job;
    if (job) whole.update(job);
    if (next && (at.disabled || whole.box.hidden)) next.focus({ preventScroll: true });
    for (const [each, chip] of Object.entries(chips)) {
      const of = each === "all" ? items.length : items.filter((item) => item.status === each).length;
      chip.textContent = `${each === "all" ? "All" : `${MARKS[each]} ${each}`} ${of.toLocaleString("en")}`;
      chip.setAttribute("aria-pressed", String(ui.only === each));
    }
  };
  /** @param {string} ref */
  const toggle = (ref) => {
    if (!ui.open.delete(ref)) ui.open.add(ref);
    draw();
  };

  const head = () => {
    verdict.textContent = model.get("verdict");
    facts.textContent = model.get("facts").join(" ");
    const shares = model.get("shares");
    const words = shares.map((/** @type {any} */ each) =>
      `${each.state}: ${each.models.toLocaleString("en")} model${each.models === 1 ? "" : "s"}, ${formatBytes(each.size_bytes)}`);
    bar.hidden = legend.hidden = shares.length === 0;
    bar.setAttribute("aria-label", `Size by health. ${words.join("; ")}`);
    bar.replaceChildren(...shares.map((/** @type {any} */ each) => {
      const part = el("span", { "data-state": each.state }, each.percent >= 15 ? `${MARKS[each.state]} ${each.state}` : "");
      part.style.flexGrow = each.percent;
      return part;
    }));
    legend.replaceChildren(...shares.map((/** @type {any} */ each, /** @type {number} */ at) =>
      el("li", {}, el("i", { "data-state": each.state, "aria-hidden": "true" }, MARKS[each.state]), words[at])));
  };
  let quiet = true;
  const tell = () => {
    if (!quiet) say([model.get("said"), model.get("verdict")].filter(Boolean).join(" "));
    quiet = false;
  };

  root.append(errors, verdict, bar, legend, facts,
    el("div", { class: "xprim-tools" }, search, el("span", { class: "xprim-chips", role: "group", "aria-label": "Filter by health" },
      ...Object.values(chips)), el("span", { class: "xprim-actions" }, target, ...checks, measure)),
    whole.box, table, nothing, pager, region);
  const ends = [stop, watch(model, ["rows", "changed"], read), watch(model, ["selected"], selected),
    watch(model, ["work", "notes"], () => draw()), watch(model, ["verdict", "facts", "shares"], head), watch(model, ["said", "verdict"], tell)];
  const clock = setInterval(() => draw(), 30_000); // "5 min ago" does not stay true
  ends.push(() => clearInterval(clock));
  return () => ends.forEach((end) => end());
}

/** @param {any} model @param {any} props @param {any} ui */
function makeRow(model, { item, note, ticked, open, doing }, { tick, toggle }) {
  const { ref } = item;
  const id = `xprim-h${(ids += 1)}`;
  const when = el("div", {});
  const job = doing ? progress(ref, () => model.send({ op: "stop", ref })) : null;
  /** @param {string} op @param {string} label @param {string} why @param {string} kind @param {any} [more] */
  const act = (op, label, why, kind, more = { ref }) => button(label, () => model.send({ op, ...more }), {
    class: `xprim-button ${kind}`, "aria-label": `${label} ${ref}`, "data-key": `${op}${more.depth ?? ""}|${ref}`,
    disabled: Boolean(why), "aria-describedby": why ? `${id}w` : null });
  const busy = doing ? `Busy: ${doing}.` : "";
  const whys = busy ? [busy] : item.acts.filter((/** @type {any} */ each) => each[1]).map((/** @type {any} */ [op, why]) => `${LABELS[op]}: ${why}`);
  const cell = (/** @type {string} */ label, /** @type {any[]} */ ...children) =>
    el("td", { role: "cell", "data-label": label, class: `xprim-at-${label.split(" ")[0].toLowerCase()}` }, ...children);
  const row = el("tr", { role: "row" },
    cell("Select", el("input", { type: "checkbox", checked: ticked, "aria-label": `Select ${ref}`, "data-key": `tick|${ref}`,
      onchange: (/** @type {any} */ event) => tick([ref], event.target.checked) })),
    el("th", { role: "rowheader", scope: "row" }, button(item.model, () => toggle(ref),
      { class: "xprim-open", "aria-expanded": String(open), "aria-label": `Details of ${ref}`, "data-key": `open|${ref}` })),
    cell("Version", item.version), cell("Size", formatBytes(item.size_bytes)),
    cell("Health", el("span", { class: "xprim-status", "data-state": item.status },
      el("i", { "data-state": item.status, "aria-hidden": "true" }, MARKS[item.status]), item.status)),
    cell("Last check", when, el("div", { class: "xprim-faint" }, DEPTHS[item.depth] ?? item.depth)),
    cell("What to do", item.found ? el("div", { class: "xprim-text" }, item.found) : null,
      item.advice ? el("div", { class: "xprim-text xprim-faint" }, item.advice) : null,
      el("div", { class: "xprim-actions" }, ...item.acts.map((/** @type {any} */ [op, why], /** @type {number} */ at) =>
        act(op, LABELS[op], busy || why, at || item.status === "healthy" ? "" : "xprim-primary")),
      ...["quick", "full"].map((depth) => act("check", depth === "full" ? "Full check" : "Quick check", busy, "xprim-quiet", { refs: [ref], depth }))),
      whys.length ? el("div", { id: `${id}w`, class: "xprim-faint" }, whys.join(" ")) : null));
  const list = (/** @type {string[]} */ lines) => el("ul", {}, ...lines.map((each) => el("li", {}, each)));
  const panel = note ? el("div", { class: "xprim-note", role: "group", "aria-label": note.title, "data-kind": note.kind },
    el("strong", {}, note.title), note.lines.length ? list(note.lines) : null, note.why ? el("div", { id: `${id}w2` }, note.why) : null,
    el("div", { class: "xprim-actions" }, note.go ? button(note.go === "refresh" ? "Refresh now" : "Roll back now", () => model.send({ op: "go", ref }),
      { class: "xprim-button xprim-primary", "data-key": `go|${ref}`, disabled: Boolean(note.why), "aria-describedby": note.why ? `${id}w2` : null }) : null,
    button(note.go ? "Leave it as it is" : "Dismiss", () => model.send({ op: "leave", ref }), { class: "xprim-button xprim-quiet", "data-key": `leave|${ref}` }))) : null;
  const details = open ? el("div", { class: "xprim-lines" }, item.lines.length ? list(item.lines) : "No file of it is known to be wrong or changed.") : null;
  const below = job || panel || details
    ? el("tr", { role: "row", class: "xprim-below" }, el("td", { role: "cell", colspan: 7 }, job?.box, panel, details)) : null;
  const update = (/** @type {any} */ now) => {
    when.textContent = age(item.checked_at);
    if (now) job?.update(now);
  };
  return { box: el("tbody", { role: "rowgroup", "data-state": item.status }, row, below), update };
}

/** @param {any[]} row */
function toItem(row) {
  const item = Object.fromEntries(FIELDS.map((name, at) => [name, row[at]]));
  const at = item.ref.lastIndexOf(" ");
  return { ...item, model: at < 0 ? item.ref : item.ref.slice(0, at), version: at < 0 ? "" : item.ref.slice(at + 1) };
}

/** @param {string} by @param {boolean} up */
function order(by, up) {
  const key = { size: (/** @type {any} */ each) => each.size_bytes, checked: (/** @type {any} */ each) => each.checked_at,
    health: (/** @type {any} */ each) => STATES.indexOf(each.status) }[by];
  const names = (/** @type {any} */ a, /** @type {any} */ b) => (a < b ? -1 : a > b ? 1 : 0);
  return (/** @type {any} */ a, /** @type {any} */ b) =>
    (up ? 1 : -1) * (key ? key(a) - key(b) : names(a[by], b[by])) || names(a.ref, b.ref);
}

export default { render };
