// What every view relies on: text stays text, trees keep to their tags, the focus survives.
import assert from "node:assert/strict";
import test from "node:test";

import { FakeModel } from "./dom.js";
import { build, button, el, formatBytes, keepFocus, outlet, watch } from "../xprim_widgets/static/shared.js";

const HOSTILE = `<img src=x onerror="alert(1)"><script>alert(1)</script>\u202e`;

test("text that looks like markup is text", () => {
  const node = el("div", { title: HOSTILE }, HOSTILE, null, false, 7);
  assert.equal(node.textContent, `${HOSTILE}7`);
  assert.equal(node.children.length, 0);
  assert.equal(node.getAttribute("title"), HOSTILE);
});

test("a property that is false leaves nothing behind, one that is true an empty attribute", () => {
  const node = el("button", { disabled: false, hidden: true, class: null });
  assert.equal(node.hasAttribute("disabled"), false);
  assert.equal(node.getAttribute("hidden"), "");
  assert.equal(node.hasAttribute("class"), false);
});

test("a tree becomes elements of our list, links lead to the web, everything else is text in a span", () => {
  const box = el("div", {},
    build(["p", {}, "see ", ["a", { href: "https://example.org", onclick: "alert(1)" }, "there"], HOSTILE]),
    build(["script", {}, "alert(1)"]), build(["a", { href: "javascript:alert(1)" }, "no"]), build(["img", { src: "x" }]));
  assert.equal(box.querySelectorAll("script, img").length, 0);
  const [there, no] = box.querySelectorAll("a");
  assert.equal(there.getAttribute("href"), "https://example.org");
  assert.equal(there.hasAttribute("onclick"), false);
  assert.equal(there.getAttribute("rel"), "noopener noreferrer nofollow");
  assert.equal(no.hasAttribute("href"), false);
  assert.ok(box.textContent.includes(HOSTILE));
});

test("watching calls once now, then at each change, and no more after its end", () => {
  const model = new FakeModel({ rows: [] });
  let calls = 0;
  const end = watch(model, ["rows", "error"], () => (calls += 1));
  model.set("rows", [1]);
  model.set("error", {});
  assert.equal(calls, 3);
  end();
  model.set("rows", [2]);
  assert.equal(calls, 3);
  assert.equal(model.listening, 0);
});

test("an error stands in the outlet as an alert, and goes when it was read", () => {
  const model = new FakeModel({});
  const root = el("div");
  const { errors, say, region, stop } = outlet(model, root, "test");
  root.append(errors, region);
  model.set("error", { text: HOSTILE, hint: "do this" });
  assert.ok(errors.querySelector('[role="alert"]').textContent.includes(HOSTILE));
  errors.querySelector("button").click();
  assert.deepEqual(model.sent, [{ op: "dismiss" }]);
  model.set("error", {});
  assert.equal(errors.children.length, 0);
  say("twenty percent");
  assert.equal(root.querySelector('[role="status"]').textContent, "twenty percent");
  stop();
  assert.equal(model.listening, 0);
});

test("what is drawn anew leaves the focus on what had it, or on its neighbour", () => {
  const [box, nearby] = [el("div"), el("input")];
  document.body.append(box, nearby);
  const make = (...keys) => () => box.replaceChildren(...keys.map((key) => button(key, () => {}, { "data-key": key })));
  make("open|a", "repair|a")();
  box.querySelector('[data-key="repair|a"]').focus();
  keepFocus(box, nearby, make("open|a", "repair|a"));
  assert.equal(document.activeElement.getAttribute("data-key"), "repair|a");
  keepFocus(box, nearby, make("open|a"));
  assert.equal(document.activeElement.getAttribute("data-key"), "open|a");
  keepFocus(box, nearby, make("open|b"));
  assert.equal(document.activeElement, nearby);
  box.remove();
  nearby.remove();
});

test("sizes are written as Python writes them", () => {
  const written = [0, 512, 1023, 1024, 10 * 1024 ** 2, 79167488, 1024 ** 4 * 2048].map(formatBytes);
  assert.deepEqual(written, ["0 B", "512 B", "1023 B", "1.0 KB", "10.0 MB", "75.5 MB", "2048.0 TB"]);
});
