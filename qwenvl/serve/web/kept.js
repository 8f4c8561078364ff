// Small choices that outlive the page (localStorage) or the tab (sessionStorage); without either they hold for this page alone.

const own = { local: new Map(), session: new Map() };

/** @param {"local"|"session"} place */
function storage(place) {
  try {
    return place === "local" ? localStorage : sessionStorage;
  } catch {
    return null;
  }
}

export const recall = (name, place = "local") => storage(place)?.getItem(name) ?? own[place].get(name) ?? null;

/** An empty value is forgotten. */
export function keep(name, value, place = "local") {
  own[place].set(name, value);
  try {
    if (value) storage(place)?.setItem(name, value);
    else storage(place)?.removeItem(name);
  } catch {
    // Full, or switched off.
  }
}
