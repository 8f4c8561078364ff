// Draws places over a picture: shapes as SVG in the picture's own pixels, their names as elements that can be focused.
import { el, svg } from "./dom.js";
import { coloursOf, describe, pointsOf } from "./regions.js";

const CROWDED = 16; // with more places, names are shown for the one that is pointed at alone

/**
 * The overlay of an answer's places on one picture. Shape, name and word of a place share data-answer and data-places.
 * @param {import("./regions.js").Region[]} regions all of the answer: places are numbered through
 * @param {number[]} shown the numbers of those on this picture
 * @param {{width: number, height: number}} size of the picture
 * @param {string} answer its id
 */
export function answerOverlay(regions, shown, size, answer) {
  const colours = coloursOf(regions);
  // Large places first: small ones lie above them and can be pointed at.
  const order = [...shown].sort((a, b) => area(regions[b]) - area(regions[a]));
  const shapes = order.map((place) => {
    const data = { answer, places: String(place) };
    return svg(
      "g",
      { class: `place colour-${colours[place]}`, data },
      shape(regions[place], "halo"),
      shape(regions[place], "line"),
    );
  });
  const names = order.map((place) =>
    nameTag(
      regions[place],
      size,
      {
        class: `tag colour-${colours[place]}${regions[place].label ? "" : " nameless"}`,
        data: { answer, places: String(place) },
        tabindex: "0",
        role: "note",
        "aria-label": `${regions[place].label ?? ""} ${describe(regions[place])}`.trim(),
      },
      regions[place].label ?? describe(regions[place]),
    ),
  );
  return { shapes, names, crowded: shown.length > CROWDED };
}

/** The overlay of places that the user has drawn. @param {{place: import("./conversation.js").Place, number: number}[]} drawn */
export function drawnOverlay(drawn, size) {
  const shapes = drawn.map(({ place }) => svg("g", { class: "place mine" }, shape(place, "halo"), shape(place, "line")));
  const names = drawn.map(({ place, number }) => nameTag(place, size, { class: "tag mine", "aria-hidden": "true" }, `${number}`));
  return { shapes, names };
}

/** What is being drawn just now. @param {import("./drawing.js").Drawing} drawing */
export function outlineOverlay(drawing) {
  const points = drawing.outline;
  if (!points.length) return [];
  if (drawing.tool === "box") {
    const [[x, y], [right, bottom]] = points;
    const pixels = [Math.min(x, right), Math.min(y, bottom), Math.max(x, right), Math.max(y, bottom)];
    return [svg("g", { class: "place mine now" }, shape({ kind: "box", pixels }, "halo"), shape({ kind: "box", pixels }, "line"))];
  }
  const path = points.map((point) => point.join(" ")).join(" L");
  return [
    svg(
      "g",
      { class: "place mine now" },
      svg("path", { class: "halo", d: `M${path}` }),
      svg("path", { class: "line", d: `M${path}` }),
    ),
  ];
}

function shape(region, kind) {
  const points = pointsOf(region);
  if (region.kind === "point") return svg("path", { class: `${kind} dot`, d: points.map(([x, y]) => `M${x} ${y}h0`).join("") });
  if (region.kind === "box" && points.length === 2) {
    const [[left, top], [right, bottom]] = points;
    return svg("rect", { class: kind, x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) });
  }
  return svg("polygon", { class: kind, points: points.map((point) => point.join(",")).join(" ") });
}

/** A name at the top left of its place, below the edge where there is no room above. */
function nameTag(region, { width, height }, attributes, words) {
  const points = pointsOf(region);
  const left = Math.min(...points.map(([x]) => x)) / width;
  const top = Math.min(...points.map(([, y]) => y)) / height;
  const tag = el("span", attributes, el("span", { class: "tag-words" }, words));
  // Near the right edge a name ends with its place, so that it stays on the picture.
  const right = Math.max(...points.map(([x]) => x)) / width;
  const percent = (value) => `${100 * Math.min(Math.max(value, 0), 1)}%`;
  if (left > 0.6) tag.style.right = percent(1 - right);
  else tag.style.left = percent(left);
  tag.style.top = percent(top);
  tag.classList.toggle("inside", top < 0.09);
  return tag;
}

function area(region) {
  const points = pointsOf(region);
  if (points.length < 2) return 0;
  const across = points.map(([x]) => x);
  const down = points.map(([, y]) => y);
  return (Math.max(...across) - Math.min(...across)) * (Math.max(...down) - Math.min(...down));
}

/** The colours of shapes and names, as theme.css has them, for a picture that is saved. */
export const colourOf = (node) => getComputedStyle(node).getPropertyValue("--c").trim();
