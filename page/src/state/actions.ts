/** What buttons and keys do, beyond single changes of the document. */

import { api, type ImportOptions } from "../api/client";
import { added } from "../canvas/tools";
import { shapePatch } from "../canvas/patches";
import { alphaOf } from "../canvas/tint";
import { encoded, grown, inverted, type Patch } from "../masks";
import * as edits from "../scene/edits";
import { docOf, sceneToSend } from "../scene/exchange";
import { isLarge, NOT_AGAIN } from "../scene/large";
import { pictureId, type Region, type Scene } from "../scene/types";
import { discard, shownStaged, submit } from "./jobs";
import * as store from "./store";

/** Size of the background, once it is known. */
export async function measureBackground(ref: unknown): Promise<void> {
  const id = pictureId(ref);
  if (!id || store.backgroundSize.peek()?.id === id) return;
  const { width, height } = await api.picture(id);
  store.backgroundSize.value = { id, width, height };
}

/** Put a document in place of the present one. */
export function replaceDoc(data: unknown): void {
  const next = docOf(data);
  store.change(() => next);
  store.selected.value = next.scene.regions[0]?.name ?? null;
}

/** A scene's JSON with its embedded pictures uploaded, and their ids in their place. */
async function uploaded(value: unknown): Promise<unknown> {
  if (typeof value === "string" && value.startsWith("data:image/")) {
    const [head = "", text = ""] = value.split(",");
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const type = /data:([^;]+)/.exec(head)?.[1] ?? "image/png";
    return { picture: (await api.upload(new Blob([bytes], { type }))).id };
  }
  if (Array.isArray(value)) {
    return value.every((one) => typeof one === "number") ? value : Promise.all(value.map(uploaded));
  }
  if (typeof value !== "object" || value === null) return value;
  const fields = await Promise.all(Object.entries(value).map(async ([name, one]) => [name, await uploaded(one)]));
  return Object.fromEntries(fields);
}

/** A scene that this page saved, whose pictures may be larger than one request; null for any other file. */
async function savedScene(file: File): Promise<unknown> {
  if (!file.name.endsWith(".json")) return null;
  const data: unknown = JSON.parse(await file.text());
  return typeof data === "object" && data !== null && "version" in data ? uploaded(data) : null;
}

/** Read the scene of another tool's file, or of the PNG layers of an image. */
export async function importFiles(files: File[], options: ImportOptions = {}): Promise<void> {
  const saved = files.length === 1 && !Object.keys(options).length ? await savedScene(files[0] as File) : null;
  const { scene, warnings } = saved ? { scene: saved, warnings: [] } : await api.importFiles(files, options);
  replaceDoc(scene);
  store.say([`${files.map(({ name }) => name).join(", ")}: ${store.scene.peek().regions.length} regions.`, ...warnings].join(" "));
}

const PICTURES = ["image/png", "image/jpeg", "image/webp"];

/** Open files: a picture with a scene brings everything back, another one becomes the background, the rest are scenes. */
export async function open(files: File[]): Promise<void> {
  const [file] = files;
  if (!file) return;
  if (files.length > 1 || !PICTURES.includes(file.type)) return importFiles(files);
  const upload = await api.upload(file);
  if (upload.scene) {
    replaceDoc(upload.scene);
    const found = `Restored the scene of ${file.name}: ${store.scene.peek().regions.length} regions.`;
    store.say([found, ...upload.warnings].join(" "));
    return;
  }
  if (upload.scene_error) store.fail(upload.scene_error);
  useAsBackground(upload.id, upload);
}

/** Use a stored picture as the background. */
export function useAsBackground(id: string, size: { width: number; height: number }): void {
  store.backgroundSize.value = { id, width: size.width, height: size.height };
  store.change((doc) => edits.setBackground(doc, { picture: id }));
}

/** Make the shown picture the background of what comes next. */
export function accept(): void {
  const one = shownStaged.peek();
  if (!one) return;
  useAsBackground(one.picture.id, one.picture);
  store.say("The picture is the background now: regions are drawn over it, the rest keeps its bytes.");
}

/** Bring back the document that a picture was made from. */
export function restoreShown(): void {
  const one = shownStaged.peek();
  const made = one?.job.report?.scene ?? one?.job.scene;
  if (!one || !made) return;
  const seed = one.job.report?.outputs?.[one.index]?.seed;
  replaceDoc(seed === undefined ? made : { ...made, seed });
  store.say("Everything is as it was when this picture was made.");
}

/** Delete the shown picture. */
export function discardShown(): void {
  const one = shownStaged.peek();
  if (one) discard(one);
}

/** Give the document the seed of the shown picture. */
export function keepSeed(): void {
  const one = shownStaged.peek();
  const seed = one?.job.report?.outputs?.[one.index]?.seed;
  if (seed !== undefined) store.change((doc) => edits.updateScene(doc, { seed }));
}

/** Draw one region again in the shown picture; all other pixels keep their bytes. vary: with new noise in the region. */
export async function redraw(name: string, vary: boolean): Promise<void> {
  const one = shownStaged.peek();
  const made = one?.job.report?.scene ?? one?.job.scene;
  if (!one || !made) throw new Error("There is no picture to change; generate one first.");
  const sent = sceneToSend(store.doc.peek());
  if (isLarge(sent) || isLarge(made)) throw new Error(NOT_AGAIN);
  const region = sent.regions.find((other) => other.name === name);
  if (!region) throw new Error(`The region "${name}" has nothing to draw; describe it first.`);
  const seed = one.job.report?.outputs?.[one.index]?.seed ?? made.seed;
  const kept = { picture: one.picture.id };
  const regions = sent.regions.map((other) => (other === region && vary ? { ...other, seed: randomSeed() } : other));
  const scene: Scene = { ...sent, seed, regions };
  if (sent.background) {
    const others = regions.filter((other) => other.name === name);
    await submit("generate", { ...scene, background: kept, regions: others });
    return;
  }
  const outside: Record<string, unknown> = { image: kept, regions: [name] };
  const old = made.regions.find((other) => other.name === name);
  const size = { width: one.picture.width, height: one.picture.height };
  if (old && JSON.stringify(shapes(old)) !== JSON.stringify(shapes(region))) {
    outside.mask = { picture: await uploadMask(shapePatch(old, size), size) };
  }
  await submit("generate", { ...scene, outside });
}

const shapes = ({ box, ellipse, polygon, rle, mask }: Region) => [box, ellipse, polygon, rle, mask];

export const randomSeed = (): number => crypto.getRandomValues(new Uint32Array(1))[0] as number;

/** A mask as a PNG: white on black. */
export async function maskPng(patch: Patch, size: { width: number; height: number }): Promise<Blob> {
  const canvas = new OffscreenCanvas(size.width, size.height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("The browser has no canvas; use another one.");
  context.fillRect(0, 0, size.width, size.height);
  if (patch.width) {
    const white = new OffscreenCanvas(patch.width, patch.height);
    const over = white.getContext("2d");
    over?.drawImage(alphaOf(patch), 0, 0);
    if (over) over.globalCompositeOperation = "source-in";
    if (over) over.fillStyle = "#fff";
    over?.fillRect(0, 0, patch.width, patch.height);
    context.drawImage(white, patch.x, patch.y);
  }
  return canvas.convertToBlob({ type: "image/png" });
}

async function uploadMask(patch: Patch, size: { width: number; height: number }): Promise<string> {
  return (await api.upload(await maskPng(patch, size))).id;
}

/** Use a picture as the mask of a new region. */
export async function importMask(file: File): Promise<void> {
  const upload = await api.upload(file);
  added({ mask: { picture: upload.id } }, { name: file.name.replace(/\.\w+$/, "") });
}

/** Change the selected region's mask as a whole. */
export function remask(make: (patch: Patch, width: number, height: number) => Patch): void {
  const region = store.selectedRegion.peek();
  if (!region || edits.markOf(store.doc.peek(), region.name).locked) return;
  const size = store.canvasSize.peek();
  const patch = make(shapePatch(region, size), size.width, size.height);
  if (!patch.width) {
    store.say("Nothing of the region would be left.");
    return;
  }
  const shape = { rle: encoded(patch, size.width, size.height) };
  store.change((doc) => edits.reshape(doc, region.name, shape));
}

export const invertMask = (): void => remask(inverted);
export const growMask = (pixels: number): void => remask((patch, width, height) => grown(patch, pixels, width, height));

/** Add a box in the middle, for those who do not draw. */
export function addBox(): void {
  const taken = store.scene.peek().regions.length;
  const shift = (taken % 4) * 0.05;
  added({ box: [0.25 + shift, 0.25 + shift, 0.7 + shift, 0.7 + shift] });
}

/** Remove the selected region. */
export function removeSelected(): void {
  const region = store.selectedRegion.peek();
  if (!region) return;
  if (edits.markOf(store.doc.peek(), region.name).locked) store.say(`The region "${region.name}" is locked.`);
  else store.change((doc) => edits.removeRegion(doc, region.name));
}

/** Copy the selected region. */
export function duplicateSelected(): void {
  const region = store.selectedRegion.peek();
  if (!region) return;
  let copy = region.name;
  store.change((doc) => {
    const [next, name] = edits.duplicateRegion(doc, region.name);
    copy = name;
    return next;
  });
  store.selected.value = copy;
}

/** Begin anew. */
export function clear(): void {
  store.change(() => edits.EMPTY);
  store.say("A new scene. Ctrl+Z brings the old one back.");
}
