/** Documents to scenes of the API, and back. */

import { COLOURS } from "../canvas/palette";
import { decompressed } from "../masks";
import { markOf } from "./edits";
import type { Doc, Mark, Region, Scene } from "./types";
import { SHAPES } from "./types";

/** Whether a region has something to draw; the API refuses a region without. */
export function isReady(region: Region): boolean {
  if (region.edit) {
    const { kind, phrase, from, to } = region.edit;
    return kind === "change" ? !!from?.trim() && !!to?.trim() : !!phrase?.trim();
  }
  return !!(region.phrase?.trim() || region.exemplar || region.control || region.concept);
}

/** What a region is called on the page: its name, or its phrase while nobody has named it. */
export function titleOf(region: Region): string {
  const words = region.phrase?.trim() || region.edit?.to?.trim() || region.edit?.phrase?.trim() || region.edit?.from?.trim();
  return /^region-\d+$/.test(region.name) && words ? words : region.name;
}

/** A sentence of the server, with the titles of regions in place of their names. */
export function readable(sentence: string, scene: Scene): string {
  return scene.regions.reduce((text, region) => text.replaceAll(`"${region.name}"`, `"${titleOf(region)}"`), sentence);
}

/** The scene that is sent: hidden regions have weight 0, regions that have nothing to draw are left out. */
export function sceneToSend(doc: Doc): Scene {
  const { regions, ...scene } = doc.scene;
  const ready = regions.filter(isReady);
  const byOrder = scene.overlap === "priority";
  const sent = ready.map((region, index) => {
    const { priority: _old, keywords, ...rest } = region;
    const words = keywords?.map((word) => word.trim()).filter(Boolean);
    const fields = words?.length ? { ...rest, keywords: words } : rest;
    const next: Region = markOf(doc, region.name).hidden ? { ...fields, weight: 0 } : fields;
    return byOrder ? { ...next, priority: ready.length - 1 - index } : next;
  });
  return { ...scene, regions: sent } as Scene;
}

/** The verb that a scene is drawn with. */
export function verbOf(scene: Scene): "generate" | "edit" {
  return scene.regions.some((region) => region.edit) ? "edit" : "generate";
}

const DEFAULTS: Record<string, unknown> = {
  version: 1,
  negative: "",
  guidance_rescale: 0,
  eta: 0,
  spacing: "default",
  strength: 1,
  composite: true,
  overlap: "blend",
  mask_channel: "auto",
  phrase: "",
  weight: 1,
  priority: 0,
  start: 0,
  stop: 1,
  feather: 0,
  strict: false,
};

function isDefault(name: string, value: unknown): boolean {
  if (value === null || value === undefined || DEFAULTS[name] === value) return true;
  if (Array.isArray(value)) {
    return value.length === 0 || (name === "guidance_interval" && value[0] === 0 && value[1] === 1);
  }
  return typeof value === "object" && Object.keys(value).length === 0;
}

function withoutDefaults<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([name, field]) => !isDefault(name, field))) as T;
}

/** Read a scene from outside. Throws an Error with a sentence where it is none. */
export function docOf(data: unknown): Doc {
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    throw new Error("The file has no scene; give a scene's JSON object, or a PNG that cloisonne has generated.");
  }
  const { regions: given = [], model: _model, ...scene } = data as Scene;
  if (!Array.isArray(given)) throw new Error("The scene's regions are no list; give a list of regions.");
  const regions = given.map((region, index) => {
    const name = region.name ?? `region-${index}`;
    if (!SHAPES.some((shape) => region[shape])) throw new Error(`The region "${name}" has no shape; give it one.`);
    const fields = withoutDefaults({ ...region, name });
    const counts: unknown = fields.rle?.counts;
    if (fields.rle && typeof counts === "string") fields.rle = { ...fields.rle, counts: decompressed(counts) };
    const exemplar = fields.exemplar as unknown;
    if (exemplar && !(typeof exemplar === "object" && "image" in exemplar)) {
      fields.exemplar = { image: fields.exemplar as never };
    }
    return fields;
  });
  const order = regions.map((region, index) => ({ region, index, priority: region.priority ?? 0 }));
  order.sort((a, b) => b.priority - a.priority || a.index - b.index);
  const marks: Record<string, Mark> = {};
  regions.forEach((region, index) => {
    marks[region.name] = { colour: index % COLOURS.length, ...(region.weight === 0 ? { hidden: true } : {}) };
    if (region.weight === 0) delete region.weight;
  });
  const sorted = order.map(({ region: { priority: _priority, ...fields } }) => fields as Region);
  return { scene: { ...withoutDefaults(scene), regions: sorted }, marks };
}
