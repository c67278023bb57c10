/** The difference of two pictures, byte by byte. */

import { type Patch, valueAt } from "../masks";

export interface Difference {
  /** Bytes outside of all regions, and how many of them differ. */
  outside: { bytes: number; changed: number };
  inside: { bytes: number; changed: number };
  largest: number;
  /** RGBA: changes inside in blue, changes outside in red, on a dark ground. */
  picture: Uint8ClampedArray<ArrayBuffer>;
}

interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

function isOpaque({ data }: Pixels): boolean {
  for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return false;
  return true;
}

/** Compare two pictures of one size. Throws an Error where the sizes differ. */
export function difference(a: Pixels, b: Pixels, regions: Patch[]): Difference {
  if (a.width !== b.width || a.height !== b.height) {
    throw new Error(`The pictures are ${a.width} x ${a.height} and ${b.width} x ${b.height} pixels; only equal sizes compare.`);
  }
  const found: Difference = {
    outside: { bytes: 0, changed: 0 },
    inside: { bytes: 0, changed: 0 },
    largest: 0,
    picture: new Uint8ClampedArray(a.data.length),
  };
  const channels = isOpaque(a) && isOpaque(b) ? 3 : 4;
  for (let y = 0; y < a.height; y++) {
    for (let x = 0; x < a.width; x++) {
      const at = 4 * (y * a.width + x);
      const covered = regions.some((patch) => valueAt(patch, x, y) > 0);
      const part = covered ? found.inside : found.outside;
      let most = 0;
      for (let channel = 0; channel < channels; channel++) {
        const gap = Math.abs((a.data[at + channel] ?? 0) - (b.data[at + channel] ?? 0));
        if (gap) part.changed++;
        if (gap > most) most = gap;
      }
      part.bytes += channels;
      found.largest = Math.max(found.largest, most);
      const level = most ? 60 + Math.min(195, most * 3) : 0;
      found.picture.set(covered ? [level >> 2, level >> 1, level, 235] : [level, level >> 3, level >> 3, 235], at);
    }
  }
  return found;
}
