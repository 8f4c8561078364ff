// The models of the server: the choice among them, and what the chosen one can do.
import { listModels } from "./api.js";
import { byId, el } from "./dom.js";
import { number, t } from "./i18n.js";
import { keep, recall } from "./kept.js";

const KEPT = "model";

/** Kinds of places by markup: tags know no points, JSON lists no corners. */
const TAG_KINDS = ["box", "quad"];
const JSON_KINDS = ["box", "point"];

export class Models {
  /** @param {() => void} changed */
  constructor(changed) {
    /** @type {Array<Record<string, any>>} */
    this.all = [];
    this.select = /** @type {HTMLSelectElement} */ (byId("model"));
    this.select.addEventListener("change", () => {
      keep(KEPT, this.select.value);
      changed();
    });
  }

  async load() {
    this.all = await listModels();
    const kept = recall(KEPT);
    const chosen =
      this.all.find((model) => model.id === kept) ?? this.all.find((model) => model.qwenvl?.style !== "raw") ?? this.all[0];
    this.select.replaceChildren(
      ...this.all.map((model) => el("option", { value: model.id, selected: model === chosen }, model.id)),
    );
    if (!this.all.length) this.select.append(el("option", { value: "" }, t("model.none")));
  }

  get name() {
    return this.select.value;
  }

  /** What the server says of the chosen model. */
  get facts() {
    return this.all.find((model) => model.id === this.name)?.qwenvl ?? {};
  }

  get context() {
    return this.facts.context ?? 0;
  }

  get kinds() {
    const { regions, family = "", grounding } = this.facts;
    if (regions) return regions;
    if (grounding === false) return [];
    return /2[._]5/.test(family) ? JSON_KINDS : TAG_KINDS;
  }

  get takesClips() {
    return this.facts.video !== false;
  }

  get isRaw() {
    return this.facts.style === "raw";
  }

  drawFacts() {
    byId("model-facts").textContent = this.context ? t("model.context", { count: number(this.context) }) : "";
  }
}
