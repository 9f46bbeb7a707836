// A document to test views in: happy-dom, from the folder that $XPRIM_JS_MODULES names, or found from here.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const home = process.env.XPRIM_JS_MODULES;
const require = createRequire(home ? pathToFileURL(`${home}/`) : import.meta.url);
const { Window } = require("happy-dom");

const window = new Window();
for (const name of ["document", "Node", "Event", "KeyboardEvent", "HTMLElement"]) globalThis[name] = window[name];
globalThis.window = window;

/** What a view sees of an anywidget model: traits, listeners, and the words it sends. */
export class FakeModel {
  /** @param {Record<string, any>} traits */
  constructor(traits) {
    this.traits = { error: {}, ...traits };
    this.sent = [];
    this.listeners = new Map();
  }
  get(name) {
    return structuredClone(this.traits[name]);
  }
  /** As when the kernel sets a trait. */
  set(name, value) {
    this.traits[name] = value;
    for (const listener of [...(this.listeners.get(`change:${name}`) ?? [])]) listener();
  }
  send(content) {
    this.sent.push(content);
  }
  on(name, listener) {
    if (!this.listeners.has(name)) this.listeners.set(name, new Set());
    this.listeners.get(name).add(listener);
  }
  off(name, listener) {
    this.listeners.get(name)?.delete(listener);
  }
  /** How many listen: none may be left when a view has gone. */
  get listening() {
    return [...this.listeners.values()].reduce((count, each) => count + each.size, 0);
  }
}

/** Show a view in the document; the result has its root and `close`. */
export async function show(view, traits) {
  const model = new FakeModel(traits);
  const root = document.createElement("div");
  document.body.append(root);
  await view.initialize?.({ model });
  const clean = await view.render({ model, el: root });
  return {
    model,
    root,
    close: () => {
      clean?.();
      root.remove();
    },
  };
}
