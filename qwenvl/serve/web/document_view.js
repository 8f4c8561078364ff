// QwenVL HTML as a page: the elements of a document that the model wrote, made anew from a short list of harmless ones.
//
// No parser of the browser's sees the text. Tags are told from words by a pattern; of attributes, only the spans of cells, the
// words that stand for a picture, and that there is a data-bbox (which ties an element to its place) are looked at.
import { el } from "./dom.js";

const names = (words) => new Set(words.split(" "));
const KEPT = names(
  "h1 h2 h3 h4 h5 h6 p ul ol li table thead tbody tr th td caption b strong i em u s sup sub pre code blockquote figure figcaption div span",
);
const VOID = names("br hr img input meta link");
/** What a tag like it ends, if it was left open. */
const CLOSES = { li: names("li"), tr: names("tr td th"), td: names("td th"), th: names("td th"), p: names("p") };
const TAG = /<(\/?)([a-z][a-z0-9-]*)((?:[^<>"']|"[^"<>]*"|'[^'<>]*')*)>|<!--[^]*?-->|<!doctype[^>]*>/gi;
const SILENT = /<(script|style|head|template|iframe|svg|math)\b[^]*?(?:<\/\1\s*>|$)/gi;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };
const LONGEST = 200_000; // characters; more is shown as text
const DEEPEST = 40;

/**
 * The page, or null if the answer is no such document.
 * @param {import("./conversation.js").Answer} answer
 * @param {number[]} colours
 */
export function documentView(answer, colours) {
  const text = unfence(answer.content);
  const looksLikeIt = /^\s*<(?:!doctype html|html|body)\b/i.test(text) || /^\s*<\w+[^<>]*\bdata-bbox=/i.test(text);
  if (!looksLikeIt || text.length > LONGEST) return null;
  const said = text.replace(SILENT, "");
  // The n-th box of the text is the n-th place of the answer, unless the server left out one that has no area.
  const boxes = [...said.matchAll(TAG)].filter((tag) => !tag[1] && /\bdata-bbox\s*=/i.test(tag[3] ?? "")).length;
  const tied = boxes === answer.regions.length;
  let place = -1;
  const root = el("div", { class: "document", tabindex: "0", role: "group" });
  const open = [root];
  let done = 0;
  const write = (words) => words && open.at(-1).append(decode(words));
  for (const tag of said.matchAll(TAG)) {
    write(said.slice(done, tag.index));
    done = tag.index + tag[0].length;
    const name = tag[2]?.toLowerCase();
    if (!name) continue;
    if (tag[1]) {
      close(open, name);
      continue;
    }
    const inside = tag[3] ?? "";
    const attributes = {};
    if (/\bdata-bbox\s*=/i.test(inside)) {
      place += 1;
      if (tied)
        Object.assign(attributes, {
          class: `block colour-${colours[place]}`,
          tabindex: "0",
          data: { answer: answer.id, places: String(place) },
        });
    }
    if (CLOSES[name]?.has(open.at(-1).localName)) close(open, open.at(-1).localName);
    const node = make(name, attributes, inside);
    if (!node) continue;
    open.at(-1).append(node);
    if (!VOID.has(name) && open.length < DEEPEST) open.push(node);
  }
  write(said.slice(done));
  return root;
}

function make(name, attributes, inside) {
  if (name === "br" || name === "hr") return el(name);
  if (name === "img")
    return el("div", { ...attributes, class: `picture-block ${attributes.class ?? ""}` }, decode(value(inside, "alt")) || "▧");
  if (!KEPT.has(name)) return null;
  for (const span of ["colspan", "rowspan"]) {
    const count = Number(value(inside, span));
    if (Number.isInteger(count) && count > 1 && count < 100) attributes[span] = count;
  }
  return el(name, attributes);
}

/** Closes the nearest open element of a name; a closing tag without one is passed over. */
function close(open, name) {
  const at = open.findLastIndex((node, index) => index > 0 && node.localName === name);
  if (at > 0) open.length = at;
}

const value = (inside, name) =>
  new RegExp(`\\b${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([\\w.-]+))`, "i")
    .exec(inside)
    ?.slice(1)
    .find((one) => one !== undefined) ?? "";

const decode = (words) =>
  words.replace(/&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]+));/gi, (all, decimal, hex, name) => {
    const code = decimal ? Number(decimal) : hex ? parseInt(hex, 16) : null;
    if (code !== null) return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : all;
    return ENTITIES[name.toLowerCase()] ?? all;
  });

/** Without the fence of a code block around it. */
const unfence = (text) => text.replace(/^\s*```(?:html)?\s*\n/i, "").replace(/\n```\s*$/, "");
