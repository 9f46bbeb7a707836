// @ts-check
import { button, el, outlet, watch } from "./shared.js";

const LABELS = { pause: "Pause", cancel: "Cancel", resume: "Resume", retry: "Retry" };
const CELLS = ["missing", "flying", "reused", "fetched"];

/** @param {{model: any, el: any}} context */
function render({ model, el: root }) {
  const { errors, region, say, stop } = outlet(model, root, "pulls");
  const list = el("div", { class: "xprim-list", role: "list", "aria-label": "Pulls" });
  const nothing = el("p", { class: "xprim-faint" });
  /** @type {Map<string, ReturnType<typeof makeRow>>} */
  const shown = new Map();
  /** @type {Map<string, string>} */
  const told = new Map();

  /** Speak when a state changes and at every quarter, not ten times a second. @param {any} row */
  const tell = (row) => {
    const step = `${row.state} ${row.state === "running" ? Math.floor(row.percent / 25) : ""}`;
    if (told.get(row.ref) === step) return;
    told.set(row.ref, step);
    say(`${row.ref}: ${row.state}, ${row.percent} %`);
  };

  const draw = () => {
    const rows = model.get("rows");
    nothing.textContent = model.get("empty");
    nothing.hidden = rows.length > 0;
    list.hidden = rows.length === 0;
    const names = new Set(rows.map((/** @type {any} */ row) => row.ref));
    for (const [ref, each] of shown) {
      if (names.has(ref)) continue;
      each.box.remove();
      shown.delete(ref);
    }
    for (const row of rows) {
      let each = shown.get(row.ref);
      if (!each) shown.set(row.ref, (each = makeRow(model, row.ref)));
      each.update(row);
      tell(row);
    }
    // Moved only where the order differs: an element that is moved loses the focus.
    rows.forEach((/** @type {any} */ row, /** @type {number} */ at) => {
      const box = shown.get(row.ref)?.box;
      if (list.children[at] !== box) list.insertBefore(box, list.children[at] ?? null);
    });
  };

  root.append(errors, nothing, list, region);
  const ends = [stop, watch(model, ["rows", "empty"], draw)];
  return () => ends.forEach((end) => end());
}

/** One pull; its elements live as long as it is shown. @param {any} model @param {string} ref */
function makeRow(model, ref) {
  const reused = el("div", { class: "xprim-reused" });
  const fetched = el("div", { class: "xprim-fetched" });
  const bar = el("div",
    { class: "xprim-trough", role: "progressbar", "aria-label": `Pull of ${ref}`, "aria-valuemin": 0, "aria-valuemax": 100 },
    reused, fetched);
  const state = el("span", { class: "xprim-state" });
  const line = el("div", { class: "xprim-line" });
  const hint = el("div", { class: "xprim-line xprim-faint" });
  const actions = el("span", { class: "xprim-actions" });
  const map = el("div", { class: "xprim-map", role: "img" });
  const more = el("details", { class: "xprim-more" }, el("summary", {}, "Chunks"), map, legend());
  const box = el("div", { class: "xprim-row", role: "listitem" },
    el("div", { class: "xprim-head" }, el("strong", { class: "xprim-ref" }, ref), state, actions), bar, line, hint, more);
  let buttons = "";
  let cells = "";

  /** @param {any} row */
  const update = (row) => {
    state.textContent = row.state;
    box.dataset.state = row.state;
    line.textContent = row.line;
    hint.textContent = row.hint;
    hint.hidden = !row.hint;
    reused.style.width = `${row.reused}%`;
    fetched.style.width = `${row.fetched}%`;
    bar.setAttribute("aria-valuenow", String(row.percent));
    bar.setAttribute("aria-valuetext", `${row.percent} %, ${row.state}: ${row.line}`);
    if (row.buttons.join() !== buttons) {
      buttons = row.buttons.join();
      const focused = actions.contains(document.activeElement);
      actions.replaceChildren(...row.buttons.map((/** @type {string} */ op, /** @type {number} */ at) =>
        button(LABELS[op], () => model.send({ op, ref }),
          { class: `xprim-button${at === 0 ? " xprim-primary" : " xprim-quiet"}`, "aria-label": `${LABELS[op]} ${ref}` })));
      if (focused) actions.querySelector("button")?.focus({ preventScroll: true });
    }
    more.hidden = !row.chunk_map;
    if (row.chunk_map !== cells) drawMap(map, (cells = row.chunk_map));
  };
  return { box, update };
}

/** @param {any} map @param {string} cells */
function drawMap(map, cells) {
  const count = [0, 0, 0, 0];
  while (map.children.length > cells.length) map.lastChild.remove();
  while (map.children.length < cells.length) map.append(el("i"));
  for (let at = 0; at < cells.length; at += 1) {
    const kind = CELLS[Number(cells[at])];
    count[Number(cells[at])] += 1;
    if (map.children[at].className !== kind) map.children[at].className = kind;
  }
  map.setAttribute("aria-label",
    `${count[2]} stretches were here, ${count[3]} fetched, ${count[1]} in flight, ${count[0]} missing`);
}

function legend() {
  return el("div", { class: "xprim-legend xprim-faint" },
    ...[["reused", "was here"], ["fetched", "fetched"], ["flying", "in flight"], ["missing", "missing"]].map(
      ([kind, words]) => el("span", { class: "xprim-map" }, el("i", { class: kind, "aria-hidden": "true" }), words)));
}

export default { render };
