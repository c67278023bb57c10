/** See and prove: what is shown over the picture, and how much changed outside of the regions. */

import { signal } from "@preact/signals";
import { pictureUrl } from "../api/client";
import { pixels } from "../canvas/images";
import { regionPatch } from "../canvas/patches";
import { pictureId, type Scene } from "../scene/types";
import { before, shownStaged } from "./jobs";
import { scene } from "./store";
import { type Difference, difference } from "./difference";

/** Position of the compare slider, a fraction of the canvas; null while it is off. */
export const compare = signal<number | null>(null);
/** The picture that is shown: the result, or the background under it. */
export const visible = signal<"result" | "background">("result");
export const differenceImage = signal<HTMLCanvasElement | null>(null);
export const differenceFound = signal<Difference | null>(null);

/** The address of what the shown picture is compared with. */
export function beforeId(): string | null {
  const made = shownStaged.peek()?.job.scene;
  return keptIn(made ?? null) ?? before.peek() ?? pictureId(scene.peek().background);
}

/** The picture whose pixels a job keeps outside of its regions. */
function keptIn(made: Scene | null): string | null {
  const outside = made?.outside as { image?: unknown } | undefined;
  return pictureId(outside?.image) ?? pictureId(made?.background);
}

/** Show where the shown picture differs from the one before it, and count the bytes outside of its regions. */
export async function showDifference(): Promise<void> {
  const [now, old] = [shownStaged.peek(), beforeId()];
  if (!now || !old) throw new Error("There is no earlier picture to compare with; generate another one first.");
  const [a, b] = await Promise.all([pixels(pictureUrl(old)), pixels(pictureUrl(now.picture.id))]);
  const made = now.job.scene;
  const outside = made?.outside as { regions?: string[] } | undefined;
  const own = (made?.regions ?? []).filter((region) => !outside?.regions || outside.regions.includes(region.name));
  const size = { width: b.width, height: b.height };
  const found = difference(a, b, own.filter((region) => region.weight !== 0).map((region) => regionPatch(region, size)));
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
