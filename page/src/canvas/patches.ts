/** Masks of regions, made once for each shape, feather and size. */

import { signal } from "@preact/signals";
import type { Size } from "../geometry/view";
import { feathered, hardPatch, NOTHING, type Patch, trimmed } from "../masks";
import { pictureId, type Region, type Shape } from "../scene/types";
import { pictureUrl } from "../api/client";
import { pixels } from "./images";

interface Made {
  key: string;
  patch: Patch;
}

const hard = new WeakMap<object, Made>();
const soft = new WeakMap<object, Made>();
const pictures = new Map<string, Patch | null>();
/** Counts the masks that have arrived from the server. */
export const arrivals = signal(0);

function valueOf(shape: Shape): object | null {
  if (typeof shape.mask === "object") return shape.mask;
  return shape.box ?? shape.ellipse ?? shape.polygon ?? shape.rle ?? null;
}

/** The mask of a shape without its feather. */
export function shapePatch(shape: Shape, size: Size): Patch {
  const value = valueOf(shape);
  const key = `${size.width}x${size.height}`;
  if (!value) return NOTHING;
  const found = hard.get(value);
  if (found?.key === key) return found.patch;
  const patch = hardPatch(shape, size.width, size.height) ?? maskPicture(pictureId(shape.mask), size);
  if (patch) hard.set(value, { key, patch });
  return patch ?? NOTHING;
}

/** The mask of a region. */
export function regionPatch(region: Region, size: Size): Patch {
  const value = valueOf(region);
  const key = `${size.width}x${size.height}/${region.feather ?? 0}`;
  if (!value) return NOTHING;
  const found = soft.get(value);
  if (found?.key === key) return found.patch;
  const patch = feathered(shapePatch(region, size), region.feather ?? 0, size.width, size.height);
  if (patch.width) soft.set(value, { key, patch });
  return patch;
}

/** The mask of a shape, with its feather, once its picture has arrived. */
export async function loadedPatch(shape: Shape & { feather?: number }, size: Size): Promise<Patch> {
  const id = pictureId(shape.mask);
  const patch = id ? brightness(await pixels(pictureUrl(id)), size) : shapePatch(shape, size);
  return feathered(patch, shape.feather ?? 0, size.width, size.height);
}

/** A mask from the server, by its brightness; how the server reads it is in its warnings. */
function maskPicture(id: string | null, size: Size): Patch | null {
  if (!id) return NOTHING;
  const key = `${id}/${size.width}x${size.height}`;
  const found = pictures.get(key);
  if (found !== undefined) return found;
  pictures.set(key, null);
  void pixels(pictureUrl(id)).then(
    (data) => {
      pictures.set(key, brightness(data, size));
      arrivals.value++;
    },
    () => pictures.set(key, NOTHING),
  );
  return null;
}

function brightness(image: ImageData, size: Size): Patch {
  const patch: Patch = { x: 0, y: 0, ...size, data: new Float32Array(size.width * size.height) };
  for (let y = 0; y < size.height; y++) {
    const row = Math.trunc(((y + 0.5) / size.height) * image.height) * image.width;
    for (let x = 0; x < size.width; x++) {
      const at = 4 * (row + Math.trunc(((x + 0.5) / size.width) * image.width));
      const [r = 0, g = 0, b = 0, a = 0] = image.data.subarray(at, at + 4);
      patch.data[y * size.width + x] = ((0.299 * r + 0.587 * g + 0.114 * b) * a) / 65025;
    }
  }
  return trimmed(patch);
}
