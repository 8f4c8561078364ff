// What a conversation is, and the request that asks its next question. Knows no element of the page.
import { dataUrl, mediaOf } from "./media.js";
import { newId } from "./dom.js";

/**
 * @typedef {Object} Place a place that the user points at
 * @property {string} id
 * @property {string} media
 * @property {"box"|"point"|"quad"} kind
 * @property {number[]|number[][]} pixels
 * @property {string} label
 *
 * @typedef {Object} Answer
 * @property {string} id
 * @property {string} model
 * @property {"waiting"|"writing"|"done"|"stopped"|"failed"} state
 * @property {string} content as the model wrote it
 * @property {string} [readable] without markup, from the server
 * @property {import("./regions.js").Region[]} regions
 * @property {{start: number, end: number, label?: string|null}[]} [spans] stretches of a clip that the answer names, in seconds
 * @property {string[]} pictures the media that the request had, by number
 * @property {string} [finish]
 * @property {Record<string, any>} [usage]
 * @property {Record<string, number>} [timings] milliseconds: first_token_ms, total_ms
 * @property {{message: string, status: number, retryAfter: number}} [error]
 * @property {Record<string, any>} [request] as sent, data URLs cut short
 * @property {Record<string, any>} [response]
 *
 * @typedef {Object} Turn a question with its answers, of which one is shown
 * @property {string} id
 * @property {string[]} media
 * @property {Place[]} places
 * @property {string} text where [1] stands for the first place
 * @property {Answer[]} answers
 * @property {number} shown
 * @property {string} [sample]
 */

/** @returns {Turn} */
export const newTurn = (media, places, text, sample = "") => ({ id: newId(), media, places, text, answers: [], shown: -1, sample });

/** @returns {Answer} */
export const newAnswer = (model) => ({ id: newId(), model, state: "waiting", content: "", regions: [], pictures: [] });

/** @param {Turn} turn */
export const shownAnswer = (turn) => turn.answers[turn.shown];

/**
 * The messages that ask the last turn.
 *
 * An earlier turn without an answer (it failed, or was stopped at once) is left out, but its pictures move on to the next
 * question: they may be what it is about.
 * @param {Turn[]} turns
 * @returns {{messages: {role: string, turn?: Turn, media?: string[], content?: string}[], pictures: string[]}}
 */
export function outline(turns) {
  const messages = [];
  const pictures = [];
  let waiting = [];
  turns.forEach((turn, index) => {
    const said = shownAnswer(turn)?.content;
    const last = index === turns.length - 1;
    if (!last && !said) {
      waiting.push(...turn.media);
      return;
    }
    const media = [...waiting, ...turn.media];
    waiting = [];
    pictures.push(...media);
    messages.push({ role: "user", turn, media });
    if (!last) messages.push({ role: "assistant", content: said });
  });
  return { messages, pictures };
}

/**
 * The body of the request for the last turn, and which picture has which number in it.
 * @param {Turn[]} turns
 * @param {string} model
 * @param {{body: Record<string, any>, image: Record<string, number>, video: Record<string, number>, system: string}} params
 */
export async function buildRequest(turns, model, params) {
  const { messages: outlined, pictures } = outline(turns);
  const messages = params.system ? [{ role: "system", content: params.system }] : [];
  for (const { role, turn, media, content } of outlined) {
    messages.push(role === "user" ? { role, content: await userParts(turn, media, pictures, params) } : { role, content });
  }
  return { body: { model, messages, ...params.body }, pictures };
}

/** Pictures first, as the models were trained; then places that the text does not mention; then the text with those it does. */
async function userParts(turn, media, pictures, params) {
  const parts = [];
  for (const id of media) parts.push(await mediaPart(mediaOf(id), params));
  const region = (place) => ({
    type: "region",
    kind: place.kind,
    pixels: place.pixels,
    image: pictures.indexOf(place.media),
    ...(place.label ? { label: place.label } : {}),
  });
  const pieces = splitText(turn.text, turn.places.length);
  const mentioned = new Set(pieces.filter((piece) => typeof piece === "number"));
  parts.push(...turn.places.filter((_, index) => !mentioned.has(index)).map(region));
  for (const piece of pieces) {
    if (typeof piece === "number") parts.push(region(turn.places[piece]));
    else parts.push({ type: "text", text: piece });
  }
  return parts;
}

/** "What is in [1]?" as "What is in ", 0, "?". Numbers without a place stay text. @returns {(string|number)[]} */
export function splitText(text, count) {
  const pieces = [];
  for (const piece of text.split(/(\[\d{1,3}\])/)) {
    const index = /^\[\d+\]$/.test(piece) ? Number(piece.slice(1, -1)) - 1 : -1;
    if (index >= 0 && index < count) pieces.push(index);
    else if (typeof pieces.at(-1) === "string") pieces.push(pieces.pop() + piece);
    else if (piece) pieces.push(piece);
  }
  return pieces;
}

async function mediaPart(media, params) {
  const url = await dataUrl(media);
  if (media.kind === "video") return { type: "video_url", video_url: { url, ...params.video } };
  return { type: "image_url", image_url: { url, ...params.image } };
}

/** A copy in which data URLs are cut short: what the JSON view shows and the history keeps. */
export function shorten(value) {
  if (typeof value === "string") {
    const head = /^data:[\w/+.;=-]*,/.exec(value.slice(0, 120));
    return head && value.length > 200 ? `${head[0]}… (${Math.round(((value.length - head[0].length) * 3) / 4)} bytes)` : value;
  }
  if (Array.isArray(value)) return value.map(shorten);
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shorten(item)]));
  return value;
}

/** The name of a conversation: its first words. @param {Turn[]} turns */
export function titleOf(turns) {
  const words = turns.find((turn) => turn.text.trim())?.text.trim() || mediaOf(turns[0]?.media[0])?.name || "";
  return words.length > 60 ? `${words.slice(0, 57)}…` : words;
}
