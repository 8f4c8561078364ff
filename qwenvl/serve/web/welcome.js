// What is shown before the first question: what this is, a way to begin, and samples.
import { byId, el, icon } from "./dom.js";
import { currentLanguage, t } from "./i18n.js";
import { CLIP_PROMPTS, PICTURE_PROMPTS, SAMPLES } from "./samples.js";

/** The words of a sample in the language of the interface. @param {[string, string]} pair */
export const inLanguage = (pair) => pair[currentLanguage() === "zh" ? 1 : 0];

/** @returns {import("./samples.js").Sample|undefined} */
export const sampleOf = (id) => SAMPLES.find((sample) => sample.id === id);

/**
 * @param {import("./media.js").Media[]} added what the question that is being written has already
 * @param {{sample: (sample: import("./samples.js").Sample) => void, choose: () => void, prompt: (words: string) => void}} actions
 */
export function drawWelcome(added, actions) {
  if (added.length) return drawReady(added, actions);
  const cards = SAMPLES.map((sample) =>
    el(
      "li",
      {},
      el(
        "button",
        { type: "button", class: "sample", data: { sample: sample.id }, onclick: () => actions.sample(sample) },
        el("span", { class: "sample-icon", "aria-hidden": "true" }, icon(sample.icon)),
        el(
          "span",
          { class: "sample-words" },
          el("span", { class: "sample-name" }, inLanguage(sample.name)),
          el("span", { class: "sample-ask quiet" }, inLanguage(sample.ask)),
        ),
      ),
    ),
  );
  byId("welcome").replaceChildren(
    el("h1", {}, t("welcome.title")),
    el("p", { class: "lead" }, t("welcome.text")),
    el("button", { type: "button", class: "button main", onclick: actions.choose }, icon("picture"), t("welcome.choose")),
    el("h2", {}, t("welcome.samples")),
    el("ul", { class: "samples" }, cards),
  );
}

/** A picture is there: what to ask of it. */
function drawReady(added, actions) {
  const prompts = added.some((media) => media.kind === "video") ? CLIP_PROMPTS : PICTURE_PROMPTS;
  const [before, after] = t("ready.text").split("{icon}");
  byId("welcome").replaceChildren(
    el("h1", {}, t("ready.title")),
    el("p", { class: "lead" }, before, icon("box"), after),
    el(
      "div",
      { class: "prompts" },
      prompts
        .map(inLanguage)
        .map((words) => el("button", { type: "button", class: "prompt", onclick: () => actions.prompt(words) }, words)),
    ),
  );
}

/** The next questions of a sample's dialogue, after `asked` questions. */
export function nextQuestions(id, texts) {
  const next = sampleOf(id)?.next ?? [];
  return next.map(inLanguage).filter((words) => !texts.includes(words));
}
