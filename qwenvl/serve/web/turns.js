// Shows a turn: the question with its pictures and places, the answer with its linked words, and what it cost.
import { el, icon, iconButton } from "./dom.js";
import { duration, number, t } from "./i18n.js";
import { addressOf, mediaOf } from "./media.js";
import { splitText } from "./conversation.js";
import { coloursOf, describe, linkWords, whileWriting } from "./regions.js";
import { render } from "./markdown.js";
import { documentView } from "./document_view.js";

const FEW = 8;

/**
 * @typedef {Object} Actions
 * @property {(turn: import("./conversation.js").Turn) => void} edit
 * @property {(turn: import("./conversation.js").Turn) => void} again
 * @property {(turn: import("./conversation.js").Turn, index: number) => void} pick
 * @property {(answer: import("./conversation.js").Answer) => void} json
 * @property {(text: string) => void} copy
 * @property {(media: string) => void} show
 * @property {(media: string, start: number, end: number) => void} play
 * @property {() => void} enterKey
 */

/** A turn as a list item. @param {import("./conversation.js").Turn} turn @param {boolean} last @param {Actions} actions */
export function turnView(turn, last, actions) {
  const answer = el("article", { class: "answer", "aria-label": t("answered") });
  const item = el("li", { class: "turn", data: { turn: turn.id } }, questionView(turn, actions), answer);
  fillAnswer(answer, turn, last, actions);
  return item;
}

function questionView(turn, actions) {
  const media = turn.media.map(mediaOf).filter(Boolean);
  const thumbs = media.map((one) =>
    el(
      "button",
      { type: "button", class: "thumb", "aria-label": one.name, title: one.name, onclick: () => actions.show(one.id) },
      one.thumb ? el("img", { src: addressOf(one, "thumb"), alt: "" }) : el("span", { class: "no-thumb" }, "▶"),
      one.kind === "video" && one.thumb ? el("span", { class: "play", "aria-hidden": "true" }, "▶") : null,
    ),
  );
  const pieces = splitText(turn.text, turn.places.length);
  const chip = (index) =>
    el("span", { class: "mark", title: describe(turn.places[index]) }, turn.places[index].label || String(index + 1));
  const words = pieces.map((piece) => (typeof piece === "number" ? chip(piece) : piece));
  const apart = turn.places
    .map((_, index) => index)
    .filter((index) => !pieces.includes(index))
    .map(chip);
  return el(
    "div",
    { class: "asked", role: "group", "aria-label": t("you") },
    thumbs.length ? el("div", { class: "thumbs" }, thumbs) : null,
    turn.text || apart.length ? el("div", { class: "bubble" }, apart, words) : null,
    el(
      "div",
      { class: "asked-actions" },
      iconButton("edit", t("edit"), () => actions.edit(turn)),
      turn.text ? iconButton("copy", t("copy"), () => actions.copy(turn.text)) : null,
    ),
  );
}

/** Fills in the answer that is shown; called again whenever it has grown. */
export function fillAnswer(root, turn, last, actions) {
  const answer = turn.answers[turn.shown];
  const busy = answer?.state === "waiting" || answer?.state === "writing";
  root.setAttribute("aria-busy", String(busy));
  root.classList.toggle("busy", busy);
  if (!answer) return root.replaceChildren();
  const body = el("div", { class: "answer-body" });
  const children = [body];
  if (answer.state === "waiting")
    body.append(el("p", { class: "waiting quiet" }, el("span", { class: "dots", "aria-hidden": "true" }), t("answering")));
  else if (busy) body.append(...render(whileWriting(answer.content), () => document.createTextNode("")));
  else children.push(...finished(body, answer, actions));
  if (answer.error) children.push(errorLine(answer, turn, last, actions));
  if (!busy) children.push(foot(answer, turn, last, actions));
  root.replaceChildren(...children);
}

/** The words with their links, and the list of places under them. */
function finished(body, answer, actions) {
  const text = answer.readable ?? whileWriting(answer.content);
  const colours = coloursOf(answer.regions);
  const page = documentView(answer, colours);
  const { text: marked, links, loose } = linkWords(text, answer.regions);
  const word = (link, children) =>
    el(
      "span",
      {
        class: `word colour-${colours[links[link][0]]}`,
        role: "button",
        tabindex: "0",
        data: { answer: answer.id, places: links[link].join(" ") },
      },
      children,
    );
  if (page) body.append(page);
  else if (text.trim()) body.append(...render(marked, word));
  else if (!answer.regions.length && !answer.error)
    body.append(el("p", { class: "quiet" }, t(answer.state === "stopped" ? "stopped" : "empty")));
  const notes = [];
  if (answer.state === "stopped" && text.trim()) notes.push(t("stopped"));
  if (answer.finish === "length" || answer.finish === "repetition") notes.push(t(`finish.${answer.finish}`));
  return [
    ...(answer.regions.length && !page ? [placeList(answer, colours, loose)] : []),
    ...(answer.spans?.length ? [spanList(answer, actions)] : []),
    ...notes.map((note) => el("p", { class: "note quiet" }, note)),
  ];
}

function placeList(answer, colours, loose) {
  const entries = answer.regions.map((region, place) =>
    el(
      "li",
      {},
      el(
        "span",
        {
          class: `entry colour-${colours[place]}`,
          tabindex: loose.includes(place) ? "0" : null,
          role: loose.includes(place) ? "button" : null,
          data: { answer: answer.id, places: String(place) },
        },
        el("span", { class: "swatch", "aria-hidden": "true" }),
        region.label ? el("span", { class: "entry-label" }, region.label) : null,
        el("span", { class: "entry-pixels" }, `${t(region.kind)} ${describe(region)}`),
      ),
    ),
  );
  const list = el("ul", { class: "entries", "aria-label": t("places.found") }, entries);
  if (entries.length <= FEW) return list;
  list.classList.add("short");
  const more = el(
    "button",
    { type: "button", class: "button bare small", onclick: () => (list.classList.remove("short"), more.remove()) },
    t("places.all", { count: entries.length }),
  );
  return el("div", {}, list, more);
}

/** The stretches that an answer about a clip names: each can be played. */
function spanList(answer, actions) {
  const clip = answer.pictures.findLast((id) => mediaOf(id)?.kind === "video");
  const entries = answer.spans.map(({ start, end, label }) => {
    const ends = { start: number(start, 1), end: number(end, 1) };
    const words = [
      el("span", { "aria-hidden": "true" }, "▶"),
      label ? el("span", { class: "entry-label" }, label) : null,
      el("span", { class: "entry-pixels" }, t("span", ends)),
    ];
    return el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "entry span",
          disabled: !clip,
          title: t("span.play", ends),
          onclick: () => actions.play(clip, start, end),
        },
        words,
      ),
    );
  });
  return el("ul", { class: "entries spans" }, entries);
}

function errorLine(answer, turn, last, actions) {
  const { message, status, retryAfter } = answer.error;
  const stop = /[.!?。！？]$/.test(message) ? " " : t("error.stop");
  const wait = retryAfter ? stop + t("error.wait", { seconds: Math.ceil(retryAfter) }) : "";
  const key = status === 401 || status === 403;
  return el(
    "div",
    { class: "error-line", role: "alert" },
    el("span", { class: "error-words" }, message + wait),
    key ? el("button", { type: "button", class: "button small", onclick: actions.enterKey }, t("error.key")) : null,
    last
      ? el("button", { type: "button", class: "button small retry", onclick: () => actions.again(turn) }, icon("again"), t("retry"))
      : null,
  );
}

function foot(answer, turn, last, actions) {
  const several = turn.answers.length > 1;
  const pick = (by) => () => actions.pick(turn, turn.shown + by);
  const pages = several && [
    iconButton("left", t("previous"), pick(-1), { disabled: turn.shown === 0 }),
    el("span", { class: "quiet" }, `${turn.shown + 1} / ${turn.answers.length}`),
    iconButton("right", t("next"), pick(1), { disabled: turn.shown === turn.answers.length - 1 }),
  ];
  return el(
    "div",
    { class: "answer-foot" },
    el(
      "div",
      { class: "answer-actions" },
      pages,
      answer.content
        ? iconButton("copy", t("copy"), () => actions.copy(answer.readable || answer.content), { class: "icon-button copy" })
        : null,
      last && !answer.error ? iconButton("again", t("again"), () => actions.again(turn), { class: "icon-button again" }) : null,
      iconButton("braces", t("json"), () => actions.json(answer), { class: "icon-button json" }),
    ),
    el(
      "p",
      { class: "costs quiet" },
      costs(answer).map((words) => el("span", {}, words)),
    ),
  );
}

/** Tokens and times. The rate counts from the first token: before it, the prompt is read. */
export function costs(answer) {
  const { usage, timings } = answer;
  const words = [];
  if (usage) {
    const details = usage.prompt_tokens_details ?? {};
    const among = ["image", "cached"].filter((kind) => details[`${kind}_tokens`]);
    const kinds = among.map((kind) => t(`usage.${kind}`, { count: number(details[`${kind}_tokens`]) })).join(", ");
    words.push(t("usage.prompt", { count: number(usage.prompt_tokens) }) + (kinds ? ` (${kinds})` : ""));
    words.push(t("usage.completion", { count: number(usage.completion_tokens) }));
  }
  if (timings?.first_token_ms) words.push(t("time.first", { time: duration(timings.first_token_ms) }));
  if (timings?.total_ms) words.push(t("time.total", { time: duration(timings.total_ms) }));
  const writing = (timings?.total_ms ?? 0) - (timings?.first_token_ms ?? 0);
  if (usage?.completion_tokens > 1 && writing > 5)
    words.push(t("time.rate", { rate: number((1000 * (usage.completion_tokens - 1)) / writing, 1) }));
  return words;
}
