// The language of the interface: what `t` says, and who is told when it changes.
import { keep } from "./kept.js";
import { WORDS } from "./words.js";

const listeners = new Set();
let language = document.documentElement.lang === "zh" ? "zh" : "en";

/** "en" or "zh". */
export const currentLanguage = () => language;

/**
 * The words of a key in the language of the interface, with {name} replaced.
 * @param {string} key
 * @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  const words = WORDS[key];
  if (!words) return key;
  return words[language === "zh" ? 1 : 0].replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));
}

/** A number as the language writes it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(language === "zh" ? "zh-CN" : "en-US", { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** Bytes as kB or MB. */
export const bytes = (count) => (count < 1e6 ? `${number(Math.max(1, count / 1e3))} kB` : `${number(count / 1e6, 1)} MB`);

/** Milliseconds as ms or s. */
export const duration = (ms) => (ms < 1000 ? `${number(ms)} ms` : `${number(ms / 1000, 1)} s`);

export function setLanguage(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  keep("language", chosen);
  translate();
  for (const listener of listeners) listener();
}

/** Calls back after every change of language. */
export const onLanguage = (listener) => listeners.add(listener);

/** Fills in what index.html leaves to the language: texts, labels with tooltips, and hints. */
export function translate(root = document) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    const words = t(node.dataset.tLabel);
    node.setAttribute("aria-label", words);
    if (node.matches("button")) node.title = words;
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
}
