// The picture beside the conversation: shown as large as fits, with the places of an answer over it, and drawn on.
import { byId, el, onceAFrame, svg, toast } from "./dom.js";
import { Drawing } from "./drawing.js";
import { bytes, number, t } from "./i18n.js";
import { addressOf, mediaOf } from "./media.js";
import { answerOverlay, colourOf, drawnOverlay, outlineOverlay } from "./overlay.js";
import { pointsOf } from "./regions.js";
import { savePicture } from "./save_picture.js";

const LARGEST_FIT = 3; // small pictures are enlarged so far
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const TOOL_KEYS = { v: "look", b: "box", p: "point", q: "quad" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Stage {
  /**
   * @param {{
   *   placed: (media: string, place: {kind: string, pixels: any}) => number,
   *   undo: () => void,
   *   say: (words: string) => void,
   * }} hooks `placed` gives the number of the new place
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.drawing = new Drawing();
    this.root = byId("stage");
    this.view = byId("stage-view");
    this.frame = byId("frame");
    this.zoom = 1;
    /** @type {string[]} */
    this.shelf = [];
    /** @type {string|null} the media on show */
    this.current = null;
    /** @type {import("./conversation.js").Answer|null} whose places are shown */
    this.answer = null;
    /** @type {import("./conversation.js").Place[]} */
    this.places = [];
    this.tools = new Set(["box", "point", "quad"]);
    this.redraw = onceAFrame(() => this.drawOverlay());
    this.listen();
  }

  get media() {
    return this.current ? mediaOf(this.current) : undefined;
  }

  /** Shows these media, the last one of them if the one on show is gone. @param {string[]} shelf */
  setShelf(shelf) {
    const added = shelf.filter((id) => !this.shelf.includes(id));
    this.shelf = shelf;
    this.root.hidden = !shelf.length;
    document.body.classList.toggle("has-stage", shelf.length > 0);
    const next = added.length ? added[0] : shelf.includes(this.current ?? "") ? this.current : (shelf.at(-1) ?? null);
    this.drawFilm();
    this.show(next);
  }

  /** @param {string|null} id */
  show(id) {
    if (id !== this.current) {
      this.current = id;
      this.zoom = 1;
      this.drawPicture();
    }
    this.drawFilm();
    this.drawFacts();
    this.drawTools();
    this.resize();
    this.redraw();
  }

  /** Shows an answer's places, and the first picture that has one. @param {import("./conversation.js").Answer|null} answer */
  setAnswer(answer) {
    this.answer = answer;
    const on = answer?.regions?.map((region) => answer.pictures[region.image ?? 0]).filter((id) => this.shelf.includes(id)) ?? [];
    if (on.length && !on.includes(this.current)) this.show(on[0]);
    this.redraw();
  }

  /** Shows the picture that one place of an answer is on. */
  reveal(answer, place) {
    if (this.answer !== answer) this.setAnswer(answer);
    const id = answer.pictures[answer.regions[place]?.image ?? 0];
    if (this.shelf.includes(id) && id !== this.current) this.show(id);
  }

  setPlaces(places) {
    this.places = places;
    this.redraw();
    this.drawTools();
  }

  /** The kinds of places that the model has words for. @param {string[]} kinds @param {string} model */
  setTools(kinds, model) {
    this.tools = new Set(kinds);
    this.model = model;
    if (this.drawing.active && !this.tools.has(this.drawing.tool)) this.drawing.choose("look");
    this.drawTools();
  }

  choose(tool) {
    if (tool !== "look" && (!this.tools.has(tool) || this.media?.kind !== "image")) return;
    this.drawing.choose(tool);
    this.unfold();
    this.drawTools();
    this.redraw();
    if (tool !== "look") this.view.focus({ preventScroll: true });
  }

  /** Plays a stretch of a clip, in seconds. @param {string} id */
  async play(id, start, end) {
    this.unfold();
    this.show(id);
    const clip = this.frame.querySelector("video");
    if (!clip) return;
    clip.ontimeupdate = () => {
      if (clip.currentTime < end) return;
      clip.pause();
      clip.ontimeupdate = null;
    };
    clip.currentTime = start;
    await clip.play().catch(() => {});
  }

  unfold(open = true) {
    this.root.classList.toggle("folded", !open);
    byId("fold").setAttribute("aria-expanded", String(open));
  }

  // ---- what is shown

  drawPicture() {
    const media = this.media;
    this.frame.replaceChildren();
    if (!media) return;
    const address = addressOf(media);
    if (media.kind === "video") {
      const clip = el("video", { src: address, controls: true, playsinline: true, class: "shown", "aria-label": media.name });
      clip.muted = true;
      this.frame.append(clip);
    } else this.frame.append(el("img", { src: address, alt: media.name, class: "shown", draggable: "false" }));
    this.shapes = svg("svg", {
      class: "shapes",
      viewBox: `0 0 ${media.width || 1} ${media.height || 1}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    });
    this.names = el("div", { class: "names" });
    this.cross = el("div", { class: "cross", "aria-hidden": "true" });
    this.cross.hidden = true;
    this.frame.append(this.shapes, this.names, this.cross);
    this.drawing.open(media.width, media.height);
    this.drawing.choose(media.kind === "image" ? this.drawing.tool : "look");
    this.resize();
  }

  resize() {
    const media = this.media;
    if (!media) return;
    const [width, height] = [media.width || 640, media.height || 360];
    const room = this.view.getBoundingClientRect();
    const fit = Math.min(LARGEST_FIT, Math.max(0.02, (room.width - 24) / width), Math.max(0.02, (room.height - 24) / height));
    this.frame.style.width = `${width * fit * this.zoom}px`;
    this.frame.style.height = `${height * fit * this.zoom}px`;
    this.view.classList.toggle("zoomed", this.zoom > 1);
    const percent = `${Math.round(100 * fit * this.zoom)}%`;
    const button = byId("zoom-fit");
    button.textContent = percent;
    button.title = t("zoom.fit");
    button.setAttribute("aria-label", `${percent}, ${t("zoom.fit")}`);
  }

  drawOverlay() {
    const media = this.media;
    if (!media || !this.shapes) return;
    const answer = this.answer;
    const shown = (answer?.regions ?? []).flatMap((region, index) =>
      answer.pictures[region.image ?? 0] === media.id ? [index] : [],
    );
    const found = answer ? answerOverlay(answer.regions, shown, media, answer.id) : { shapes: [], names: [], crowded: false };
    const drawn = this.places.map((place, index) => ({ place, number: index + 1 })).filter(({ place }) => place.media === media.id);
    const mine = drawnOverlay(drawn, media);
    this.shapes.replaceChildren(...found.shapes, ...mine.shapes, ...outlineOverlay(this.drawing));
    // A name that has the focus keeps it: names are only made anew when they differ.
    const key = JSON.stringify([answer?.id, answer?.regions.length, shown, drawn]);
    if (this.names.dataset.key !== key) this.names.replaceChildren(...found.names, ...mine.names);
    this.names.dataset.key = key;
    this.frame.classList.toggle("crowded", found.crowded);
    this.frame.classList.toggle("drawing", this.drawing.active);
    this.cross.hidden = !this.drawing.active || document.activeElement !== this.view;
    this.cross.style.left = `${(100 * this.drawing.cursor[0]) / (media.width || 1)}%`;
    this.cross.style.top = `${(100 * this.drawing.cursor[1]) / (media.height || 1)}%`;
  }

  drawTools() {
    const picture = this.media?.kind === "image";
    for (const button of this.root.querySelectorAll("[data-tool]")) {
      const { tool } = button.dataset;
      const can = tool === "look" || (picture && this.tools.has(tool));
      button.disabled = !can;
      button.setAttribute("aria-pressed", String(tool === this.drawing.tool));
      button.title = can || !picture ? t(`tool.${tool}`) : t("tool.missing", { model: this.model });
    }
    byId("undo").disabled = !this.places.length;
    byId("save-picture").disabled = !picture;
    const help = [t(`help.${this.drawing.tool}`), matchMedia("(any-hover: hover)").matches ? t("help.by-keys") : ""];
    byId("stage-help").textContent = this.drawing.active ? help.join(" ") : "";
  }

  drawFilm() {
    const film = byId("film");
    film.hidden = this.shelf.length < 2;
    film.replaceChildren(
      ...this.shelf.map((id, index) => {
        const media = mediaOf(id);
        const label = t(media.kind === "video" ? "clip.n" : "picture.n", { n: index + 1, name: media.name });
        const face = media.thumb ? el("img", { src: addressOf(media, "thumb"), alt: "" }) : el("span", { class: "no-thumb" }, "▶");
        const button = el(
          "button",
          {
            type: "button",
            class: "film-button",
            "aria-label": label,
            title: label,
            "aria-current": id === this.current ? "true" : null,
            onclick: () => this.show(id),
          },
          face,
          el("span", { class: "film-number", "aria-hidden": "true" }, String(index + 1)),
        );
        return el("li", {}, button);
      }),
    );
  }

  drawFacts() {
    const media = this.media;
    if (!media) return;
    const size = media.width ? `${number(media.width)} × ${number(media.height)} px · ` : "";
    const length = media.seconds ? ` · ${number(media.seconds, 1)} s` : "";
    byId("picture-facts").textContent = `${size}${bytes(media.blob.size)}${length} ·`;
  }

  // ---- what the user does

  listen() {
    new ResizeObserver(() => this.resize()).observe(this.view);
    for (const button of this.root.querySelectorAll("[data-tool]"))
      button.addEventListener("click", () => this.choose(button.dataset.tool));
    byId("undo").addEventListener("click", () => this.takeBack());
    byId("zoom-in").addEventListener("click", () => this.step(1));
    byId("zoom-out").addEventListener("click", () => this.step(-1));
    byId("zoom-fit").addEventListener("click", () => this.step(0));
    byId("save-picture").addEventListener("click", () => this.save());
    byId("fold").addEventListener("click", () => this.unfold(this.root.classList.contains("folded")));
    this.frame.addEventListener("pointerdown", (event) => this.pointerDown(event));
    this.frame.addEventListener("pointermove", (event) => this.pointerMove(event));
    this.frame.addEventListener("pointerup", (event) => this.pointerUp(event));
    this.frame.addEventListener("pointercancel", () => (this.drawing.back(), this.redraw()));
    this.view.addEventListener("keydown", (event) => this.key(event));
    this.view.addEventListener("focus", () => this.redraw());
    this.view.addEventListener("blur", () => this.redraw());
  }

  step(by) {
    const at = ZOOMS.indexOf(this.zoom);
    this.zoom = by ? ZOOMS[Math.min(Math.max(at + by, 0), ZOOMS.length - 1)] : 1;
    this.resize();
  }

  moveToPointer(event) {
    const room = this.frame.getBoundingClientRect();
    const { width, height } = this.media;
    this.drawing.moveTo(((event.clientX - room.left) / room.width) * width, ((event.clientY - room.top) / room.height) * height);
  }

  pointerDown(event) {
    if (!this.drawing.active || event.button) return;
    event.preventDefault();
    this.view.focus({ preventScroll: true });
    this.frame.setPointerCapture(event.pointerId);
    this.moveToPointer(event);
    this.dragging = true;
    // A box begins where it is pressed and ends where it is let go; unless its first corner was set before.
    if (this.drawing.tool === "box" && !this.drawing.points.length) this.drawing.press();
    this.redraw();
  }

  pointerMove(event) {
    if (!this.drawing.active) return;
    this.moveToPointer(event);
    this.redraw();
  }

  pointerUp(event) {
    if (!this.drawing.active || !this.dragging) return;
    this.dragging = false;
    this.moveToPointer(event);
    this.press();
  }

  press() {
    const place = this.drawing.press();
    const [x, y] = this.drawing.cursor;
    if (place) {
      const n = this.hooks.placed(this.current, place);
      this.hooks.say(t("said.place", { n, kind: t(place.kind), pixels: pointsOf(place).join(" ") }));
    } else if (this.drawing.points.length) this.hooks.say(t("said.corner", { n: this.drawing.points.length, x, y }));
    this.redraw();
  }

  takeBack() {
    if (!this.drawing.back()) this.hooks.undo();
    this.redraw();
  }

  key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") return this.did(event, () => this.takeBack());
    if (event.ctrlKey || event.metaKey) return;
    const tool = TOOL_KEYS[event.key.toLowerCase()];
    if (tool) return this.did(event, () => this.choose(tool));
    if (event.target !== this.view || !this.drawing.active) return;
    if (event.key === "Backspace") return this.did(event, () => this.takeBack());
    if (event.key === "Enter" || event.key === " ") return this.did(event, () => this.press());
    if (event.key === "Escape") return this.did(event, () => (this.drawing.back() ? this.redraw() : this.choose("look")));
    const arrow = ARROWS[event.key];
    if (arrow) this.did(event, () => this.moveCross(arrow, event));
  }

  did(event, work) {
    event.preventDefault();
    event.stopPropagation();
    work();
  }

  moveCross([x, y], event) {
    const { width, height } = this.media;
    const step = event.altKey ? 1 : Math.max(1, Math.round(Math.max(width, height) * (event.shiftKey ? 0.1 : 0.02)));
    this.drawing.moveBy(x * step, y * step);
    this.hooks.say(t("said.cross", { x: this.drawing.cursor[0], y: this.drawing.cursor[1] }));
    this.redraw();
  }

  /** Downloads the picture with what is drawn over it. */
  async save() {
    const media = this.media;
    const found = [...this.shapes.querySelectorAll(".place[data-places]")].map((node) => ({
      region: this.answer.regions[Number(node.dataset.places)],
      colour: colourOf(node),
    }));
    const mine = this.places.filter((place) => place.media === media.id).map((place) => ({ region: place, colour: "#111111" }));
    toast(await savePicture(media, this.frame.querySelector("img"), [...found, ...mine]));
  }
}
