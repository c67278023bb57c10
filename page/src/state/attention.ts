/** What each phrase attended to, as a layer over the picture that is shown. */

import { computed, effect, signal } from "@preact/signals";
import { pictureUrl } from "../api/client";
import { pixels } from "../canvas/images";
import { heatOf } from "./heat";
import { running, shownStaged } from "./jobs";
import { compare, isSheet } from "./see";
import { fail, selected } from "./store";

/** The region that the user has chosen; "" is none, null is not chosen yet. */
export const chosen = signal<string | null>(null);
/** Which of the maps, counted from the last: 0 is the last step. */
export const stepsBack = signal(0);

/** The maps of the shown picture. */
export const attention = computed(() => (isSheet.value ? null : (shownStaged.value?.job.report?.attention ?? null)));

/** The region whose map is shown: the chosen one, else the selected one, else the first. */
export const attended = computed<string>(() => {
  const names = Object.keys(attention.value?.regions ?? {});
  const wishes = chosen.value === "" ? [""] : [chosen.value, selected.value, names[0]];
  return wishes.find((name) => name === "" || (typeof name === "string" && names.includes(name))) ?? "";
});

/** The steps that have maps, and which of them is shown. */
export const mapped = computed(() => {
  const steps = attention.value?.regions[attended.value]?.steps ?? [];
  return { steps, index: Math.max(0, steps.length - 1 - stepsBack.value) };
});

export interface Heat {
  image: HTMLCanvasElement;
  x: number;
  y: number;
  width: number;
  height: number;
}

const made = signal<Heat | null>(null);
/** The map that lies over the picture; none over a preview or a comparison. */
export const heat = computed(() => (running.value?.progress?.preview || compare.value !== null ? null : made.value));
/** The regions whose maps are there, while one of them is shown: their colours would hide it. */
export const uncoloured = computed<ReadonlySet<string>>(() => new Set(heat.value ? Object.keys(attention.value?.regions ?? {}) : []));

const SIDE = 512;
let latest = "";

function smooth(source: ImageData, width: number, height: number): HTMLCanvasElement {
  const small = new OffscreenCanvas(source.width, source.height);
  small.getContext("2d")?.putImageData(source, 0, 0);
  const canvas = document.createElement("canvas");
  const times = Math.max(1, SIDE / Math.max(width, height));
  canvas.width = Math.round(width * times);
  canvas.height = Math.round(height * times);
  const context = canvas.getContext("2d");
  if (context) {
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  }
  return canvas;
}

effect(() => {
  const [found, { steps, index }] = [attention.value, mapped.value];
  const layer = found?.regions[attended.value];
  const picture = shownStaged.value?.job.pictures.find((one) => one.name === layer?.picture);
  if (!found || !layer || !picture) {
    latest = "";
    made.value = null;
    return;
  }
  const [x, y, x1, y1] = found.window;
  const wanted = `${picture.id} ${index}`;
  latest = wanted;
  pixels(pictureUrl(picture.id)).then((stack) => {
    if (latest !== wanted) return;
    const map = heatOf(stack, steps.length, index);
    const image = smooth(new ImageData(map.data, map.width, map.height), x1 - x, y1 - y);
    made.value = { image, x, y, width: x1 - x, height: y1 - y };
  }, fail);
});
