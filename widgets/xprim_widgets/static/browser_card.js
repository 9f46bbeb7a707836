// @ts-check
// The panel beside the table: the line of code that uses a model, and its card. And the clipboard.
import { build, button, el } from "./shared.js";
import { codeOf } from "./browser_rows.js";

/**
 * Put a text on the clipboard; where that is not allowed, `field` is shown with the text selected.
 * @param {string} text
 * @param {any} field an input or textarea
 * @param {(words: string) => void} say
 */
export async function copy(text, field, say) {
  field.value = text;
  try {
    await navigator.clipboard.writeText(text);
    say("copied");
    return true;
  } catch {
    field.hidden = false;
    field.focus();
    field.select();
    say("Copying is not allowed here; the text is selected.");
    return false;
  }
}

/**
 * @param {any} model
 * @param {(words: string) => void} say
 * @param {(ref: string) => void} closed called when it has been closed, to give the focus back
 */
export function makePanel(model, say, closed) {
  const title = el("h3", {});
  const code = el("input", { type: "text", readonly: true, class: "xprim-code", "aria-label": "The line that uses it" });
  const copied = el("span", { class: "xprim-faint", "aria-hidden": "true" });
  /** @param {string} words */
  const told = (words) => {
    copied.textContent = words;
    say(words);
  };
  const close = () => {
    wanted = "";
    shut = model.get("card")?.ref ?? "";
    panel.hidden = true;
    model.send({ op: "close_card" });
    closed(title.textContent);
  };
  const body = el("div", { class: "xprim-text" });
  const panel = el("section", { class: "xprim-panel", role: "region", "aria-label": "Model card", tabindex: 0, hidden: true },
    el("div", { class: "xprim-head" }, title, button("Close", close, { class: "xprim-button xprim-quiet", "aria-label": "Close the card" })),
    el("div", { class: "xprim-use" }, code, button("Copy", () => copy(code.value, code, told)), copied), body);
  panel.addEventListener("keydown", (/** @type {any} */ event) => {
    if (event.key === "Escape") close();
  });
  // What was just clicked is shown at once, though the kernel may be busy; its own word on it follows.
  let wanted = "";
  let shut = "";
  let drawn = "";

  /** @param {(ref: string) => boolean} isHere */
  const draw = (isHere) => {
    const card = model.get("card") ?? {};
    if (card.ref !== shut) shut = "";
    const ref = wanted || (shut ? "" : card.ref ?? "");
    panel.hidden = !ref;
    if (!ref) {
      drawn = "";
      return;
    }
    if (card.ref === wanted) wanted = "";
    const key = JSON.stringify([ref, isHere(ref), card.ref === ref ? card : null]);
    if (key === drawn) return;
    drawn = key;
    if (title.textContent !== ref) {
      copied.textContent = "";
      panel.scrollTop = 0;
    }
    title.textContent = ref;
    code.value = codeOf(ref, isHere(ref));
    const ready = card.ref === ref && card.pairs;
    body.replaceChildren(
      ...(ready ? contents(card) : [el("p", { class: "xprim-faint" }, card.ref === ref && !card.loading ? "" : "Reading the card…")]));
  };

  /** @param {string} ref @param {(ref: string) => boolean} isHere @param {boolean} use */
  const open = (ref, isHere, use) => {
    wanted = ref;
    model.send({ op: "card", ref });
    draw(isHere);
    panel.scrollIntoView?.({ block: "nearest" });
    if (!use) return panel.focus({ preventScroll: true });
    code.focus({ preventScroll: true });
    code.select();
    copy(code.value, code, told);
  };
  return { panel, draw, open };
}

/** @param {any} card */
function contents(card) {
  const pairs = card.pairs.flatMap((/** @type {[string, string]} */ [key, value]) => [el("dt", {}, key), el("dd", {}, value)]);
  return [
    el("dl", {}, ...pairs),
    card.note ? el("p", { class: "xprim-faint" }, card.note) : "",
    ...card.tree.map(build),
  ];
}
