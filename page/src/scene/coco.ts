/** Scenes from and to COCO's annotations. */

import { rounded } from "../geometry/shapes";
import type { Size } from "../geometry/view";
import { decompressed, encoded, polygonPatch, softPatch, trimmed, union, NOTHING, type Patch } from "../masks";
import type { Point, Region, Rle, Scene, Shape } from "./types";

interface Annotation {
  image_id: number | string;
  category_id?: number | string;
  bbox?: number[];
  segmentation?: number[][] | { size: [number, number]; counts: number[] | string };
  caption?: string;
}

interface Coco {
  images: { id: number | string; width: number; height: number; caption?: string }[];
  annotations: Annotation[];
  categories?: { id: number | string; name: string }[];
}

/** Whether a JSON value is a file of COCO annotations. */
export function isCoco(data: unknown): data is Coco {
  return typeof data === "object" && data !== null && "annotations" in data && "images" in data;
}

/** The scene of the first image of a file. Throws an Error with a sentence where there is none. */
export function fromCoco(data: Coco): Scene {
  const image = data.images[0];
  if (!image) throw new Error("The file has no image; give COCO annotations of one.");
  const names = new Map((data.categories ?? []).map((category) => [String(category.id), category.name]));
  const regions: Region[] = [];
  let { caption } = image;
  for (const one of data.annotations) {
    if (String(one.image_id) !== String(image.id)) continue;
    const shape = shapeIn(one, image);
    if (!shape) {
      caption ??= one.bbox || one.segmentation ? undefined : one.caption;
      continue;
    }
    const phrase = one.caption || names.get(String(one.category_id)) || "";
    regions.push({ name: `region-${regions.length}`, ...shape, ...(phrase ? { phrase } : {}) });
  }
  if (!regions.length) throw new Error("The file's first image has no annotation with a shape; give another file.");
  return { ...(caption ? { caption } : {}), regions: regions.reverse() };
}

function shapeIn(one: Annotation, size: Size): Shape | null {
  const { segmentation, bbox } = one;
  if (Array.isArray(segmentation) && segmentation.length) return outlines(segmentation, size);
  if (segmentation && !Array.isArray(segmentation)) {
    const { counts } = segmentation;
    return { rle: { size: segmentation.size, counts: typeof counts === "string" ? decompressed(counts) : counts } };
  }
  if (!bbox) return null;
  const [x = 0, y = 0, width = 0, height = 0] = bbox;
  if (width <= 0 || height <= 0) return null;
  const [x0, y0] = [rounded(x / size.width), rounded(y / size.height)];
  return { box: [x0, y0, rounded((x + width) / size.width), rounded((y + height) / size.height)] };
}

/** One outline is a polygon; several are one mask. */
function outlines(polygons: number[][], size: Size): Shape | null {
  const all = polygons.map((flat) => {
    const points: Point[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2) {
      points.push([rounded((flat[i] ?? 0) / size.width), rounded((flat[i + 1] ?? 0) / size.height)]);
    }
    return points;
  });
  const valid = all.filter((points) => points.length >= 3);
  if (valid.length === 1) return { polygon: valid[0] };
  const patches = valid.map((points): Patch => trimmed(polygonPatch(points, size.width, size.height)));
  const whole = patches.reduce(union, NOTHING);
  return whole.width ? { rle: encoded(whole, size.width, size.height) } : null;
}

/** A file of COCO annotations. Masks that are pictures become their boxes only where they are known. */
export function toCoco(scene: Scene, size: Size, patchOf: (region: Region) => Patch): object {
  const phrases = [...new Set(scene.regions.map((region) => region.phrase || region.name))];
  const annotations = [...scene.regions].reverse().map((region, index) => {
    const patch = softPatch(region, 0, size.width, size.height) ?? patchOf(region);
    const phrase = region.phrase || region.name;
    return {
      id: index + 1,
      image_id: 1,
      category_id: phrases.indexOf(phrase) + 1,
      caption: phrase,
      bbox: [patch.x, patch.y, patch.width, patch.height],
      area: patch.data.reduce((sum, value) => sum + (value > 0 ? 1 : 0), 0),
      iscrowd: 0,
      ...segmentation(region, patch, size),
    };
  });
  return {
    images: [{ id: 1, ...size, file_name: "image.png", caption: scene.caption ?? "" }],
    annotations,
    categories: phrases.map((name, index) => ({ id: index + 1, name })),
  };
}

function segmentation(region: Region, patch: Patch, size: Size): { bbox?: number[]; segmentation?: number[][] | Rle } {
  if (region.box) {
    const [x0, y0, x1, y1] = region.box;
    return { bbox: [x0 * size.width, y0 * size.height, (x1 - x0) * size.width, (y1 - y0) * size.height] };
  }
  if (region.polygon) return { segmentation: [region.polygon.flatMap(([x, y]) => [x * size.width, y * size.height])] };
  return { segmentation: encoded(patch, size.width, size.height) };
}
