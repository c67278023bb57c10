/** Masks as coloured, patterned images. */

import type { Size } from "../geometry/view";
import type { Patch } from "../masks";
import { tile } from "./palette";

const SIDE = 1024;
const made = new WeakMap<Patch, { key: string; canvas: HTMLCanvasElement }>();
const tiles = new Map<number, HTMLCanvasElement>();

/** Pixels of a tint for one pixel of the canvas: more on small canvases, so that the patterns are fine there. */
export const fineness = (size: Size): number => Math.max(1, Math.min(8, Math.floor(SIDE / Math.max(size.width, size.height))));

/** The image of a mask in a colour. */
export function tint(patch: Patch, colour: number, size: Size): HTMLCanvasElement | null {
  if (!patch.width) return null;
  const times = fineness(size);
  const key = `${colour}/${times}`;
  const found = made.get(patch);
  if (found?.key === key) return found.canvas;
  const canvas = document.createElement("canvas");
  canvas.width = patch.width * times;
  canvas.height = patch.height * times;
  const context = canvas.getContext("2d");
  if (!context) return null;
  context.imageSmoothingEnabled = false;
  context.drawImage(alphaOf(patch), 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-in";
  let pattern = tiles.get(colour);
  if (!pattern) tiles.set(colour, (pattern = tile(colour)));
  context.fillStyle = context.createPattern(pattern, "repeat") ?? "grey";
  context.fillRect(0, 0, canvas.width, canvas.height);
  made.set(patch, { key, canvas });
  return canvas;
}

/** A canvas whose opacity is a mask. */
export function alphaOf(patch: Patch): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = patch.width;
  canvas.height = patch.height;
  const data = new ImageData(patch.width, patch.height);
  patch.data.forEach((value, index) => (data.data[4 * index + 3] = Math.round(255 * value)));
  canvas.getContext("2d")?.putImageData(data, 0, 0);
  return canvas;
}
