// Shows a model's text: paragraphs, headings, lists, tables, code and JSON, made as elements one by one.
// Tags that the text has stay text; addresses are not linked, and nothing is loaded because of it.
import { el } from "./dom.js";
import { CLOSE, MIDDLE, OPEN } from "./regions.js";

const FENCE = /^\s*(?:```|~~~)\s*([\w+-]*)\s*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const BULLET = /^\s*[-*•]\s+(.*)$/;
const NUMBERED = /^\s*(\d{1,4})[.)]\s+(.*)$/;
const RULE = /^\s*(?:-{3,}|\*{3,})\s*$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const LINK = new RegExp(`${OPEN}(\\d+)${MIDDLE}([^${CLOSE}]*)${CLOSE}`);
const INLINE = new RegExp(`${LINK.source}|\`([^\`\\n]+)\`|\\*\\*(\\S[^*]*?)\\*\\*|\\*(\\S[^*\\n]*?)\\*`);

/** @typedef {(link: number, children: Node[]) => Node} MakeLink makes the element of a marked word */

/**
 * @param {string} text with the marks of `regions.linkWords`
 * @param {MakeLink} link
 * @returns {Node[]}
 */
export function render(text, link) {
  const json = asJson(text);
  if (json !== null) return [codeBlock(json, "json", link)];
  const blocks = [];
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const block = readBlock(lines, at, link);
    if (block.node) blocks.push(block.node);
    at = block.next;
  }
  return blocks;
}

/** The text laid out as JSON, if it is an object or a list. Marks lie within its strings and stay there. */
function asJson(text) {
  if (!/^\s*[[{]/.test(text)) return null;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

function readBlock(lines, at, link) {
  const line = lines[at];
  if (!line.trim()) return { next: at + 1 };
  const fence = FENCE.exec(line);
  if (fence) {
    let end = at + 1;
    while (end < lines.length && !/^\s*(?:```|~~~)\s*$/.test(lines[end])) end += 1;
    const code = lines.slice(at + 1, end).join("\n");
    return { node: codeBlock(fence[1] === "json" ? (asJson(code) ?? code) : code, fence[1], link), next: end + 1 };
  }
  const heading = HEADING.exec(line);
  if (heading) {
    const level = Math.min(6, heading[1].length + 2);
    return { node: el(`h${level}`, {}, inline(heading[2], link)), next: at + 1 };
  }
  if (RULE.test(line)) return { node: el("hr"), next: at + 1 };
  if (line.includes("|") && DIVIDER.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return readTable(lines, at, link);
  for (const [tag, pattern] of [
    ["ul", BULLET],
    ["ol", NUMBERED],
  ]) {
    if (pattern.test(line)) return readList(lines, at, tag, pattern, link);
  }
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end += 1;
  const words = lines.slice(at, end).flatMap((one, index) => [...(index ? [el("br")] : []), ...inline(one, link)]);
  return { node: el("p", {}, words), next: end };
}

const startsBlock = (line) => [FENCE, HEADING, BULLET, NUMBERED, RULE].some((pattern) => pattern.test(line));

function readList(lines, at, tag, pattern, link) {
  const items = [];
  let end = at;
  for (; end < lines.length && pattern.test(lines[end]); end += 1) items.push(pattern.exec(lines[end]));
  const start = tag === "ol" ? { start: items[0][1] } : {};
  return {
    node: el(
      tag,
      start,
      items.map((item) => el("li", {}, inline(item.at(-1), link))),
    ),
    next: end,
  };
}

function readTable(lines, at, link) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split("|")
      .map((cell) => cell.trim());
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const head = el(
    "tr",
    {},
    cells(lines[at]).map((cell) => el("th", { scope: "col" }, inline(cell, link))),
  );
  const body = lines.slice(at + 2, end).map((line) =>
    el(
      "tr",
      {},
      cells(line).map((cell) => el("td", {}, inline(cell, link))),
    ),
  );
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, body));
  return { node: el("div", { class: "table", tabindex: "0", role: "group" }, table), next: end };
}

const JSON_TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)/gi;

function codeBlock(code, language, link) {
  const body = el("code", {});
  let done = 0;
  if (language === "json") {
    for (const found of code.matchAll(JSON_TOKEN)) {
      const kind = found[1] ? (found[2] ? "key" : "string") : "value";
      const word = found[1] ?? found[0];
      body.append(...links(code.slice(done, found.index), link), el("span", { class: `json-${kind}` }, links(word, link)));
      done = found.index + word.length;
    }
  }
  body.append(...links(code.slice(done), link));
  return el("pre", { class: "code", tabindex: "0" }, body);
}

/** Text with its marked words, nothing else. */
function links(text, link) {
  const nodes = [];
  let rest = text;
  for (let found = LINK.exec(rest); found; found = LINK.exec(rest)) {
    nodes.push(rest.slice(0, found.index), link(Number(found[1]), [document.createTextNode(found[2])]));
    rest = rest.slice(found.index + found[0].length);
  }
  return [...nodes, rest]
    .filter((node) => node !== "")
    .map((node) => (typeof node === "string" ? document.createTextNode(node) : node));
}

/** Marked words, code, bold and italics of a line. @returns {Node[]} */
function inline(text, link) {
  const nodes = [];
  let rest = text;
  for (let found = INLINE.exec(rest); found; found = INLINE.exec(rest)) {
    nodes.push(document.createTextNode(rest.slice(0, found.index)));
    const [, number, words, code, bold, italic] = found;
    if (number !== undefined) nodes.push(link(Number(number), inline(words, link)));
    else if (code !== undefined) nodes.push(el("code", {}, links(code, link)));
    else if (bold !== undefined) nodes.push(el("strong", {}, inline(bold, link)));
    else nodes.push(el("em", {}, inline(italic, link)));
    rest = rest.slice(found.index + found[0].length);
  }
  nodes.push(document.createTextNode(rest));
  return nodes;
}
