/** Changes of a document. Each returns a new one and leaves the old one as it is. */

import { COLOURS } from "../canvas/palette";
import type { Doc, Mark, PictureRef, Region, Scene, Shape } from "./types";
import { withShape } from "./types";

export const EMPTY: Doc = { scene: { regions: [] }, marks: {} };

/** The region of a name. */
export function regionOf(doc: Doc, name: string | null): Region | undefined {
  return doc.scene.regions.find((region) => region.name === name);
}

/** What the page knows of a region besides the scene. */
export function markOf(doc: Doc, name: string): Mark {
  return doc.marks[name] ?? { colour: 0 };
}

/** A name that no region has: "cat", "cat-2", ... */
export function freeName(doc: Doc, wish: string): string {
  const stem = wish.replace(/[\n\r\t]+/g, " ").trim().slice(0, 90) || "region";
  const taken = new Set(doc.scene.regions.map((region) => region.name));
  if (!taken.has(stem)) return stem;
  const base = stem.replace(/-\d+$/, "");
  for (let n = 2; ; n++) if (!taken.has(`${base}-${n}`)) return `${base}-${n}`;
}

/** The colour that the fewest regions have. */
export function freeColour(doc: Doc): number {
  const used = COLOURS.map(() => 0);
  for (const region of doc.scene.regions) {
    const colour = markOf(doc, region.name).colour % COLOURS.length;
    used[colour] = (used[colour] ?? 0) + 1;
  }
  return used.indexOf(Math.min(...used));
}

function withRegions(doc: Doc, regions: Region[]): Doc {
  return { ...doc, scene: { ...doc.scene, regions } };
}

/** Add a region above all others. Returns the document and the region's name. */
export function addRegion(doc: Doc, shape: Shape, fields: Partial<Region> = {}): [Doc, string] {
  const name = freeName(doc, fields.name ?? `region-${doc.scene.regions.length + 1}`);
  const region = withShape({ ...fields, name }, shape);
  const marks = { ...doc.marks, [name]: { colour: freeColour(doc) } };
  return [{ ...withRegions(doc, [region, ...doc.scene.regions]), marks }, name];
}

/** Change fields of a region; undefined removes a field. */
export function updateRegion(doc: Doc, name: string, fields: Partial<Region>): Doc {
  return withRegions(
    doc,
    doc.scene.regions.map((region) => (region.name === name ? pruned({ ...region, ...fields }) : region)),
  );
}

/** Give a region another shape. */
export function reshape(doc: Doc, name: string, shape: Shape): Doc {
  return withRegions(
    doc,
    doc.scene.regions.map((region) => (region.name === name ? withShape(region, shape) : region)),
  );
}

/** Remove a region. */
export function removeRegion(doc: Doc, name: string): Doc {
  const { [name]: _gone, ...marks } = doc.marks;
  return { ...withRegions(doc, doc.scene.regions.filter((region) => region.name !== name)), marks };
}

/** Copy a region, above itself. Returns the document and the copy's name. */
export function duplicateRegion(doc: Doc, name: string): [Doc, string] {
  const at = doc.scene.regions.findIndex((region) => region.name === name);
  const source = doc.scene.regions[at];
  if (!source) return [doc, name];
  const copy = { ...source, name: freeName(doc, name) };
  const regions = [...doc.scene.regions];
  regions.splice(at, 0, copy);
  const marks = { ...doc.marks, [copy.name]: { colour: freeColour(doc) } };
  return [{ ...withRegions(doc, regions), marks }, copy.name];
}

/** Move a region to another place of the list; 0 is the uppermost. */
export function moveRegion(doc: Doc, name: string, to: number): Doc {
  const region = regionOf(doc, name);
  if (!region) return doc;
  const rest = doc.scene.regions.filter((other) => other !== region);
  rest.splice(Math.max(0, Math.min(to, rest.length)), 0, region);
  return withRegions(doc, rest);
}

/** Rename a region; a taken name gets a number. Returns the document and the new name. */
export function renameRegion(doc: Doc, name: string, wish: string): [Doc, string] {
  if (!wish.trim() || wish === name) return [doc, name];
  const next = freeName(removeRegion(doc, name), wish);
  const regions = doc.scene.regions.map((region) => (region.name === name ? { ...region, name: next } : region));
  const { [name]: mark, ...marks } = doc.marks;
  return [{ ...withRegions(doc, regions), marks: { ...marks, [next]: mark ?? { colour: 0 } } }, next];
}

/** Change what the page knows of a region. */
export function setMark(doc: Doc, name: string, fields: Partial<Mark>): Doc {
  return { ...doc, marks: { ...doc.marks, [name]: { ...markOf(doc, name), ...fields } } };
}

/** Show one region only, or all again if it is the only one. */
export function solo(doc: Doc, name: string): Doc {
  const others = doc.scene.regions.filter((region) => region.name !== name);
  const alone = others.length > 0 && others.every((region) => markOf(doc, region.name).hidden);
  let next = setMark(doc, name, { hidden: false });
  for (const region of others) next = setMark(next, region.name, { hidden: !alone });
  return next;
}

/** Change fields of the scene; undefined removes a field. */
export function updateScene(doc: Doc, fields: Partial<Scene>): Doc {
  return { ...doc, scene: pruned({ ...doc.scene, ...fields }) };
}

/** Set the picture that is changed; its size becomes the canvas's, and it is not enlarged. */
export function setBackground(doc: Doc, picture: PictureRef | undefined): Doc {
  const large = picture === undefined ? {} : { hires: undefined, windows: undefined };
  return updateScene(doc, { background: picture, width: undefined, height: undefined, outside: undefined, ...large });
}

function pruned<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}
