// @ts-check
// What every view uses: elements without innerHTML, an outlet for errors, a live region, trees from the kernel.

/**
 * An element. Text stays text, whatever it says: nothing here ever parses HTML.
 * @param {string} tag
 * @param {Record<string, any>} [props] `on…` listens, `class` and `aria-…` are attributes, false and null leave one out
 * @param {...(Node|string|number|null|undefined|false)} children
 * @returns {any}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/**
 * Follow traits of a model until the result is called; `follow` is called once now.
 * @param {any} model
 * @param {string[]} names
 * @param {() => void} follow
 */
export function watch(model, names, follow) {
  for (const name of names) model.on(`change:${name}`, follow);
  follow();
  return () => {
    for (const name of names) model.off(`change:${name}`, follow);
  };
}

/**
 * Make `root` a view: its class, a place for the last error, a region that is read out.
 * @param {any} model
 * @param {any} root
 * @param {string} name
 */
export function outlet(model, root, name) {
  root.classList.add("xprim-view", `xprim-${name}`);
  const errors = el("div", { class: "xprim-errors" });
  const region = el("div", { class: "xprim-said", role: "status", "aria-live": "polite" });
  const stop = watch(model, ["error"], () => {
    const { text, hint } = model.get("error") ?? {};
    errors.replaceChildren();
    if (!text) return;
    errors.append(
      el("div", { class: "xprim-card", role: "alert" },
        el("div", {}, el("strong", {}, text), hint ? el("div", {}, hint) : null),
        button("Dismiss", () => model.send({ op: "dismiss" }), { class: "xprim-button xprim-quiet" })));
  });
  /** @param {string} words */
  const say = (words) => {
    if (region.textContent !== words) region.textContent = words;
  };
  return { errors, region, say, stop };
}

/**
 * A real button.
 * @param {string} label
 * @param {(event: Event) => void} act
 * @param {Record<string, any>} [props]
 */
export function button(label, act, props = {}) {
  return el("button", { type: "button", class: "xprim-button", onclick: act, ...props }, label);
}

const TREE_TAGS = new Set(
  "a blockquote br code dd del div dl dt em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul".split(" "));

/**
 * What the kernel made of a model card: text, or [tag, attributes, children…] with tags and links of our list only.
 * @param {any} tree
 * @returns {Node}
 */
export function build(tree) {
  if (!Array.isArray(tree)) return document.createTextNode(String(tree ?? ""));
  const [tag, given, ...children] = tree;
  const node = document.createElement(TREE_TAGS.has(tag) ? tag : "span");
  if (tag === "a" && /^(https?:|mailto:)/i.test(String(given?.href))) {
    node.setAttribute("href", String(given.href));
    node.setAttribute("rel", "noopener noreferrer nofollow");
    node.setAttribute("target", "_blank");
  }
  if ((tag === "td" || tag === "th") && given?.scope) node.setAttribute("scope", String(given.scope));
  node.append(...children.map(build));
  return node;
}

/**
 * A size in the toolkit's manner: powers of 1024.
 * @param {number} bytes
 */
export function formatBytes(bytes) {
  if (Math.abs(bytes) < 1024) return `${Math.round(bytes)} B`;
  const units = ["KB", "MB", "GB", "TB"];
  let size = bytes / 1024;
  while (Math.abs(size) >= 1023.95 && units.length > 1) {
    size /= 1024;
    units.shift();
  }
  return `${size.toFixed(1)} ${units[0]}`;
}

/**
 * Change what is in `box` and leave the focus on what had it: the element with the same `data-key` ("what|whose"),
 * or "open|whose", or `nearby`.
 * @param {any} box
 * @param {any} nearby
 * @param {() => void} change
 */
export function keepFocus(box, nearby, change) {
  const key = box.contains(document.activeElement) ? (document.activeElement?.getAttribute("data-key") ?? "") : "";
  change();
  if (!key || box.contains(document.activeElement)) return;
  const known = [...box.querySelectorAll("[data-key]")].filter((each) => !each.disabled && !each.hidden);
  const find = (/** @type {string} */ wanted) => known.find((each) => each.getAttribute("data-key") === wanted);
  (find(key) ?? find(`open|${key.slice(key.indexOf("|") + 1)}`) ?? nearby).focus({ preventScroll: true });
}

/**
 * How long ago that was, in words.
 * @param {number} at seconds since the epoch; 0 where nobody knows
 */
export function age(at) {
  const s = Date.now() / 1000 - at;
  if (!at) return "never";
  if (s < 60) return "just now";
  const [unit, of] = s < 3600 ? [60, "min"] : s < 172_800 ? [3600, "h"] : [86_400, "days"];
  return `${Math.floor(s / unit)} ${of} ago`;
}

/**
 * How far something is, with a button that stops it; `update` takes {line, percent, stop}, percent null while unknown.
 * @param {string} of
 * @param {() => void} halt
 */
export function progress(of, halt) {
  const fill = el("div", { class: "xprim-fetched" });
  const bar = el("div",
    { class: "xprim-trough", role: "progressbar", "aria-label": of, "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  const line = el("span", { class: "xprim-text" });
  const stop = button("Stop", halt, { "aria-label": `Stop: ${of}`, "data-key": `stop|${of}` });
  const update = (/** @type {any} */ job) => {
    line.textContent = job.line;
    fill.style.width = `${job.percent ?? 0}%`;
    if (job.percent === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(job.percent));
    bar.setAttribute("aria-valuetext", job.line);
    stop.hidden = !job.stop;
  };
  return { box: el("div", { class: "xprim-doing" }, bar, el("div", { class: "xprim-actions" }, line, stop)), stop, update };
}
