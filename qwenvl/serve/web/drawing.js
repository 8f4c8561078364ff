// A place that is being drawn: corners set one by one, by pointer or by keyboard, in whole pixels of the original picture.
import { clockwise } from "./regions.js";

const CORNERS = { box: 2, point: 1, quad: 4 };

/** @typedef {"look"|"box"|"point"|"quad"} Tool */

export class Drawing {
  constructor() {
    /** @type {Tool} */
    this.tool = "look";
    /** @type {[number, number][]} corners that are set */
    this.points = [];
    /** @type {[number, number]} where the pointer or the cross is */
    this.cursor = [0, 0];
    this.size = [1, 1];
  }

  /** Another picture: width and height in pixels. The cross begins in its middle. */
  open(width, height) {
    this.size = [width, height];
    this.points = [];
    this.cursor = [Math.round(width / 2), Math.round(height / 2)];
  }

  /** @param {Tool} tool */
  choose(tool) {
    this.tool = tool;
    this.points = [];
  }

  get active() {
    return this.tool !== "look";
  }

  moveTo(x, y) {
    this.cursor = [x, y].map((value, axis) => Math.round(Math.min(Math.max(value, 0), this.size[axis])));
  }

  moveBy(x, y) {
    this.moveTo(this.cursor[0] + x, this.cursor[1] + y);
  }

  /** Takes the last corner back. False if there was none. */
  back() {
    return this.points.pop() !== undefined;
  }

  /** Sets a corner at the cursor. The finished place, if it was the last one and the place has an area; else null. */
  press() {
    if (!this.active) return null;
    this.points.push([...this.cursor]);
    if (this.points.length < CORNERS[this.tool]) return null;
    const points = this.points;
    this.points = [];
    return finished(this.tool, points);
  }

  /** The corners with the cursor as the next one: what is shown while drawing. */
  get outline() {
    return this.active && this.points.length ? [...this.points, this.cursor] : [];
  }
}

function finished(kind, points) {
  const across = points.map(([x]) => x);
  const down = points.map(([, y]) => y);
  const box = [Math.min(...across), Math.min(...down), Math.max(...across), Math.max(...down)];
  if (kind === "point") return { kind, pixels: points };
  if (box[2] - box[0] < 2 || box[3] - box[1] < 2) return null;
  return kind === "box" ? { kind, pixels: box } : { kind, pixels: clockwise(points) };
}
