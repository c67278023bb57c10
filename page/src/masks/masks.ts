/**
 * Masks of shapes, pixel for pixel those of src/cloisonne/scene/shapes/masks.py.
 *
 * A patch is the part of a mask inside a window of the canvas; outside of it the mask is 0.
 */

import type { Box, Point, Rle, Shape } from "../scene/types";
import { depthIn } from "./distance";

export interface Patch {
  x: number;
  y: number;
  width: number;
  height: number;
  /** 0 to 1, row by row. */
  data: Float32Array;
}

export const NOTHING: Patch = { x: 0, y: 0, width: 0, height: 0, data: new Float32Array() };

const centre = (index: number, count: number): number => (index + 0.5) / count;

/** The first pixel of `count` whose centre is at or beyond a fraction. */
function firstAt(fraction: number, count: number): number {
  let index = Math.max(0, Math.min(count, Math.ceil(fraction * count - 0.5)));
  while (index > 0 && centre(index - 1, count) >= fraction) index--;
  while (index < count && centre(index, count) < fraction) index++;
  return index;
}

function patchOf(x0: number, y0: number, x1: number, y1: number): Patch {
  const width = Math.max(0, x1 - x0);
  const height = Math.max(0, y1 - y0);
  return width && height ? { x: x0, y: y0, width, height, data: new Float32Array(width * height) } : NOTHING;
}

/** 1 where the pixel's centre has x0 <= x < x1 and y0 <= y < y1. */
export function boxPatch([x0, y0, x1, y1]: Box, width: number, height: number): Patch {
  const patch = patchOf(firstAt(x0, width), firstAt(y0, height), firstAt(x1, width), firstAt(y1, height));
  patch.data.fill(1);
  return patch;
}

/** 1 inside the ellipse that touches the four sides of a box. */
export function ellipsePatch([x0, y0, x1, y1]: Box, width: number, height: number): Patch {
  const left = Math.max(0, firstAt(x0, width) - 1);
  const top = Math.max(0, firstAt(y0, height) - 1);
  const patch = patchOf(left, top, Math.min(width, firstAt(x1, width) + 1), Math.min(height, firstAt(y1, height) + 1));
  for (let row = 0; row < patch.height; row++) {
    const y = (centre(patch.y + row, height) - (y0 + y1) / 2) / ((y1 - y0) / 2);
    for (let column = 0; column < patch.width; column++) {
      const x = (centre(patch.x + column, width) - (x0 + x1) / 2) / ((x1 - x0) / 2);
      if (y * y + x * x <= 1) patch.data[row * patch.width + column] = 1;
    }
  }
  return patch;
}

/** 1 where a ray to the left crosses the outline an odd number of times. */
export function polygonPatch(points: Point[], width: number, height: number): Patch {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const left = firstAt(Math.min(...xs), width);
  const right = Math.min(width, firstAt(Math.max(...xs), width) + 1);
  const patch = patchOf(left, firstAt(Math.min(...ys), height), right, firstAt(Math.max(...ys), height));
  const stride = patch.width + 1;
  const crossed = new Uint8Array(stride * patch.height);
  points.forEach((a, index) => {
    const b = points[(index + 1) % points.length] ?? a;
    const [low, high] = a[1] < b[1] || (a[1] === b[1] && a[0] <= b[0]) ? [a, b] : [b, a];
    const end = Math.min(firstAt(high[1], height), patch.y + patch.height);
    for (let row = Math.max(firstAt(low[1], height), patch.y); row < end; row++) {
      const at = low[0] + (centre(row, height) - low[1]) * ((high[0] - low[0]) / (high[1] - low[1]));
      const column = Math.max(0, Math.min(patch.width, firstAt(at, width) - patch.x));
      const cell = (row - patch.y) * stride + column;
      crossed[cell] = (crossed[cell] ?? 0) ^ 1;
    }
  });
  for (let row = 0; row < patch.height; row++) {
    let inside = 0;
    for (let column = 0; column < patch.width; column++) {
      inside ^= crossed[row * stride + column] ?? 0;
      patch.data[row * patch.width + column] = inside;
    }
  }
  return patch;
}

/** A run-length encoding, stretched over the canvas: each pixel takes the value at its centre. */
export function rlePatch(rle: Rle, width: number, height: number): Patch {
  const [rows, columns] = rle.size;
  const hard = new Uint8Array(rows * columns);
  let at = 0;
  rle.counts.forEach((count, index) => {
    if (index % 2) hard.fill(1, at, at + count);
    at += count;
  });
  const whole = patchOf(0, 0, width, height);
  for (let x = 0; x < width; x++) {
    const column = Math.trunc(centre(x, width) * columns) * rows;
    for (let y = 0; y < height; y++) {
      if (hard[column + Math.trunc(centre(y, height) * rows)]) whole.data[y * width + x] = 1;
    }
  }
  return trimmed(whole);
}

/** The hard mask of a shape; null for a mask that is a picture. */
export function hardPatch(shape: Shape, width: number, height: number): Patch | null {
  if (shape.box) return boxPatch(shape.box, width, height);
  if (shape.ellipse) return trimmed(ellipsePatch(shape.ellipse, width, height));
  if (shape.polygon) return trimmed(polygonPatch(shape.polygon, width, height));
  if (shape.rle) return rlePatch(shape.rle, width, height);
  return null;
}

/** The mask of a region, with its soft edge. feather: fraction of the shorter side of the mask's extent. */
export function softPatch(shape: Shape, feather: number, width: number, height: number): Patch | null {
  const hard = hardPatch(shape, width, height);
  return hard && feathered(hard, feather, width, height);
}

/** Multiply a mask by a ramp from 0 at its outline to 1 further inside. The edge of the canvas is no outline. */
export function feathered(patch: Patch, feather: number, width: number, height: number): Patch {
  const across = ((patch.x + patch.width) / width - patch.x / width) * width;
  const down = ((patch.y + patch.height) / height - patch.y / height) * height;
  const pixels = feather * Math.min(across, down);
  const full = patch.width === width && patch.height === height && patch.data.every((value) => value > 0);
  if (pixels <= 0.5 || full) return patch;
  const depth = depthIn(patch, width, height);
  return { ...patch, data: patch.data.map((value, index) => value * Math.min(1, Math.max(0, (depth[index] ?? 0) / pixels))) };
}

/** The same mask in the smallest window that holds it. */
export function trimmed(patch: Patch): Patch {
  let [left, top, right, bottom] = [patch.width, patch.height, -1, -1];
  for (let row = 0; row < patch.height; row++) {
    for (let column = 0; column < patch.width; column++) {
      if (!patch.data[row * patch.width + column]) continue;
      if (column < left) left = column;
      if (column > right) right = column;
      if (row < top) top = row;
      bottom = row;
    }
  }
  if (right < 0) return NOTHING;
  return cropped(patch, patch.x + left, patch.y + top, right - left + 1, bottom - top + 1);
}

/** A mask in another window. */
export function cropped(patch: Patch, x: number, y: number, width: number, height: number): Patch {
  const next: Patch = { x, y, width, height, data: new Float32Array(width * height) };
  for (let row = 0; row < height; row++) {
    const source = y + row - patch.y;
    if (source < 0 || source >= patch.height) continue;
    const from = Math.max(x, patch.x);
    const to = Math.min(x + width, patch.x + patch.width);
    if (from >= to) break;
    const start = source * patch.width - patch.x;
    next.data.set(patch.data.subarray(start + from, start + to), row * width + from - x);
  }
  return next;
}

/** The value of a mask at a pixel. */
export function valueAt(patch: Patch, x: number, y: number): number {
  const [column, row] = [x - patch.x, y - patch.y];
  if (column < 0 || row < 0 || column >= patch.width || row >= patch.height) return 0;
  return patch.data[row * patch.width + column] ?? 0;
}
