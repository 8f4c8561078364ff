// Makes elements. Text always goes in as text: nothing here, or anywhere in this page, reads a string as HTML.
import { ICONS } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/** The element of an id that index.html is known to have. @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * An element. `on...` are listeners, `data` goes to its dataset, `null`, `undefined` and `false` are left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node|string|null|false|undefined|Array<any>)} children
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  setAll(node, attributes);
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  setAll(node, attributes);
  node.append(...children.flat(Infinity).filter(Boolean));
  return node;
}

function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/** A line drawing; it says nothing to a screen reader, so that its button needs a label. @param {string} name */
export function icon(name) {
  const shapes = (ICONS[name] ?? []).map((d) => svg("path", { d }));
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, shapes);
}

/** A button with an icon, and its name as label and tooltip. */
export function iconButton(name, label, onclick, extra = {}) {
  return el("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...extra }, icon(name));
}

/** Puts the icons into the buttons of index.html that name one. */
export function fillIcons(root = document) {
  for (const node of root.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
}

/** An id that is not used yet; crypto.randomUUID is missing on plain http. */
export function newId() {
  const random = crypto.getRandomValues(new Uint32Array(2));
  return Date.now().toString(36) + [...random].map((value) => value.toString(36)).join("");
}

/** Calls `work` at most once a frame. */
export function onceAFrame(work) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      work();
    });
  };
}

/** Puts text on the clipboard, also on plain http, where the browser has no clipboard interface. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = el("textarea", { class: "hidden", value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

let hiding = 0;

/** A line at the bottom for some seconds, with one thing to do about it if there is one. */
export function toast(text, action = null) {
  const root = byId("toast");
  const close = () => root.replaceChildren();
  clearTimeout(hiding);
  const button =
    action && el("button", { type: "button", class: "button small", onclick: () => (action.run(), close()) }, action.name);
  root.replaceChildren(el("span", {}, text), ...(button ? [button] : []));
  hiding = setTimeout(close, action ? 8000 : 2500);
}
