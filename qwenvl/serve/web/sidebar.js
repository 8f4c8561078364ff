// The list of conversations, the language and the theme.
import { byId, el, iconButton } from "./dom.js";
import { keep } from "./kept.js";
import { currentLanguage, setLanguage, t } from "./i18n.js";

/**
 * @param {{open: (id: string) => void, remove: (id: string) => void}} actions
 */
export function sidebar(actions) {
  const side = byId("side");
  const shade = byId("shade");
  const narrow = matchMedia("(max-width: 1000px)");
  const close = () => {
    document.body.classList.remove("side-open");
    shade.hidden = true;
    place();
  };
  // Off the screen, it is out of reach of the keyboard too.
  const place = () => {
    const open = document.body.classList.contains("side-open");
    const wide = !narrow.matches && !document.body.classList.contains("side-folded");
    side.inert = !(open || wide);
    byId("menu").setAttribute("aria-expanded", String(open || wide));
  };
  byId("menu").addEventListener("click", () => {
    if (!narrow.matches) document.body.classList.toggle("side-folded");
    else {
      document.body.classList.add("side-open");
      shade.hidden = false;
    }
    place();
    if (narrow.matches) byId("side-close").focus();
  });
  byId("side-close").addEventListener("click", () => (close(), byId("menu").focus()));
  shade.addEventListener("click", close);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !document.body.classList.contains("side-open")) return;
    close();
    byId("menu").focus();
  });
  narrow.addEventListener("change", close);
  place();
  listenForChoices();

  /** @param {import("./store.js").Stored[]} conversations @param {string} current */
  const draw = (conversations, current) => {
    byId("no-conversations").hidden = conversations.length > 0;
    byId("conversations").replaceChildren(
      ...conversations.map((one) => {
        const title = one.title || t("untitled");
        return el(
          "li",
          { class: "side-item" },
          el(
            "button",
            {
              type: "button",
              class: "side-open-button",
              "aria-current": one.id === current ? "page" : null,
              onclick: () => (close(), actions.open(one.id)),
            },
            title,
          ),
          iconButton("trash", t("delete", { title }), () => actions.remove(one.id), { class: "icon-button tiny" }),
        );
      }),
    );
  };
  return { draw, close };
}

function listenForChoices() {
  const languages = [...document.querySelectorAll("[data-language]")];
  const themes = [...document.querySelectorAll("[data-theme-choice]")];
  const root = document.documentElement;
  const mark = () => {
    for (const button of languages) button.setAttribute("aria-pressed", String(button.dataset.language === currentLanguage()));
    for (const button of themes)
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === (root.dataset.theme ?? "auto")));
  };
  for (const button of languages) button.addEventListener("click", () => (setLanguage(button.dataset.language), mark()));
  for (const button of themes) {
    button.addEventListener("click", () => {
      const theme = button.dataset.themeChoice;
      if (theme === "auto") delete root.dataset.theme;
      else root.dataset.theme = theme;
      keep("theme", theme);
      mark();
    });
  }
  mark();
}
