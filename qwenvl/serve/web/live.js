// Live: one standing question, asked of a camera frame at intervals. One request at a time; the newest answer is shown.
import { byId, el, svg } from "./dom.js";
import { duration, number, onLanguage, t } from "./i18n.js";
import { gather } from "./answering.js";
import { closeCamera, frameOf, openCamera } from "./camera.js";
import { newAnswer } from "./conversation.js";
import { readAsDataUrl } from "./media.js";
import { answerOverlay } from "./overlay.js";
import { render } from "./markdown.js";
import { coloursOf, linkWords, whileWriting } from "./regions.js";

const EVERY = [0.5, 1, 2, 5, 10, 30];
const AFTER_ERROR = 5;

/**
 * @param {{model: () => string, params: () => ReturnType<typeof import("./params.js").readParams>}} source
 * @returns {() => void} opens the dialog
 */
export function liveDialog(source) {
  const dialog = byId("live-dialog");
  const video = byId("live-view");
  const question = byId("live-question");
  const every = byId("live-every");
  const start = byId("live-start");
  const frame = byId("live-frame");
  let stream = null;
  /** @type {AbortController|null} of the run, not of one request */
  let running = null;
  let asked = 0;

  const label = () => {
    start.textContent = t(running ? "live.stop" : "live.start");
    start.classList.toggle("main", !running);
    every.replaceChildren(
      ...EVERY.map((seconds) =>
        el(
          "option",
          { value: seconds, selected: seconds === (Number(every.value) || 1) },
          t("live.seconds", { count: number(seconds, seconds < 1 ? 1 : 0) }),
        ),
      ),
    );
    if (!question.value) question.value = t("live.question.default");
    if (!asked) byId("live-answer").replaceChildren(el("p", { class: "quiet" }, t("live.wait")));
  };

  const stop = () => {
    running?.abort();
    running = null;
    label();
  };

  async function run() {
    running = new AbortController();
    const { signal } = running;
    label();
    while (!signal.aborted) {
      const began = performance.now();
      const error = await askOnce(signal).catch((problem) => ({ message: problem.message, status: 0, retryAfter: 0 }));
      if (signal.aborted) return;
      if (error?.status === 401 || error?.status === 403) return stop();
      const least = error ? Math.max(AFTER_ERROR, error.retryAfter) : Number(every.value);
      await pause(least * 1000 - (performance.now() - began), signal);
    }
  }

  /** One frame, one answer. Returns the error of the answer, if it has one. */
  async function askOnce(signal) {
    const url = await readAsDataUrl(await frameOf(video));
    const size = { width: video.videoWidth, height: video.videoHeight };
    const params = source.params();
    const content = [
      { type: "image_url", image_url: { url, ...params.image } },
      { type: "text", text: question.value },
    ];
    const system = params.system ? [{ role: "system", content: params.system }] : [];
    const answer = newAnswer(source.model());
    const began = performance.now();
    asked += 1;
    await gather(
      answer,
      { model: answer.model, messages: [...system, { role: "user", content }], ...params.body },
      signal,
      () => {},
    );
    if (signal.aborted) return null;
    show(answer, size);
    byId("live-facts").textContent = t("live.facts", { asked: number(asked), time: duration(performance.now() - began) });
    return answer.error;
  }

  function show(answer, size) {
    const root = byId("live-answer");
    if (answer.error) return root.replaceChildren(el("p", { class: "error-line" }, answer.error.message));
    const colours = coloursOf(answer.regions);
    const { text, links } = linkWords(answer.readable ?? whileWriting(answer.content), answer.regions);
    const word = (link, children) =>
      el(
        "span",
        {
          class: `word colour-${colours[links[link][0]]}`,
          tabindex: "0",
          role: "button",
          data: { answer: answer.id, places: links[link].join(" ") },
        },
        children,
      );
    root.replaceChildren(...render(text, word));
    const { shapes, names } = answerOverlay(
      answer.regions,
      answer.regions.map((_, index) => index),
      size,
      answer.id,
    );
    frame.querySelectorAll(".shapes, .names").forEach((node) => node.remove());
    frame.append(
      svg(
        "svg",
        { class: "shapes", viewBox: `0 0 ${size.width} ${size.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        shapes,
      ),
      el("div", { class: "names" }, names),
    );
  }

  start.addEventListener("click", () => (running ? stop() : stream && run()));
  dialog.addEventListener("close", () => {
    stop();
    closeCamera(stream);
    stream = null;
    frame.querySelectorAll(".shapes, .names").forEach((node) => node.remove());
  });
  onLanguage(label);
  return async () => {
    asked = 0;
    label();
    byId("live-facts").textContent = "";
    dialog.showModal();
    start.disabled = true;
    try {
      stream = await openCamera(video);
      if (!dialog.open) closeCamera(stream);
      start.disabled = false;
    } catch (error) {
      byId("live-answer").replaceChildren(el("p", { class: "error-line" }, error.message));
    }
  };
}

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, ms));
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
