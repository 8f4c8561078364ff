// The question that is being written: its text, its pictures and clips, and the places drawn for it.
import { byId, el, iconButton, newId } from "./dom.js";
import { bytes, number, t } from "./i18n.js";
import { addressOf, mediaOf } from "./media.js";
import { describe } from "./regions.js";

export class Composer {
  /** @param {{changed: () => void, show: (media: string) => void, send: () => void}} hooks */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {string[]} */
    this.media = [];
    /** @type {import("./conversation.js").Place[]} */
    this.places = [];
    /** @type {string|null} the turn that is asked anew */
    this.editing = null;
    this.sample = "";
    this.field = /** @type {HTMLTextAreaElement} */ (byId("question"));
    this.field.addEventListener("input", () => this.fit());
    this.field.addEventListener("keydown", (event) => {
      // While characters are composed (Chinese, say), Enter chooses one of them.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.hooks.send();
    });
  }

  get text() {
    return this.field.value;
  }

  set text(words) {
    this.field.value = words;
    this.fit();
  }

  get empty() {
    return !this.text.trim() && !this.media.length && !this.places.length;
  }

  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight + 2, 220)}px`;
  }

  clear() {
    this.media = [];
    this.places = [];
    this.editing = null;
    this.sample = "";
    this.text = "";
    this.draw();
  }

  /** Takes over a turn to change it. @param {import("./conversation.js").Turn} turn */
  load(turn) {
    this.media = [...turn.media];
    this.places = turn.places.map((place) => ({ ...place }));
    this.editing = turn.id;
    this.text = turn.text;
    this.draw();
    this.field.focus();
  }

  addMedia(ids) {
    this.media.push(...ids);
    this.draw();
  }

  removeMedia(id) {
    this.media = this.media.filter((one) => one !== id);
    this.places.filter((place) => place.media === id).forEach((place) => this.removePlace(place.id));
    this.draw();
  }

  /** Adds a place and names it in the text. Returns its number. */
  addPlace(media, { kind, pixels }) {
    this.places.push({ id: newId(), media, kind, pixels, label: "" });
    const n = this.places.length;
    if (this.text.trim()) {
      const at = this.field.selectionEnd ?? this.text.length;
      const [before, after] = [this.text.slice(0, at), this.text.slice(at)];
      const mark = `${before && !/\s$/.test(before) ? " " : ""}[${n}]${after && !/^[\s?？.,。，]/.test(after) ? " " : ""}`;
      this.text = before + mark + after;
      this.field.setSelectionRange(at + mark.length, at + mark.length);
    } else {
      this.text = t("place.ask", { n });
      this.field.setSelectionRange(this.text.length, this.text.length);
    }
    this.draw();
    return n;
  }

  /** Takes a place out, its number from the text too; those after it move up. */
  removePlace(id) {
    const gone = this.places.findIndex((place) => place.id === id);
    if (gone < 0) return;
    this.places.splice(gone, 1);
    const text = this.text.replace(/ ?\[(\d{1,3})\]/g, (mark, digits) => {
      const n = Number(digits) - 1;
      if (n === gone) return "";
      return n > gone && n <= this.places.length ? mark.replace(digits, String(n)) : mark;
    });
    // What only asked about this place is not a question any more.
    const alone = t("place.ask", { n: gone + 1 }).replace(/ ?\[\d+\]/, "");
    this.text = text === alone ? "" : text;
    this.draw();
  }

  undoPlace() {
    const last = this.places.at(-1);
    if (last) this.removePlace(last.id);
  }

  draw() {
    byId("attached").replaceChildren(
      ...this.media
        .map(mediaOf)
        .filter(Boolean)
        .map((media) => this.mediaItem(media)),
    );
    byId("places").replaceChildren(...this.places.map((place, index) => this.placeItem(place, index + 1)));
    byId("editing").hidden = !this.editing;
    this.hooks.changed();
  }

  mediaItem(media) {
    const size = media.width ? `${number(media.width)} × ${number(media.height)}` : media.name;
    const face = media.thumb ? el("img", { src: addressOf(media, "thumb"), alt: "" }) : el("span", { class: "no-thumb" }, "▶");
    return el(
      "li",
      { class: "attachment" },
      el(
        "button",
        {
          type: "button",
          class: "attachment-face",
          "aria-label": media.name,
          title: media.name,
          onclick: () => this.hooks.show(media.id),
        },
        face,
      ),
      el("span", { class: "attachment-facts quiet" }, el("span", {}, size), el("span", {}, bytes(media.blob.size))),
      iconButton("close", t("remove", { name: media.name }), () => this.removeMedia(media.id), { class: "icon-button tiny" }),
    );
  }

  placeItem(place, n) {
    const label = el("input", {
      type: "text",
      class: "place-label",
      "aria-label": t("place.label", { n }),
      placeholder: t("place.label.hint"),
      maxlength: 100,
      value: place.label,
      oninput: () => (place.label = label.value.trim()),
      onkeydown: (event) => event.key === "Enter" && event.preventDefault(),
    });
    return el(
      "li",
      { class: "place-item" },
      el("span", { class: "mark" }, String(n)),
      el("span", { class: "place-pixels" }, `${t(place.kind)} ${describe(place)}`),
      label,
      iconButton("close", t("place.remove", { n }), () => this.removePlace(place.id), { class: "icon-button tiny" }),
    );
  }
}
