// @ts-check
// The table's elements. A row's cells live as long as it is on the page, so that the focus stays where it is.
import { button, el } from "./shared.js";
import { COLUMNS, FACETS, fitsText, primary, sizeText } from "./browser_rows.js";

const WORKING = new Set(["planning", "removing", "starting", "queued", "running", "stalled", "verifying", "pausing", "done"]);
const PAUSES = new Set(["running", "stalled", "queued", "starting"]);

/** Chips that are pressed or not, with a count each. @param {Set<string>} facets @param {() => void} changed */
export function makeChips(facets, changed) {
  const chips = FACETS.map(([key, label, meaning]) => {
    const count = el("span", { class: "xprim-count" });
    const chip = el("button", {
      type: "button", class: "xprim-chip", title: meaning, "aria-pressed": "false",
      onclick: () => {
        if (!facets.delete(key)) facets.add(key);
        chip.setAttribute("aria-pressed", String(facets.has(key)));
        changed();
      },
    }, `${label} `, count);
    return { key, chip, count };
  });
  return {
    box: el("div", { class: "xprim-chips", role: "group", "aria-label": "Show only" }, ...chips.map(({ chip }) => chip)),
    /** @param {Record<string, number>} counts @param {boolean} hasGpu whether there is an accelerator that is known */
    update: (counts, hasGpu) => {
      for (const { key, chip, count } of chips) {
        count.textContent = counts[key].toLocaleString("en");
        chip.hidden = key === "gpu" && !hasGpu;
        chip.setAttribute("aria-pressed", String(facets.has(key)));
      }
    },
  };
}

/** The table without rows; a click on a heading sorts. @param {(column: string) => void} orderBy */
export function makeGrid(orderBy) {
  const heads = COLUMNS.map(([key, label]) => ({
    key,
    head: el("th", { role: "columnheader", scope: "col", "data-key": key }, button(label, () => orderBy(key), { class: "xprim-sort" })),
  }));
  /** @param {string} words @param {string} kind */
  const unseen = (words, kind) =>
    el("th", { role: "columnheader", scope: "col", class: kind }, el("span", { class: "xprim-said" }, words));
  const grid = el("table", { role: "table", "aria-label": "Models" },
    el("thead", { role: "rowgroup" },
      el("tr", { role: "row" }, unseen("Selected", "xprim-tick"), ...heads.map(({ head }) => head), unseen("Actions", "xprim-acts"))));
  /** @param {{column: string, down: boolean}} sorting @param {number} many */
  const update = (sorting, many) => {
    grid.setAttribute("aria-rowcount", String(many + 1));
    for (const { key, head } of heads) {
      if (key === sorting.column) head.setAttribute("aria-sort", sorting.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  };
  return { grid, update };
}

/** How far one row is. @param {string} ref */
function makeProgress(ref) {
  const fill = el("div", { class: "xprim-fetched" });
  const bar = el("div",
    { class: "xprim-trough", role: "progressbar", "aria-label": `Pull of ${ref}`, "aria-valuemin": 0, "aria-valuemax": 100 },
    fill);
  const words = el("span", { class: "xprim-percent", "aria-hidden": "true" });
  /** @param {any} pull */
  const update = (pull) => {
    fill.style.width = `${pull.percent}%`;
    bar.setAttribute("aria-valuenow", String(pull.percent));
    bar.setAttribute("aria-valuetext", `${pull.percent} %, ${pull.state}: ${pull.line}`);
    words.textContent = ["running", "stalled"].includes(pull.state) ? `${pull.percent} %` : pull.state;
  };
  return { box: el("div", { class: "xprim-progress" }, bar, words), update };
}

/**
 * @param {string} ref
 * @param {{send: (word: any) => void, use: (ref: string) => void, open: (ref: string) => void,
 *   pick: (ref: string, on: boolean) => void, ask: (ref: string) => void}} acts
 */
export function makeRow(ref, acts) {
  const box = el("input", { type: "checkbox", "aria-label": `Select ${ref}`, onchange: () => acts.pick(ref, box.checked) });
  const name = el("button",
    { type: "button", class: "xprim-name", "aria-label": `Card of ${ref}`, onclick: () => acts.open(ref) });
  const line = el("td", { role: "cell", colspan: 9, class: "xprim-line" });
  const note = el("tr", { role: "row", class: "xprim-note", hidden: true }, line);
  /** @param {string} label @param {any[]} children */
  const cell = (label, ...children) => el("td", { role: "cell", "data-label": label }, ...children);
  const version = cell("Version");
  const size = cell("Size");
  const quantisation = cell("Quantisation");
  const licence = cell("Licence");
  const installed = cell("Installed");
  const fits = cell("Fits");
  const buttons = el("div", { class: "xprim-buttons" });
  const actions = el("td", { role: "cell", class: "xprim-acts" }, buttons);
  const row = el("tr", { role: "row" },
    el("td", { role: "cell", class: "xprim-tick" }, box),
    el("th", { role: "rowheader", scope: "row" }, name),
    version, size, quantisation, licence, installed, fits, actions);
  const body = el("tbody", { role: "rowgroup" }, row, note);
  let drawn = "";
  /** @type {any} */
  let question = null;
  /** @type {any} */
  let progress = null;

  /** @param {any} node @param {string} text */
  const put = (node, text) => {
    if (node.textContent !== text) node.textContent = text;
  };

  /** @param {number} mark @param {string} [state] */
  const drawButtons = (mark, state) => {
    const key = `${mark} ${state ?? ""}`;
    if (key === drawn) return;
    drawn = key;
    const focused = buttons.contains(document.activeElement);
    const working = WORKING.has(state ?? "");
    /** @param {string} label @param {() => void} act @param {string} kind */
    const made = (label, act, kind) =>
      button(label, act, { class: `xprim-button ${kind}`, "aria-label": `${label} ${ref}`, "data-act": label });
    const shown = [];
    if (working && PAUSES.has(state ?? "")) {
      shown.push(made("Pause", () => acts.send({ op: "pause", ref }), "xprim-primary"));
    } else if (!working) {
      const [op, label] = primary(mark, state);
      shown.push(made(label, () => (op === "use" ? acts.use(ref) : acts.send({ op, ref })), "xprim-primary"));
      if (mark > 0) shown.push(made("Remove", () => acts.ask(ref), "xprim-quiet"));
    }
    buttons.replaceChildren(...shown);
    if (focused) (shown[0] ?? name).focus({ preventScroll: true });
  };

  /**
   * @param {any} table
   * @param {number} at
   * @param {any} pull what is being done with it, if anything
   * @param {boolean} picked
   * @param {number} place among all that are found
   */
  const update = (table, at, pull, picked, place) => {
    const mark = table.marks[at];
    row.setAttribute("aria-rowindex", String(place + 2));
    row.classList.toggle("xprim-picked", picked);
    box.checked = picked;
    put(name, table.names[at]);
    const alias = table.aliases.get(at);
    put(version, alias ? `${table.versions[at]}\u00a0= ${alias}` : table.versions[at]);
    put(size, sizeText(table, at));
    put(quantisation, table.quantisations[at] || "–");
    put(licence, table.licences[at] || "–");
    put(installed, ["no", "yes", "update available"][mark]);
    const fitting = fitsText(table, at);
    put(fits, fitting);
    fits.classList.toggle("xprim-short", fitting !== "yes");
    const working = pull !== undefined && WORKING.has(pull.state);
    if (working && !progress) actions.prepend((progress = makeProgress(ref)).box);
    if (progress) progress.box.hidden = !working;
    if (working) progress.update(pull);
    note.hidden = !pull || (working && pull.line === pull.state);
    note.classList.toggle("xprim-failed", pull?.state === "failed");
    put(line, note.hidden ? "" : pull.hint ? `${pull.line} ${pull.hint}` : pull.line);
    drawButtons(mark, pull?.state);
  };

  /** Ask before removing; `text` empty takes the question away. @param {string} text @param {boolean} grab the focus */
  const confirm = (text, grab) => {
    if (!text && !question) return;
    if (!text) {
      const focused = question.contains(document.activeElement);
      question.remove();
      question = null;
      if (focused) (buttons.querySelector('[data-act="Remove"]') ?? name).focus({ preventScroll: true });
      return;
    }
    if (question?.dataset.text === text) return;
    question?.remove();
    const keep = button("Keep it", () => acts.send({ op: "keep" }), { class: "xprim-button", "aria-label": `Keep ${ref}` });
    const yes = button("Remove", () => acts.send({ op: "remove", ref }),
      { class: "xprim-button xprim-danger", "aria-label": `Yes, remove ${ref}` });
    question = el("tr", { role: "row", class: "xprim-question", "data-text": text },
      el("td", { role: "cell", colspan: 9 },
        el("div", { role: "group", "aria-label": `Remove ${ref}?` }, el("p", {}, text), yes, keep)));
    question.addEventListener("keydown", (/** @type {any} */ event) => {
      if (event.key === "Escape") acts.send({ op: "keep" });
    });
    body.append(question);
    if (!grab) return;
    keep.focus({ preventScroll: true });
    question.scrollIntoView?.({ block: "nearest" });
  };

  return { body, update, confirm, focus: () => name.focus({ preventScroll: true }) };
}
