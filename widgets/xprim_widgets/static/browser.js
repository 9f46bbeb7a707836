// @ts-check
import { button, el, outlet, watch } from "./shared.js";
import { codeOf, filter, readCatalogue, readMarks, registryText, sort } from "./browser_rows.js";
import { copy, makePanel } from "./browser_card.js";
import { makeChips, makeGrid, makeRow } from "./browser_table.js";

const PAGE = 50;
// Rows that stay on screen for so long are looked at: what would their pulls fetch?
const LOOK_MS = 500;
const AGE_MS = 30_000;

/** @param {{model: any, el: any}} context */
function render({ model, el: root }) {
  const { errors, region, say, stop } = outlet(model, root, "browser");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // keys typed here are not the notebook's
  let table = readCatalogue({});
  let order = /** @type {number[]} */ ([]);
  let found = /** @type {number[]} */ ([]);
  let page = 0;
  let sorting = { column: "name", down: false };
  let turn = 0;
  let asked = "";
  let looked = "";
  let looking = /** @type {any} */ (0);
  let waiting = false;
  let alive = true;
  const facets = /** @type {Set<string>} */ (new Set());
  const picked = /** @type {Set<string>} */ (new Set());
  const shown = /** @type {Map<string, ReturnType<typeof makeRow>>} */ (new Map());
  const told = /** @type {Map<string, string>} */ (new Map());
  let pulls = /** @type {Map<string, any>} */ (new Map());

  const search = el("input", {
    type: "search", class: "xprim-search", placeholder: "Search models   ( / )", "aria-label": "Search models",
    spellcheck: "false", oninput: () => find(),
  });
  const chips = makeChips(facets, () => find());
  const { grid, update: updateGrid } = makeGrid((key) => orderBy(key));
  const frame = el("div", { class: "xprim-frame", tabindex: 0, role: "region", "aria-label": "The table of models" }, grid);
  const nothing = el("p", { class: "xprim-faint xprim-nothing" });
  const age = el("span", { class: "xprim-faint" });
  const where = el("span", { class: "xprim-where" });
  const back = button("Previous", () => turnTo(page - 1));
  const next = button("Next", () => turnTo(page + 1));
  const count = el("span", {});
  const text = el("textarea", { class: "xprim-code", readonly: true, hidden: true, rows: 3, "aria-label": "The lines that pull the selected models" });
  const copied = el("span", { class: "xprim-faint", "aria-hidden": "true" });
  const chosen = el("div", { class: "xprim-chosen" }, count,
    button("Copy as %xprim pull", () =>
      copy([...picked].map((ref) => codeOf(ref, false)).join("\n"), text, (words) => {
        copied.textContent = words;
        say(words);
      })),
    button("Clear", () => {
      picked.clear();
      tick();
    }, { class: "xprim-button xprim-quiet", "aria-label": "Clear the selection" }), copied, text);
  const news = el("p", { class: "xprim-news" });
  const panel = makePanel(model, say, (ref) => (shown.get(ref) ?? frame).focus({ preventScroll: true }));
  const isHere = (/** @type {string} */ ref) => table.marks[table.number.get(ref) ?? -1] > 0;

  const acts = {
    send: (/** @type {any} */ word) => model.send(word),
    use: (/** @type {string} */ ref) => panel.open(ref, isHere, true),
    open: (/** @type {string} */ ref) => panel.open(ref, isHere, false),
    ask: (/** @type {string} */ ref) => {
      asked = ref;
      model.send({ op: "ask_remove", ref });
    },
    pick: (/** @type {string} */ ref, /** @type {boolean} */ on) => {
      if (on) picked.add(ref);
      else picked.delete(ref);
      tick();
    },
  };

  /** The whole selection is sent each time: the last word holds, and an older echo is told by its count. */
  const tick = () => {
    turn = Math.max(turn, model.get("picked")?.turn ?? 0) + 1;
    model.send({ op: "select", refs: [...picked], turn });
    draw();
  };

  const orderBy = (/** @type {string} */ key) => {
    sorting = { column: key, down: sorting.column === key && !sorting.down };
    order = sort(table, sorting.column, sorting.down);
    find();
    say(`sorted by ${key}, ${sorting.down ? "descending" : "ascending"}`);
  };

  const turnTo = (/** @type {number} */ to) => {
    page = to;
    frame.scrollTop = 0;
    draw();
  };

  /** Filter anew, and begin at the first page unless `stay`. */
  const find = (stay = false) => {
    if (!table.free.gpu) facets.delete("gpu"); // its chip is not shown then
    const result = filter(table, order, search.value, facets);
    found = result.found;
    chips.update(result.counts, table.free.gpu > 0);
    if (!stay) {
      page = 0;
      frame.scrollTop = 0;
    }
    draw();
  };

  const draw = () => {
    page = Math.max(0, Math.min(page, Math.ceil(found.length / PAGE) - 1));
    const rows = found.slice(page * PAGE, (page + 1) * PAGE);
    const refs = new Set(rows.map((at) => table.refs[at]));
    const focused = frame.contains(document.activeElement);
    for (const [ref, each] of shown) {
      if (refs.has(ref)) continue;
      each.body.remove();
      shown.delete(ref);
    }
    const question = model.get("confirm") ?? {};
    rows.forEach((at, place) => {
      const ref = table.refs[at];
      let each = shown.get(ref);
      if (!each) shown.set(ref, (each = makeRow(ref, acts)));
      each.update(table, at, pulls.get(ref), picked.has(ref), page * PAGE + place);
      each.confirm(question.ref === ref ? question.text : "", asked === ref);
      // Moved only where the order differs: an element that is moved loses the focus.
      if (grid.children[place + 1] !== each.body) grid.insertBefore(each.body, grid.children[place + 1] ?? null);
    });
    if (question.ref === asked) asked = "";
    if (focused && !frame.contains(document.activeElement)) frame.focus({ preventScroll: true });
    updateGrid(sorting, found.length);
    drawAround(rows.length);
    look();
  };

  const drawAround = (/** @type {number} */ many) => {
    const from = page * PAGE;
    frame.hidden = !many;
    nothing.hidden = many > 0;
    nothing.textContent = table.length ? "No model matches." : model.get("registry")?.asking ? "" : "No models are listed.";
    where.textContent = many
      ? `${(from + 1).toLocaleString("en")}–${(from + many).toLocaleString("en")} of ${found.length.toLocaleString("en")}` : "";
    back.disabled = page === 0;
    next.disabled = from + many >= found.length;
    back.hidden = next.hidden = found.length <= PAGE;
    chosen.hidden = picked.size === 0;
    if (chosen.hidden) text.hidden = true;
    count.textContent = `${picked.size} selected`;
    age.textContent = registryText(model.get("registry") ?? {}, Date.now() / 1000);
    panel.draw(isHere);
  };

  /** Tell the kernel, once they rest, which rows can be seen. */
  const look = () => {
    clearTimeout(looking);
    looking = setTimeout(() => {
      const { top, bottom } = frame.getBoundingClientRect();
      const height = window.innerHeight;
      const refs = [...shown].filter(([, { body }]) => {
        const box = body.getBoundingClientRect();
        return box.bottom >= Math.max(top, 0) && box.top <= Math.min(bottom, height || Infinity);
      }).map(([ref]) => ref);
      if (!refs.length || refs.join() === looked) return;
      looked = refs.join();
      model.send({ op: "look", refs });
    }, LOOK_MS);
  };

  const read = () => {
    readMarks(table, model.get("marks"), model.get("fetches"), model.get("free"));
    if (sorting.column === "installed" || sorting.column === "fits") order = sort(table, sorting.column, sorting.down);
    pulls = new Map(model.get("pulls").map((/** @type {any} */ pull) => [pull.ref, pull]));
    for (const [ref, pull] of pulls) {
      const step = `${pull.state} ${Math.floor(pull.percent / 25)}`;
      if (told.get(ref) !== step) say(`${ref}: ${pull.state}, ${pull.percent} %`);
      told.set(ref, step);
    }
    for (const ref of told.keys()) {
      if (pulls.has(ref)) continue;
      told.delete(ref);
      if (isHere(ref)) say(`${ref}: installed`);
    }
    const ticks = model.get("picked") ?? {};
    if ((ticks.turn ?? 0) >= turn) {
      turn = ticks.turn ?? 0;
      picked.clear();
      for (const ref of ticks.refs ?? []) picked.add(ref);
    }
    if (news.textContent !== model.get("news")) {
      news.textContent = model.get("news");
      say(news.textContent);
    }
    news.hidden = !news.textContent;
    find(true);
  };

  /** One update of the kernel changes several traits: they are read once, when all are there. */
  const soon = () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      if (alive) read();
    });
  };

  const load = () => {
    table = readCatalogue(model.get("catalogue"));
    readMarks(table, model.get("marks"), model.get("fetches"), model.get("free"));
    order = sort(table, sorting.column, sorting.down);
    looked = "";
  };

  root.append(errors,
    el("div", { class: "xprim-tools" }, search, chips.box),
    el("div", { class: "xprim-about" }, age,
      button("Ask again", () => model.send({ op: "refresh" }), { class: "xprim-button xprim-quiet", "aria-label": "Ask the registry again" })),
    news, el("div", { class: "xprim-body" }, el("div", { class: "xprim-main" }, frame, nothing,
      el("div", { class: "xprim-foot" }, el("div", { class: "xprim-pager" }, back, where, next), chosen)), panel.panel),
    region);
  const slash = (/** @type {any} */ event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(input|textarea)$/i.test(event.target.tagName)) return;
    event.preventDefault();
    search.focus();
  };
  root.addEventListener("keydown", slash);
  document.addEventListener("scroll", look, { capture: true, passive: true });
  const ticking = setInterval(() => drawAround(shown.size), AGE_MS);
  const ends = [
    stop,
    watch(model, ["catalogue"], load),
    watch(model, ["marks", "fetches", "free", "pulls", "picked", "confirm", "card", "registry", "news", "catalogue"], soon),
  ];
  read();
  return () => {
    alive = false;
    clearTimeout(looking);
    clearInterval(ticking);
    document.removeEventListener("scroll", look, { capture: true });
    root.removeEventListener("keydown", slash);
    ends.forEach((end) => end());
  };
}

export default { render };
