// Ways in for pictures and clips: the file picker, dropping, the clipboard, and samples of the page's own.
import { byId } from "./dom.js";
import { readFile } from "./media.js";

const isMedia = (file) => /^(image|video)\//.test(file.type);

/** @param {(files: File[]) => void} take */
export function listenForFiles(take) {
  const input = byId("file");
  byId("attach").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter(isMedia);
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  const shade = byId("drop");
  let depth = 0;
  const over = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => over(event) && (shade.hidden = (depth += 1) < 1));
  document.addEventListener("dragleave", (event) => over(event) && (shade.hidden = (depth = Math.max(0, depth - 1)) < 1));
  document.addEventListener("dragover", (event) => over(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!over(event)) return;
    event.preventDefault();
    depth = 0;
    shade.hidden = true;
    take([...event.dataTransfer.files]);
  });
}

/** The ids of those files that can be read, and a line for each of the others. */
export async function readFiles(files) {
  const ids = [];
  const problems = [];
  for (const file of files) {
    try {
      ids.push((await readFile(file)).id);
    } catch (error) {
      problems.push(error.message);
    }
  }
  return { ids, problems };
}

/** The pictures of a sample as files. @param {import("./samples.js").Sample} sample */
export async function sampleFiles(sample) {
  return Promise.all(
    sample.files.map(async (path) => {
      const response = await fetch(`assets/${path}`);
      if (!response.ok) throw new Error(path);
      return new File([await response.blob()], path.split("/").at(-1).replace(".svg", ".png"), {
        type: response.headers.get("Content-Type")?.split(";")[0],
      });
    }),
  );
}
