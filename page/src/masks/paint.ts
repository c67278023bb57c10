/** Changes of hard masks: union, difference, grow, invert, move, and their run-length encoding. */

import type { Rle } from "../scene/types";
import { squaredDistances } from "./distance";
import { cropped, NOTHING, type Patch, trimmed } from "./masks";

/** COCO's runs down the columns of the canvas, beginning with zeros. */
export function encoded(patch: Patch, width: number, height: number): Rle {
  const counts: number[] = [];
  let value = 0;
  let run = 0;
  const add = (next: number, count: number) => {
    if (next !== value) {
      counts.push(run);
      value = next;
      run = 0;
    }
    run += count;
  };
  add(0, patch.x * height);
  for (let column = 0; column < patch.width; column++) {
    add(0, patch.y);
    for (let row = 0; row < patch.height; row++) add((patch.data[row * patch.width + column] ?? 0) > 0 ? 1 : 0, 1);
    add(0, height - patch.y - patch.height);
  }
  add(0, (width - patch.x - patch.width) * height);
  counts.push(run);
  return { size: [height, width], counts };
}

function combined(a: Patch, b: Patch, rule: (a: number, b: number) => number): Patch {
  if (!a.width) return trimmed({ ...b, data: b.data.map((value) => rule(0, value)) });
  if (!b.width) return a;
  const x = Math.min(a.x, b.x);
  const y = Math.min(a.y, b.y);
  const width = Math.max(a.x + a.width, b.x + b.width) - x;
  const height = Math.max(a.y + a.height, b.y + b.height) - y;
  const [left, right] = [cropped(a, x, y, width, height), cropped(b, x, y, width, height)];
  return trimmed({ ...left, data: left.data.map((value, index) => rule(value, right.data[index] ?? 0)) });
}

/** What is in one of two masks. */
export const union = (a: Patch, b: Patch): Patch => combined(a, b, (x, y) => (x || y ? 1 : 0));

/** What is in the first mask and not in the second. */
export const without = (a: Patch, b: Patch): Patch => combined(a, b, (x, y) => (x && !y ? 1 : 0));

/** The rest of the canvas. */
export function inverted(patch: Patch, width: number, height: number): Patch {
  const whole = cropped(patch, 0, 0, width, height);
  return trimmed({ ...whole, data: whole.data.map((value) => (value > 0 ? 0 : 1)) });
}

/** Grow a mask by whole pixels; a negative number shrinks it. The edge of the canvas is no outline. */
export function grown(patch: Patch, pixels: number, width: number, height: number): Patch {
  if (!patch.width || !pixels) return patch;
  if (pixels < 0) return inverted(grown(inverted(patch, width, height), -pixels, width, height), width, height);
  const x = Math.max(0, patch.x - pixels);
  const y = Math.max(0, patch.y - pixels);
  const w = Math.min(width, patch.x + patch.width + pixels) - x;
  const h = Math.min(height, patch.y + patch.height + pixels) - y;
  const wide = cropped(patch, x, y, w, h);
  const squares = squaredDistances(Uint8Array.from(wide.data, (value) => (value > 0 ? 1 : 0)), w, h);
  return trimmed({ ...wide, data: Float32Array.from(squares, (square) => (square <= pixels * pixels ? 1 : 0)) });
}

/** A mask at another place; what leaves the canvas is lost. */
export function shifted(patch: Patch, dx: number, dy: number, width: number, height: number): Patch {
  return clipped({ ...patch, x: patch.x + dx, y: patch.y + dy }, width, height);
}

/** A mask stretched into another window. */
export function stretched(patch: Patch, x: number, y: number, w: number, h: number, width: number, height: number): Patch {
  if (w < 1 || h < 1) return NOTHING;
  const data = new Float32Array(w * h);
  for (let row = 0; row < h; row++) {
    const source = Math.trunc(((row + 0.5) / h) * patch.height) * patch.width;
    for (let column = 0; column < w; column++) {
      data[row * w + column] = patch.data[source + Math.trunc(((column + 0.5) / w) * patch.width)] ?? 0;
    }
  }
  return clipped({ x, y, width: w, height: h, data }, width, height);
}

function clipped(patch: Patch, width: number, height: number): Patch {
  const x = Math.max(0, patch.x);
  const y = Math.max(0, patch.y);
  const w = Math.min(width, patch.x + patch.width) - x;
  const h = Math.min(height, patch.y + patch.height) - y;
  return w > 0 && h > 0 ? trimmed(cropped(patch, x, y, w, h)) : NOTHING;
}
