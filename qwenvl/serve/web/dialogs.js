// The drawer of settings and the JSON view. Dialogs keep the focus within themselves, and give it back.
import { apiKey, setApiKey } from "./api.js";
import { byId, copyText, el, toast } from "./dom.js";
import { onLanguage, t } from "./i18n.js";
import { paramFields, resetParams } from "./params.js";

const KEYS = [
  ["send", ["Enter"]],
  ["line", ["Shift", "Enter"]],
  ["stop", ["Esc"]],
  ["question", ["/"]],
  ["new", ["Alt", "N"]],
  ["tools", ["V", "B", "P", "Q"]],
  ["arrows", ["↑", "↓", "←", "→"]],
  ["undo", ["Ctrl", "Z"]],
];

/** Buttons and clicks beside a dialog close it. */
export function listenForClosing() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
  }
}

/** @param {() => void} changed @param {() => void} keyChanged @returns {(focusKey?: boolean) => void} */
export function settingsDialog(changed, keyChanged) {
  const dialog = byId("settings-dialog");
  let key = apiKey();
  const draw = () => {
    const fields = paramFields(changed);
    const field = el("input", {
      type: "password",
      id: "api-key",
      autocomplete: "off",
      spellcheck: "false",
      value: apiKey(),
      oninput: () => setApiKey(field.value.trim()),
    });
    const section = (name, ...children) => el("section", { class: "setting" }, el("h3", {}, t(`settings.${name}`)), children);
    byId("settings-body").replaceChildren(
      section("answer", fields.answer),
      section("pictures", fields.pictures),
      el("button", { type: "button", class: "button", onclick: () => (resetParams(), draw(), changed()) }, t("settings.reset")),
      section(
        "server",
        el(
          "form",
          { onsubmit: (event) => (event.preventDefault(), dialog.close()) },
          el("label", { class: "field" }, el("span", {}, t("param.key")), field),
        ),
        el("p", { class: "quiet" }, t("param.key.note")),
      ),
      section(
        "keys",
        el(
          "dl",
          { class: "keys" },
          KEYS.flatMap(([name, keys]) => [
            el(
              "dt",
              {},
              keys.map((one) => el("kbd", {}, one)),
            ),
            el("dd", {}, t(`keys.${name}`)),
          ]),
        ),
      ),
    );
  };
  draw();
  onLanguage(draw);
  dialog.addEventListener("close", () => {
    if (apiKey() !== key) keyChanged();
    key = apiKey();
  });
  return (focusKey = false) => {
    dialog.showModal();
    if (focusKey) byId("api-key").focus();
  };
}

/** JSON with rows of numbers on one line: coordinates are read together. */
const layOut = (value) =>
  JSON.stringify(value, null, 2).replace(
    /\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g,
    (_, row) => `[${row.replace(/\s+/g, " ")}]`,
  );

/** @returns {(answer: import("./conversation.js").Answer) => void} */
export function jsonDialog() {
  const dialog = byId("json-dialog");
  const buttons = [...dialog.querySelectorAll("[data-json]")];
  let answer = null;
  const show = (part) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.json === part));
    byId("json-text").textContent = part === "markup" ? answer.content : layOut(answer[part] ?? null);
  };
  for (const button of buttons) button.addEventListener("click", () => show(button.dataset.json));
  byId("json-copy").addEventListener("click", async () => {
    await copyText(byId("json-text").textContent);
    toast(t("copied"));
  });
  return (shown) => {
    answer = shown;
    show("response");
    dialog.showModal();
  };
}
