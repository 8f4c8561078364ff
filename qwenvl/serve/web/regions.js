// Places in answers: their points, their colours, and the words of the answer that they belong to.

/**
 * @typedef {Object} Region
 * @property {"box"|"point"|"quad"} kind
 * @property {number[]|number[][]} pixels of the original picture: [left, top, right, bottom] of a box, else a list of [x, y]
 * @property {string|null} [label]
 * @property {number} [image] which picture of the conversation, from 0
 */

export const COLOURS = 10;

/** Marks in a text: OPEN, the number of a link, MIDDLE, the words, CLOSE. Private to this page; taken out of what models write. */
export const OPEN = "\uE000";
export const MIDDLE = "\uE001";
export const CLOSE = "\uE002";

/** The points of a place, whichever way its pixels are written. @param {Region} region @returns {[number, number][]} */
export function pointsOf(region) {
  const flat = (region.pixels ?? []).flat().map(Number);
  return Array.from({ length: Math.floor(flat.length / 2) }, (_, index) => [flat[2 * index], flat[2 * index + 1]]);
}

/** "12, 52 – 129, 145": a box by two corners, a point by itself, a quad by its four. */
export const describe = (region) =>
  pointsOf(region)
    .map((point) => point.map((value) => Math.round(value)).join(", "))
    .join(region.kind === "box" ? " – " : " · ");

/** The number of each place's colour: one per label, in the order of the answer. @param {Region[]} regions */
export function coloursOf(regions) {
  const labels = [...new Set(regions.map((region) => region.label ?? ""))];
  return regions.map((region) => labels.indexOf(region.label ?? "") % COLOURS);
}

/** Four corners, clockwise from the top left, whichever way they were given. @param {[number, number][]} points */
export function clockwise(points) {
  const middle = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const turned = [...points].sort((a, b) => angle(a, middle) - angle(b, middle));
  const sums = turned.map(([x, y]) => x + y);
  const first = sums.indexOf(Math.min(...sums));
  return [...turned.slice(first), ...turned.slice(0, first)];
}

const angle = ([x, y], [middleX, middleY]) => Math.atan2(y - middleY, x - middleX);

/**
 * The answer's text with marks around the words that places belong to, and what each mark stands for.
 *
 * Labels are looked for in the order of the places. Places in a row with one label share its word, unless the word
 * comes again for each of them. `loose` are the places without a word.
 * @param {string} text
 * @param {Region[]} regions
 * @returns {{text: string, links: number[][], loose: number[]}}
 */
export function linkWords(text, regions) {
  const plain = withoutMarks(text);
  /** @type {{start: number, end: number, places: number[]}[]} */
  const ranges = [];
  const loose = [];
  let cursor = 0;
  for (const { label, places } of runs(regions)) {
    const free = label
      ? occurrences(plain, label).filter((start) => !ranges.some((range) => overlaps(range, start, label.length)))
      : [];
    const ahead = free.filter((start) => start >= cursor);
    const starts = ahead.length ? ahead : free;
    if (starts.length) {
      const each = places.length > 1 && starts.length === places.length;
      const groups = each ? places.map((place) => [place]) : [places];
      groups.forEach((group, index) => ranges.push({ start: starts[index], end: starts[index] + label.length, places: group }));
      cursor = ranges.at(-1).end;
      continue;
    }
    const same = ranges.find((range) => plain.slice(range.start, range.end).toLowerCase() === label?.toLowerCase());
    if (same) same.places.push(...places);
    else loose.push(...places);
  }
  ranges.sort((a, b) => a.start - b.start);
  let marked = "";
  let done = 0;
  ranges.forEach((range, link) => {
    marked += plain.slice(done, range.start) + OPEN + link + MIDDLE + plain.slice(range.start, range.end) + CLOSE;
    done = range.end;
  });
  return { text: marked + plain.slice(done), links: ranges.map((range) => range.places), loose };
}

export const withoutMarks = (text) => text.replace(/[\uE000-\uE002]/g, "");

/** Places in a row that have one label. */
function runs(regions) {
  const found = [];
  regions.forEach((region, place) => {
    const label = withoutMarks(region.label ?? "").trim() || null;
    if (label && found.at(-1)?.label === label) found.at(-1).places.push(place);
    else found.push({ label, places: [place] });
  });
  return found;
}

const overlaps = (range, start, length) => start < range.end && start + length > range.start;

/** Where a label stands as words of its own, case ignored if it has to be. */
function occurrences(text, label) {
  const exact = wholeWords(text, label);
  return exact.length ? exact : wholeWords(text.toLowerCase(), label.toLowerCase());
}

const LETTER = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{N}]/u;

function wholeWords(text, label) {
  const found = [];
  for (let start = text.indexOf(label); start >= 0 && found.length < 1000; start = text.indexOf(label, start + 1)) {
    const before = text[start - 1] ?? " ";
    const after = text[start + label.length] ?? " ";
    const cut = (LETTER.test(before) && LETTER.test(label[0])) || (LETTER.test(after) && LETTER.test(label.at(-1)));
    if (!cut) found.push(start);
  }
  return found;
}

// Both spellings of the tags: Qwen-VL's, and Qwen2-VL's special tokens.
const PLACES = /<(box|quad)>[^]*?(?:<\/\1>|$)|<\|(box|quad)_start\|>[^]*?(?:<\|\2_end\|>|$)/g;
const PHRASES = /<\/?ref>|<\|object_ref_(?:start|end)\|>|<\/(?:box|quad)>|<\|(?:box|quad)_end\|>/g;
const BEGUN = /<(?:\|?\/?[a-z_]{0,20}\|?)?$/;

/** A text that is still being written, without tags of places; a tag that has only begun is held back. */
export const whileWriting = (text) => withoutMarks(text).replace(PLACES, "").replace(PHRASES, "").replace(BEGUN, "");
