/** See and prove: what is shown over the picture, and how much changed outside of the regions. */

import { computed, signal } from "@preact/signals";
import { pictureUrl } from "../api/client";
import { pixels } from "../canvas/images";
import { loadedPatch } from "../canvas/patches";
import { pictureId, type PictureRef, type Scene, type Shape } from "../scene/types";
import { before, shownStaged } from "./jobs";
import { scene } from "./store";
import { type Difference, difference } from "./difference";

/** Position of the compare slider, a fraction of the canvas; null while it is off. */
export const compare = signal<number | null>(null);
export const differenceImage = signal<HTMLCanvasElement | null>(null);
export const differenceFound = signal<Difference | null>(null);

/** What the shown picture is compared with: what it was made from, else the picture before it. */
export const earlier = computed<string | null>(() => {
  const one = shownStaged.value;
  const sibling = one?.job.pictures.find((picture) => picture.name === "before");
  if (sibling && sibling.id !== one?.picture.id) return sibling.id;
  return keptIn(one?.job.scene ?? null) ?? before.value ?? pictureId(scene.value.background);
});

/** Whether the shown picture is a sheet, a strip or a map: the regions do not lie over it. */
export const isSheet = computed<boolean>(() => {
  const one = shownStaged.value;
  if (!one) return false;
  const { verb } = one.job;
  const { name } = one.picture;
  return verb === "control" || name === "sheet" || name === "difference" || (verb === "explain" && name !== "picture");
});

/** The picture whose pixels a job keeps outside of its regions. */
function keptIn(made: Scene | null): string | null {
  const outside = made?.outside as { image?: unknown } | undefined;
  return pictureId(outside?.image) ?? pictureId(made?.background);
}

/** Show where the shown picture differs from the one before it, and count the bytes outside of its regions. */
export async function showDifference(): Promise<void> {
  const [now, old] = [shownStaged.peek(), earlier.peek()];
  if (!now || !old) throw new Error("There is no earlier picture to compare with; generate another one first.");
  const [a, b] = await Promise.all([pixels(pictureUrl(old)), pixels(pictureUrl(now.picture.id))]);
  const made = now.job.scene;
  const outside = made?.outside as { regions?: string[]; mask?: PictureRef } | undefined;
  const own = (made?.regions ?? []).filter((region) => !outside?.regions || outside.regions.includes(region.name));
  const shapes: Shape[] = own.filter((region) => region.weight !== 0);
  if (outside?.mask) shapes.push({ mask: outside.mask });
  const size = { width: b.width, height: b.height };
  const found = difference(a, b, await Promise.all(shapes.map((shape) => loadedPatch(shape, size))));
  const canvas = document.createElement("canvas");
  canvas.width = b.width;
  canvas.height = b.height;
  canvas.getContext("2d")?.putImageData(new ImageData(found.picture, b.width, b.height), 0, 0);
  differenceImage.value = canvas;
  differenceFound.value = found;
}

/** Hide the difference. */
export function hideDifference(): void {
  differenceImage.value = null;
  differenceFound.value = null;
}
