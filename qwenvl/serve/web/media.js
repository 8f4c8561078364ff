// Pictures and clips: read from files, with their size in pixels and a thumbnail. The bytes are sent as they came.
import { el, newId } from "./dom.js";
import { t } from "./i18n.js";

/**
 * @typedef {Object} Media
 * @property {string} id
 * @property {string} conversation "" until it is kept
 * @property {"image"|"video"} kind
 * @property {string} name
 * @property {Blob} blob as it came; a picture's EXIF is left in it, and the server turns it upright as the browser does
 * @property {Blob|null} thumb
 * @property {number} width upright, 0 if the browser cannot tell
 * @property {number} height
 * @property {number} [seconds] of a clip
 */

const THUMB = 192;
const PATIENCE = 5000;

/** @type {Map<string, Media>} */
const known = new Map();
const addresses = new Map();
const encoded = new Map();

export const mediaOf = (id) => known.get(id);

/** Forgets what the last conversation held in memory; what is kept in the store stays there. */
export function forgetMedia() {
  for (const address of addresses.values()) URL.revokeObjectURL(address);
  for (const table of [known, addresses, encoded]) table.clear();
}

/** @param {Media} media */
export function rememberMedia(media) {
  known.set(media.id, media);
  return media;
}

/** A blob: address of the whole picture or clip, or of its thumbnail. */
export function addressOf(media, part = "blob") {
  const key = `${media.id} ${part}`;
  if (!addresses.has(key)) addresses.set(key, URL.createObjectURL(media[part] ?? media.blob));
  return addresses.get(key);
}

/** The bytes as a data URL, which is how they are sent. */
export async function dataUrl(media) {
  if (!encoded.has(media.id)) encoded.set(media.id, await readAsDataUrl(media.blob));
  return encoded.get(media.id);
}

export const readAsDataUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(/** @type {string} */ (reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/**
 * The Media of a file. Throws an Error with a line for people if it is neither a picture nor a clip.
 * @param {File|Blob} file
 * @param {string} [name]
 */
export async function readFile(file, name = file.name || "picture") {
  const media = { id: newId(), conversation: "", name, blob: file, thumb: null, width: 0, height: 0 };
  if (file.type.startsWith("video/")) return rememberMedia({ ...media, kind: "video", ...(await readClip(file)) });
  const blob = file.type === "image/svg+xml" ? await rasterise(file) : file;
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    throw new Error(t("error.file", { name }));
  }
  const { width, height } = bitmap;
  const thumb = await shrink(bitmap, width, height);
  bitmap.close();
  return rememberMedia({ ...media, kind: "image", blob, thumb, width, height });
}

/** A drawing as PNG, since servers read no SVG. */
async function rasterise(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
  } catch {
    throw new Error(t("error.file", { name: file.name ?? "SVG" }));
  } finally {
    URL.revokeObjectURL(image.src);
  }
  return draw(image, image.naturalWidth || 640, image.naturalHeight || 480, "image/png");
}

const shrink = (source, width, height) => {
  const scale = Math.min(1, THUMB / Math.max(width, height));
  return draw(source, Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)), "image/webp");
};

/** What a canvas makes of a picture, a bitmap or a frame. @returns {Promise<Blob>} */
export function draw(source, width, height, type, quality = 0.9) {
  const canvas = el("canvas", { width, height });
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("canvas"))), type, quality),
  );
}

/** Size, length and an early frame of a clip; zeros where the browser cannot play it, which is no reason not to send it. */
async function readClip(file) {
  const video = el("video", { preload: "auto" });
  video.muted = true;
  video.src = URL.createObjectURL(file);
  try {
    await event(video, "loadeddata");
    const { videoWidth: width, videoHeight: height } = video;
    const seconds = Number.isFinite(video.duration) ? video.duration : 0;
    video.currentTime = Math.min(seconds / 2, 1);
    await event(video, "seeked");
    return { width, height, seconds, thumb: await shrink(video, width, height) };
  } catch {
    return { width: 0, height: 0, seconds: 0, thumb: null };
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

const event = (target, name) =>
  new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", reject, { once: true });
    setTimeout(() => reject(new Error(name)), PATIENCE);
  });
