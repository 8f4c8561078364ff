// Runs before the first paint: takes over the theme and the language that were chosen, so that nothing flashes.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    const language = localStorage.getItem("language") || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
    root.lang = language === "zh" ? "zh" : "en";
  } catch {
    // Storage is switched off: the browser's own theme, and English.
  }
})();
