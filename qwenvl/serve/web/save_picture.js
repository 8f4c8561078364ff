// A picture with its places drawn into it, downloaded as PNG at its own size.
import { el } from "./dom.js";
import { pointsOf } from "./regions.js";

/**
 * Returns the name of the file.
 * @param {import("./media.js").Media} media
 * @param {HTMLImageElement} picture it, loaded
 * @param {{region: import("./regions.js").Region, colour: string}[]} marks
 */
export async function savePicture(media, picture, marks) {
  const canvas = el("canvas", { width: media.width, height: media.height });
  const pen = canvas.getContext("2d");
  await picture.decode();
  pen.drawImage(picture, 0, 0, media.width, media.height);
  pen.lineWidth = Math.max(2, Math.round(Math.max(media.width, media.height) / 300));
  pen.font = `${pen.lineWidth * 6}px sans-serif`;
  for (const { region, colour } of marks) paint(pen, region, colour);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = el("a", { href: URL.createObjectURL(blob), download: `${media.name.replace(/\.\w+$/, "")}-places.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  return link.download;
}

function paint(pen, region, colour) {
  const points = pointsOf(region);
  const [[left, top]] = points;
  pen.strokeStyle = pen.fillStyle = colour;
  pen.beginPath();
  if (region.kind === "point") for (const [x, y] of points) pen.arc(x, y, pen.lineWidth * 2.5, 0, 7);
  else if (region.kind === "box") pen.rect(left, top, points[1][0] - left, points[1][1] - top);
  else points.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
  if (region.kind === "point") pen.fill();
  else pen.stroke();
  if (region.label) name(pen, region.label, left, top);
}

/** Above the place, or within it at the top of the picture. */
function name(pen, label, left, top) {
  const size = pen.lineWidth * 6;
  const y = top < size * 1.3 ? top : top - size * 1.3;
  pen.fillRect(left - pen.lineWidth / 2, y, pen.measureText(label).width + size / 2, size * 1.3);
  pen.fillStyle = "#ffffff";
  pen.fillText(label, left + size / 4, y + size);
}
