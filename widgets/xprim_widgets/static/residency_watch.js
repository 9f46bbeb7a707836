// @ts-check
// Says that somebody looks, so that the kernel does; and of when its picture is, once none comes any more.
import { el, watch } from "./shared.js";

// The kernel looks for as long as a page says now and then that it is looked at.
const WATCH_MS = 30_000;
// It sends a picture every five seconds at least; after three that did not come the page says of when the last one is.
const STALE_MS = 16_000;

/** The time of day here. @param {number} at seconds since the epoch */
export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString("en-GB");
}

/** @param {any} model @param {any} root */
export function freshness(model, root) {
  const line = el("p", { class: "xprim-stale", hidden: true });
  let seen = true;
  let arrived = 0;
  const aged = () => {
    const at = model.get("at");
    const silent = seen && arrived && Date.now() - arrived > STALE_MS ? "The kernel is busy, or gone." : "";
    const why = model.get("note") || silent;
    const text = why ? `${why}${at ? ` This is the picture of ${clock(at)}.` : ""}` : "";
    line.hidden = !text;
    if (line.textContent !== text) line.textContent = text;
  };
  const took = () => {
    // A page that is loaded later shows what was kept: as old as it says.
    arrived = arrived || !model.get("at") ? Date.now() : Math.min(Date.now(), model.get("at") * 1000);
    aged();
  };
  const look = () => {
    if (seen) model.send({ op: "watch" });
  };
  const beats = [setInterval(look, WATCH_MS), setInterval(aged, STALE_MS / 4)];
  /** @type {any} */
  const eye = typeof IntersectionObserver === "undefined" ? null : new IntersectionObserver((entries) => {
    const before = seen;
    seen = entries.at(-1)?.isIntersecting ?? true;
    if (!seen || before) return;
    arrived = Date.now(); // while nobody looked, nothing was sent
    look();
  });
  eye?.observe(root);
  const stop = watch(model, ["at", "note"], took);
  look();
  return { line, stop: () => {
    stop();
    beats.forEach((each) => clearInterval(each));
    eye?.disconnect();
  } };
}
