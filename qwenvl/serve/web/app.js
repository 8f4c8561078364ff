// The page: one conversation at a time, and what happens when something is sent, stopped, edited or switched.
import { gather } from "./answering.js";
import { cameraDialog } from "./camera.js";
import { Composer } from "./composer.js";
import { buildRequest, newAnswer, newTurn, shownAnswer, titleOf } from "./conversation.js";
import { jsonDialog, listenForClosing, settingsDialog } from "./dialogs.js";
import { byId, copyText, el, fillIcons, newId, onceAFrame, toast } from "./dom.js";
import { number, onLanguage, t, translate } from "./i18n.js";
import { listenForFiles, readFiles, sampleFiles } from "./intake.js";
import { listenForLinks } from "./links.js";
import { liveDialog } from "./live.js";
import { forgetMedia, mediaOf, rememberMedia } from "./media.js";
import { Models } from "./models.js";
import { anySet, readParams } from "./params.js";
import { sidebar } from "./sidebar.js";
import {
  deleteConversation,
  deleteMedia,
  listConversations,
  openStore,
  readConversation,
  readMedia,
  writeConversation,
  writeMedia,
} from "./store.js";
import { Stage } from "./stage.js";
import { fillAnswer, turnView } from "./turns.js";
import { drawWelcome, inLanguage, nextQuestions, sampleOf } from "./welcome.js";

/** @type {import("./store.js").Stored} */
let conversation = fresh();
/** @type {Set<string>} conversations that may still be restored, and are not listed */
const leaving = new Set();
/** @type {{controller: AbortController, answer: import("./conversation.js").Answer}|null} the one request under way */
let asking = null;

function fresh() {
  return { id: newId(), title: "", updated: Date.now(), turns: [] };
}

const announcer = byId("announcer");
const say = (words) => announcer.replaceChildren(el("p", {}, words));

const models = new Models(() => modelChanged());
const composer = new Composer({ changed: () => composerChanged(), show: (media) => stage.show(media), send: () => send() });
const stage = new Stage({
  placed: (media, place) => composer.addPlace(media, place),
  undo: () => composer.undoPlace(),
  say,
});
const side = sidebar({ open: openConversation, remove: removeConversation });
const openSettings = settingsDialog(
  () => settingsChanged(),
  () => loadModels(),
);
const openJson = jsonDialog();
const openCamera = cameraDialog((picture) => takeFiles([picture]));
const openLive = liveDialog({ model: () => models.name, params: () => readParams() });

/** @type {import("./turns.js").Actions} */
const actions = {
  edit: editTurn,
  again: (turn) => ask(turn),
  pick: pickAnswer,
  json: openJson,
  copy: async (text) => (await copyText(text), toast(t("copied"))),
  play: (media, start, end) => stage.play(media, start, end),
  show: (media) => (stage.unfold(), stage.show(media)),
  enterKey: () => openSettings(true),
};

// ---- drawing

function drawTurns() {
  byId("turns").replaceChildren(
    ...conversation.turns.map((turn, index) => turnView(turn, index === conversation.turns.length - 1, actions)),
  );
  byId("welcome").hidden = conversation.turns.length > 0;
  drawFollowups();
}

function drawBeginning() {
  const prompt = (words) => {
    composer.text = words;
    byId("question").focus();
  };
  drawWelcome(composer.media.map(mediaOf).filter(Boolean), { sample: takeSample, choose: () => byId("file").click(), prompt });
}

function drawFollowups() {
  const last = conversation.turns.at(-1);
  const ready = !asking && last && shownAnswer(last)?.state === "done" && !composer.editing && !composer.text;
  const texts = conversation.turns.map((turn) => turn.text);
  const next = ready ? nextQuestions(conversation.turns[0].sample, texts) : [];
  byId("followups").replaceChildren(
    ...next.map((words) =>
      el("button", { type: "button", class: "followup", onclick: () => ((composer.text = words), send()) }, words),
    ),
  );
}

async function drawSide() {
  side.draw(
    (await listConversations()).filter((one) => !leaving.has(one.id)),
    conversation.id,
  );
}

function composerChanged() {
  stage.setShelf([...new Set([...conversation.turns.flatMap((turn) => turn.media), ...composer.media])]);
  stage.setPlaces(composer.places);
  byId("draw").disabled = !stage.media || stage.media.kind !== "image" || !models.kinds.length;
  drawBeginning();
  drawFollowups();
}

function settingsChanged() {
  byId("settings").classList.toggle("set", anySet());
}

function drawBudget() {
  const usage = conversation.turns
    .map(shownAnswer)
    .filter((answer) => answer?.usage)
    .at(-1)?.usage;
  byId("budget").textContent =
    usage && models.context ? t("budget", { used: number(usage.total_tokens), context: number(models.context) }) : "";
}

/** The first line is what matters most; an empty one takes the notice away. */
function notice(words) {
  byId("notice").textContent = words;
  byId("notice").hidden = !words;
}

function drawAll() {
  drawTurns();
  composer.draw();
  stage.drawTools();
  stage.drawFacts();
  models.drawFacts();
  drawBudget();
  drawSide();
}

function scrollDown(always = false) {
  const scroll = byId("scroll");
  const near = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 160;
  if (always || near) scroll.scrollTop = scroll.scrollHeight;
}

// ---- asking

async function send() {
  if (asking || composer.empty) return;
  const clips = composer.media.some((id) => mediaOf(id)?.kind === "video");
  if (clips && !models.takesClips) return notice(t("error.video", { model: models.name }));
  notice("");
  const replaced = conversation.turns.findIndex((turn) => turn.id === composer.editing);
  const sample = composer.sample || (replaced >= 0 ? conversation.turns[replaced].sample : "");
  const turn = newTurn([...composer.media], composer.places, composer.text, sample);
  if (replaced >= 0) conversation.turns.splice(replaced);
  conversation.turns.push(turn);
  composer.clear();
  stage.drawing.choose("look");
  stage.drawTools();
  const media = turn.media.map(mediaOf);
  for (const one of media) one.conversation = conversation.id;
  await keepSafely(() => Promise.all(media.map(writeMedia)));
  await ask(turn);
}

/** Milliseconds after which an answer that is being written is kept as far as it is. */
const KEEP_EVERY = 1000;

/** Asks a turn, which is the last one; a new answer of it is shown. */
async function ask(turn) {
  if (asking) return;
  const answer = newAnswer(models.name);
  turn.answers = turn.answers.filter((one) => one.state !== "failed" || one.content);
  turn.answers.push(answer);
  turn.shown = turn.answers.length - 1;
  conversation.title ||= titleOf(conversation.turns);
  asking = { controller: new AbortController(), answer };
  drawTurns();
  showAsking();
  scrollDown(true);
  stage.setAnswer(null);
  say(t("answering"));
  const mine = conversation;
  await save(mine);
  const root = byId("turns").lastElementChild.querySelector(".answer");
  const redraw = onceAFrame(() => {
    if (conversation !== mine || !asking) return;
    fillAnswer(root, turn, true, actions);
    scrollDown();
  });
  // What is written already is there after a reload, and where the tab dies.
  const keeping = setInterval(() => writeConversation(mine).catch(() => clearInterval(keeping)), KEEP_EVERY);
  try {
    const { body, pictures } = await buildRequest(mine.turns, answer.model, readParams(sampleOf(turn.sample)?.format));
    answer.pictures = pictures;
    await gather(answer, body, asking.controller.signal, redraw);
  } catch (error) {
    answer.state = "failed";
    answer.error = { message: error.message, status: 0, retryAfter: 0 };
  }
  clearInterval(keeping);
  asking = null;
  showAsking();
  mine.updated = Date.now();
  await save(mine);
  if (conversation !== mine) return;
  const kept = document.activeElement;
  fillAnswer(root, turn, true, actions);
  if (kept === document.body) byId("question").focus();
  say(answer.error?.message ?? answer.readable ?? answer.content);
  stage.setAnswer(answer);
  drawFollowups();
  drawBudget();
  scrollDown();
}

function showAsking() {
  byId("send").hidden = Boolean(asking);
  byId("stop").hidden = !asking;
}

const stop = () => asking?.controller.abort();

/** Where the browser's store is full, the question is asked all the same. */
async function keepSafely(work) {
  try {
    await work();
  } catch (error) {
    notice(t("history.full", { why: error?.message || String(error) }));
  }
}

async function save(which) {
  if (!which.turns.length) return;
  await keepSafely(() => writeConversation(which));
  // The address names the conversation, so that it is there again after a reload.
  if (which === conversation) history.replaceState(null, "", `#${which.id}`);
  await drawSide();
}

// ---- changing

function editTurn(turn) {
  stop();
  composer.load(turn);
}

function pickAnswer(turn, index) {
  turn.shown = index;
  drawTurns();
  stage.setAnswer(shownAnswer(turn));
  save(conversation);
}

async function takeFiles(files) {
  const { ids, problems } = await readFiles(files);
  notice(problems[0] ?? "");
  if (!ids.length) return;
  composer.addMedia(ids);
  stage.unfold();
  stage.show(ids[0]);
  byId("question").focus();
}

async function takeSample(sample) {
  try {
    composer.clear();
    await takeFiles(await sampleFiles(sample));
  } catch {
    return notice(t("error.sample"));
  }
  composer.text = inLanguage(sample.ask);
  composer.sample = sample.id;
  composer.draw();
}

async function newConversation() {
  stop();
  await dropUnsent();
  forgetMedia();
  conversation = fresh();
  history.replaceState(null, "", location.pathname + location.search);
  composer.clear();
  stage.setAnswer(null);
  notice("");
  drawAll();
  byId("question").focus();
}

async function openConversation(id) {
  if (id === conversation.id) return;
  const found = await readConversation(id);
  if (!found) return;
  stop();
  forgetMedia();
  for (const media of await readMedia(id)) rememberMedia(media);
  conversation = found;
  // What was under way when the page was closed will not go on.
  for (const answer of found.turns.flatMap((turn) => turn.answers))
    if (answer.state === "waiting" || answer.state === "writing") answer.state = "stopped";
  history.replaceState(null, "", `#${id}`);
  composer.clear();
  notice("");
  drawAll();
  stage.setAnswer(found.turns.map(shownAnswer).findLast((answer) => answer?.regions.length) ?? null);
  scrollDown(true);
}

/** Pictures of questions that were edited away are not kept. */
async function dropUnsent() {
  const used = new Set(conversation.turns.flatMap((turn) => turn.media));
  for (const media of await readMedia(conversation.id)) if (!used.has(media.id)) await deleteMedia(media.id);
}

async function removeConversation(id) {
  leaving.add(id);
  if (id === conversation.id) await newConversation();
  else await drawSide();
  const timer = setTimeout(() => leaving.has(id) && deleteConversation(id).then(() => leaving.delete(id)), 8000);
  toast(t("deleted"), {
    name: t("restore"),
    run: () => (clearTimeout(timer), leaving.delete(id), openConversation(id), drawSide()),
  });
}

// ---- the server

async function loadModels() {
  try {
    await models.load();
    notice("");
  } catch (error) {
    notice(t("error.models", { why: error.message }));
    if (error.status === 401) openSettings(true);
  }
  modelChanged();
}

function modelChanged() {
  models.drawFacts();
  stage.setTools(models.kinds, models.name);
  drawBudget();
  composerChanged();
  if (models.isRaw) notice(t("model.raw", { model: models.name }));
}

// ---- beginning

function listen() {
  listenForClosing();
  listenForFiles(takeFiles);
  listenForLinks((answerId, places) => {
    const answer = conversation.turns.flatMap((turn) => turn.answers).find((one) => one.id === answerId);
    if (answer) stage.reveal(answer, places[0]);
  });
  byId("composer").addEventListener("submit", (event) => (event.preventDefault(), send()));
  byId("question").addEventListener("input", drawFollowups);
  byId("stop").addEventListener("click", stop);
  byId("new").addEventListener("click", () => (side.close(), newConversation()));
  byId("camera").addEventListener("click", openCamera);
  byId("live").addEventListener("click", openLive);
  byId("settings").addEventListener("click", () => openSettings());
  byId("draw").addEventListener("click", () => stage.choose("box"));
  byId("edit-cancel").addEventListener("click", () => composer.clear());
  document.addEventListener("keydown", shortcut);
  onLanguage(drawAll);
}

function shortcut(event) {
  if (document.querySelector("dialog[open]")) return;
  const typing = event.target.matches?.("input, textarea, select");
  if (event.key === "Escape" && asking) stop();
  else if (event.key === "Escape" && composer.editing) composer.clear();
  else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    byId("question").focus();
  } else if (event.altKey && event.key.toLowerCase() === "n") {
    event.preventDefault();
    newConversation();
  }
}

async function begin() {
  translate();
  fillIcons();
  listen();
  showAsking();
  settingsChanged();
  const keeps = await openStore();
  drawAll();
  if (!keeps) {
    byId("no-conversations").dataset.t = "history.memory";
    translate();
  }
  await loadModels();
  const last = location.hash.slice(1);
  if (last) await openConversation(last);
  document.body.dataset.ready = "true";
}

begin();
