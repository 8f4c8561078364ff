// The camera: a stream for a video element, a list of cameras, and one frame of it as a picture.
import { byId, el } from "./dom.js";
import { t } from "./i18n.js";
import { draw } from "./media.js";

/** Shows a camera in a video element. Throws an Error with a line for people. @returns {Promise<MediaStream>} */
export async function openCamera(video, device = "") {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error(t("camera.none", { why: t("camera.insecure") }));
  const wanted = device ? { deviceId: { exact: device } } : { facingMode: { ideal: "environment" } };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...wanted, width: { ideal: 1280 } }, audio: false });
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    throw new Error(t("camera.none", { why: error.message || error.name }));
  }
}

export const closeCamera = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** The frame that a video shows now, as JPEG. @param {HTMLVideoElement} video */
export const frameOf = (video) => draw(video, video.videoWidth, video.videoHeight, "image/jpeg", 0.92);

async function fillChoice(select, stream) {
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  const used = stream.getVideoTracks()[0]?.getSettings().deviceId;
  select.replaceChildren(
    ...cameras.map((camera, index) =>
      el(
        "option",
        { value: camera.deviceId, selected: camera.deviceId === used },
        camera.label || t("camera.default", { n: index + 1 }),
      ),
    ),
  );
}

/** The dialog that takes a picture. @param {(picture: File) => void} taken */
export function cameraDialog(taken) {
  const dialog = byId("camera-dialog");
  const video = byId("camera-view");
  const which = byId("camera-which");
  const problem = byId("camera-error");
  let stream = null;
  const open = async (device) => {
    closeCamera(stream);
    problem.hidden = true;
    try {
      stream = await openCamera(video, device);
      if (!dialog.open) return closeCamera(stream);
      await fillChoice(which, stream);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
    byId("camera-take").disabled = !problem.hidden;
  };
  which.addEventListener("change", () => open(which.value));
  dialog.addEventListener("close", () => (closeCamera(stream), (stream = null)));
  byId("camera-take").addEventListener("click", async () => {
    if (!video.videoWidth) return;
    const time = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
    taken(new File([await frameOf(video)], `camera-${time}.jpg`, { type: "image/jpeg" }));
    dialog.close();
  });
  return () => {
    dialog.showModal();
    open("");
  };
}
