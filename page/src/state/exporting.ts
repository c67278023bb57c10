/** Scenes out of the page: a file with everything in it, and commands that do the same. */

import { api, pictureUrl } from "../api/client";
import { shapePatch } from "../canvas/patches";
import { isReady, sceneToSend, verbOf } from "../scene/exchange";
import { pictureId, type Scene } from "../scene/types";
import { maskPng } from "./actions";
import * as store from "./store";

/** Save a blob as a file. */
export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The scene with its pictures embedded: it needs no server. */
export async function wholeScene(): Promise<Scene> {
  return (await embedded(sceneToSend(store.doc.peek()))) as Scene;
}

async function embedded(value: unknown): Promise<unknown> {
  const id = pictureId(value);
  if (id !== null) return dataUri(id);
  if (Array.isArray(value)) return Promise.all(value.map(embedded));
  if (typeof value !== "object" || value === null) return value;
  const fields = await Promise.all(Object.entries(value).map(async ([name, field]) => [name, await embedded(field)]));
  return Object.fromEntries(fields);
}

async function dataUri(id: string): Promise<string> {
  const answer = await fetch(pictureUrl(id));
  if (!answer.ok) throw new Error("A picture of the scene is gone; it may have been deleted on the server.");
  const blob = await answer.blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error("A picture of the scene cannot be read."));
    reader.readAsDataURL(blob);
  });
}

/** Save the scene as JSON. */
export async function saveScene(): Promise<void> {
  const text = JSON.stringify({ version: 1, ...(await wholeScene()) }, null, 1);
  download(new Blob([text], { type: "application/json" }), "scene.json");
}

/** Save the regions as COCO annotations or ComfyUI's elements. A region that describes nothing yet goes by its name. */
export async function saveAs(format: "coco" | "elements"): Promise<void> {
  const scene = store.scene.peek();
  const regions = scene.regions.map((region) => (isReady(region) ? region : { ...region, phrase: region.name }));
  const { width, height } = store.canvasSize.peek();
  const size = format === "coco" ? ([width, height] as const) : null;
  const { data, warnings } = await api.exportScene(sceneToSend({ scene: { ...scene, regions }, marks: {} }), format, size);
  const name = format === "coco" ? "annotations.json" : "elements.json";
  download(new Blob([JSON.stringify(data, null, 1)], { type: "application/json" }), name);
  if (warnings.length) store.say(warnings.join(" "));
}

/** Save the mask of the selected region as PNG. */
export async function saveMask(): Promise<void> {
  const region = store.selectedRegion.peek();
  const size = store.canvasSize.peek();
  if (region) download(await maskPng(shapePatch(region, size), size), `${region.name.replace(/[^\w-]+/g, "_")}.png`);
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

/** The command, program or request that draws the scene. */
export async function copyAs(kind: "cli" | "python" | "curl"): Promise<string> {
  const own = sceneToSend(store.doc.peek());
  const images = store.count.peek();
  const verb = verbOf(own);
  if (kind === "curl") {
    const body = { verb, scene: own, ...(images > 1 ? { arguments: { num_images: images } } : {}) };
    return (
      `curl -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" ${location.origin}/v1/jobs ` +
      `-d ${quoted(JSON.stringify(body))}`
    );
  }
  const text = JSON.stringify(await wholeScene());
  if (kind === "cli") {
    const out = images > 1 ? `images --num-images ${images}` : verb === "edit" ? "edited" : "image.png";
    return `cloisonne ${verb} - -o ${out} <<'SCENE'\n${text}\nSCENE`;
  }
  const out = images > 1 || verb === "edit" ? "images" : "image.png";
  const extra = images > 1 ? `, num_images=${images}` : "";
  return [
    "import json",
    "import cloisonne as cl",
    "",
    `scene = json.loads(${JSON.stringify(text)})`,
    `cl.${verb}(scene, cl.load(${JSON.stringify(own.model ?? "builtin")})${extra}).save("${out}")`,
  ].join("\n");
}
