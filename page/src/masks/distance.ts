/** Exact Euclidean distances in a mask. */

import type { Patch } from "./masks";

/** Distance from each pixel's centre in a patch to the mask's outline, in pixels; the edge of the canvas is no outline. */
export function depthIn(patch: Patch, width: number, height: number): Float64Array {
  // One pixel more on each side that is inside of the canvas: the nearest pixel outside is never further away.
  const left = patch.x > 0 ? 1 : 0;
  const top = patch.y > 0 ? 1 : 0;
  const w = patch.width + left + (patch.x + patch.width < width ? 1 : 0);
  const h = patch.height + top + (patch.y + patch.height < height ? 1 : 0);
  const outside = new Uint8Array(w * h).fill(1);
  for (let row = 0; row < patch.height; row++) {
    for (let column = 0; column < patch.width; column++) {
      if ((patch.data[row * patch.width + column] ?? 0) > 0) outside[(row + top) * w + column + left] = 0;
    }
  }
  const squares = squaredDistances(outside, w, h);
  const depth = new Float64Array(patch.width * patch.height);
  for (let row = 0; row < patch.height; row++) {
    for (let column = 0; column < patch.width; column++) {
      depth[row * patch.width + column] = Math.sqrt(squares[(row + top) * w + column + left] ?? 0) - 0.5;
    }
  }
  return depth;
}

/** Squared distance from each pixel to the nearest pixel that is set (Meijster, Roerdink and Hesselink, 2000). */
export function squaredDistances(set: Uint8Array, width: number, height: number): Float64Array {
  const far = width + height;
  const columns = new Float64Array(width * height);
  for (let x = 0; x < width; x++) {
    let distance = far;
    for (let y = 0; y < height; y++) {
      distance = set[y * width + x] ? 0 : Math.min(far, distance + 1);
      columns[y * width + x] = distance;
    }
    distance = far;
    for (let y = height - 1; y >= 0; y--) {
      distance = set[y * width + x] ? 0 : Math.min(far, distance + 1);
      columns[y * width + x] = Math.min(columns[y * width + x] ?? far, distance);
    }
  }
  const result = new Float64Array(width * height);
  for (let y = 0; y < height; y++) lowerEnvelope(columns.subarray(y * width, (y + 1) * width), result, y * width);
  return result;
}

/** Least of (x - i)^2 + g[i]^2 over i, for every x. */
function lowerEnvelope(g: Float64Array, result: Float64Array, offset: number): void {
  const sites: number[] = [0];
  const starts: number[] = [0];
  const square = (i: number) => (g[i] ?? 0) ** 2;
  const cost = (x: number, i: number) => (x - i) ** 2 + square(i);
  const last = <T>(list: T[]): T => list[list.length - 1] as T;
  for (let u = 1; u < g.length; u++) {
    while (sites.length && cost(last(starts), last(sites)) > cost(last(starts), u)) {
      sites.pop();
      starts.pop();
    }
    if (!sites.length) {
      sites.push(u);
      starts.push(0);
      continue;
    }
    const i = last(sites);
    const start = 1 + Math.floor((u * u - i * i + square(u) - square(i)) / (2 * (u - i)));
    if (start < g.length) {
      sites.push(u);
      starts.push(start);
    }
  }
  for (let x = g.length - 1; x >= 0; x--) {
    result[offset + x] = cost(x, last(sites));
    if (x === last(starts)) {
      sites.pop();
      starts.pop();
    }
  }
}
