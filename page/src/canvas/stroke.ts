/** Brush strokes as hard masks. */

import { getStroke } from "perfect-freehand";
import { cropped, NOTHING, type Patch, trimmed } from "../masks";
import type { Size } from "../geometry/view";

export interface Dab {
  x: number;
  y: number;
  pressure: number;
}

/** The outline of a stroke in pixels of the canvas. pen: the width follows the pressure. */
export function strokeOutline(dabs: Dab[], width: number, pen: boolean): Path2D {
  const path = new Path2D();
  const [first] = dabs;
  if (first && dabs.every((dab) => dab.x === first.x && dab.y === first.y)) {
    path.arc(first.x, first.y, width / 2, 0, 2 * Math.PI);
    return path;
  }
  const options = { size: width, thinning: pen ? 0.7 : 0, smoothing: 0.5, streamline: 0.15, simulatePressure: false, last: true };
  const points = getStroke(dabs.map((dab) => [dab.x, dab.y, dab.pressure]), options);
  points.forEach(([x = 0, y = 0], index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
  path.closePath();
  return path;
}

/** The pixels that a stroke covers at least by half. */
export function strokePatch(dabs: Dab[], width: number, pen: boolean, size: Size): Patch {
  const margin = Math.ceil(width) + 2;
  const left = Math.max(0, Math.floor(Math.min(...dabs.map((dab) => dab.x)) - margin));
  const top = Math.max(0, Math.floor(Math.min(...dabs.map((dab) => dab.y)) - margin));
  const right = Math.min(size.width, Math.ceil(Math.max(...dabs.map((dab) => dab.x)) + margin));
  const bottom = Math.min(size.height, Math.ceil(Math.max(...dabs.map((dab) => dab.y)) + margin));
  if (right <= left || bottom <= top) return NOTHING;
  const canvas = new OffscreenCanvas(right - left, bottom - top);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) return NOTHING;
  context.translate(-left, -top);
  context.fill(strokeOutline(dabs, width, pen), "nonzero");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const patch = cropped(NOTHING, left, top, canvas.width, canvas.height);
  patch.data.forEach((_, index) => (patch.data[index] = (data[4 * index + 3] ?? 0) >= 128 ? 1 : 0));
  return trimmed(patch);
}
