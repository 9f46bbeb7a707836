// @ts-check
// Parts of the residency panel that only show: a device's bar with its words, the card of a crash.
import { button, el } from "./shared.js";

const SVG = "http://www.w3.org/2000/svg";
const CURVE = { width: 240, height: 40 };
const KINDS = {
  resident: "loaded", loading: "loading", leaving: "leaving", ghost: "not given back yet", parked: "parked",
  kernel: "another kernel's", external: "other programs", free: "free",
};
// A stretch that is narrower has no room for a name; its words stand below in any case.
const ROOM_PERCENT = 14;

/** One device; its elements live as long as it is shown. @param {string} id */
export function makeDevice(id) {
  const name = el("span", { class: "xprim-faint" });
  const notes = el("span", { class: "xprim-note" });
  const bar = el("div", { class: "xprim-bar", role: "meter", "aria-label": `Memory of ${id}`, "aria-valuemin": 0, "aria-valuemax": 100 });
  const line = el("div", { class: "xprim-line" });
  const key = el("ul", { class: "xprim-key" });
  const box = el("div", { class: "xprim-device", role: "listitem" },
    el("div", { class: "xprim-head" }, el("strong", {}, id), name, notes), bar, line, key);
  let face = "";

  /** @param {any} row */
  const update = (row) => {
    const next = JSON.stringify(row);
    if (next === face) return;
    face = next;
    name.textContent = row.name === id ? "" : row.name;
    notes.textContent = row.notes;
    notes.hidden = !row.notes;
    line.textContent = row.line;
    bar.setAttribute("aria-valuenow", String(row.percent));
    bar.setAttribute("aria-valuetext", `${row.percent} % taken. ${row.parts.map(words).join("; ")}`);
    bar.replaceChildren(...row.parts.map((/** @type {any} */ part) => {
      const stretch = el("span", { "data-kind": part.kind }, part.percent >= ROOM_PERCENT ? part.name : "");
      stretch.style.flexGrow = part.percent;
      return stretch;
    }));
    // How much is free is said in the line above it.
    key.replaceChildren(...row.parts.filter((/** @type {any} */ part) => part.kind !== "free").map((/** @type {any} */ part) =>
      el("li", {}, el("i", { "data-kind": part.kind, "aria-hidden": "true" }), words(part))));
  };
  return { box, update };
}

/** @param {any} part */
function words(part) {
  const said = part.words || (part.name === KINDS[part.kind] ? "" : KINDS[part.kind]);
  return `${part.name}: ${part.size}${said ? `, ${said}` : ""}`;
}

/** The card of a crash. @param {any} crash @param {() => void} dismiss */
export function crashCard(crash, dismiss) {
  const list = (/** @type {string} */ tag, /** @type {string[]} */ items) => el(tag, {}, ...items.map((each) => el("li", {}, each)));
  return el("section", { class: "xprim-crash", "aria-label": `Crash of ${crash.title}` },
    el("div", { class: "xprim-head" }, el("strong", {}, crash.title),
      button("Dismiss", dismiss, { class: "xprim-button xprim-quiet", "aria-label": `Dismiss the crash of ${crash.title}`, "data-key": "read|crash" })),
    el("div", {}, crash.detail), el("div", { class: "xprim-faint" }, crash.facts),
    crash.curve ? el("div", { class: "xprim-curve" }, curve(crash.curve), el("div", { class: "xprim-faint" }, crash.curve.words)) : null,
    crash.advice.length ? el("div", {}, el("div", {}, "What to try:"), list("ol", crash.advice)) : null,
    crash.lines.length ? el("div", {}, el("div", {}, "Its last lines:"),
      el("pre", { class: "xprim-log", tabindex: 0, role: "region", "aria-label": "Last lines of the worker" }, crash.lines.join("\n"))) : null);
}

/** Memory over time, as a line. @param {any} of */
function curve(of) {
  const make = (/** @type {string} */ tag, /** @type {Record<string, any>} */ props) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(props)) node.setAttribute(name, String(value));
    return node;
  };
  const svg = make("svg", { role: "img", "aria-label": of.words, viewBox: `0 0 ${CURVE.width} ${CURVE.height}`,
    width: CURVE.width, height: CURVE.height, preserveAspectRatio: "none" });
  svg.append(make("polyline", { points: of.points, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "vector-effect": "non-scaling-stroke" }));
  return svg;
}
