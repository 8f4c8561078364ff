// Ties what belongs together: a place's word, its entry in the list and its shape light up when any of them is pointed at.

/**
 * Everything with data-answer and data-places (numbers, with spaces) takes part.
 * @param {(answer: string, places: number[]) => void} reveal called when a word or an entry is pointed at, not for a shape
 */
export function listenForLinks(reveal) {
  const linked = (event) => (event.target instanceof Element ? event.target.closest("[data-places]") : null);
  const on = (event) => {
    const node = linked(event);
    if (!node) return;
    const places = placesOf(node);
    if (!node.closest("#frame")) reveal(node.dataset.answer, places);
    // What is revealed may be drawn in the next frame.
    requestAnimationFrame(() => light(node.dataset.answer, places));
  };
  document.addEventListener("pointerover", on);
  document.addEventListener("focusin", on);
  document.addEventListener("pointerout", (event) => linked(event) && relight());
  document.addEventListener("focusout", (event) => linked(event) && relight());
  document.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && event.target.matches?.("span.word")) {
      event.preventDefault();
      event.target.click();
    }
  });
}

const placesOf = (node) => node.dataset.places.split(" ").map(Number);

function light(answer, places) {
  for (const node of document.querySelectorAll("[data-places]")) {
    const lit = node.dataset.answer === answer && placesOf(node).some((place) => places.includes(place));
    node.classList.toggle("lit", lit);
  }
  document.body.classList.toggle("lighting", places.length > 0);
}

/** What has the focus stays lit when the pointer leaves something else. */
function relight() {
  requestAnimationFrame(() => {
    if (document.querySelector("[data-places]:hover")) return;
    const node = document.activeElement?.closest("[data-places]");
    light(node?.dataset.answer ?? "", node ? placesOf(node) : []);
  });
}
