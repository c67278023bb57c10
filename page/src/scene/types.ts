/** The scene of docs/scenes.md, as far as the page reads it. Fields that it does not know stay as they are. */

export type Box = [number, number, number, number];
export type Point = [number, number];

/** A picture stored by the server, or embedded as a data URI. */
export type PictureRef = { picture: string } | { sha256: string } | string;

export interface Rle {
  size: [number, number];
  counts: number[];
}

export interface Control {
  kind: string;
  image?: PictureRef;
  from?: PictureRef;
  strength?: number;
  conditional_only?: boolean;
}

export interface Exemplar {
  image: PictureRef;
  strength?: number;
  bottleneck?: boolean;
}

export interface Edit {
  kind: "add" | "remove" | "change";
  phrase?: string;
  from?: string;
  to?: string;
}

export interface Concept {
  image?: PictureRef;
  /** A learned concept as a data URI. */
  file?: PictureRef;
  keep_structure?: number;
  concept_strength?: number;
}

export interface Shape {
  box?: Box;
  ellipse?: Box;
  polygon?: Point[];
  rle?: Rle;
  mask?: PictureRef;
  mask_channel?: string;
}

export interface Region extends Shape {
  name: string;
  phrase?: string;
  negative?: string;
  exemplar?: Exemplar;
  control?: Control;
  edit?: Edit;
  concept?: Concept;
  lora?: unknown;
  keywords?: string[];
  similarity?: number;
  weight?: number;
  priority?: number;
  start?: number;
  stop?: number;
  feather?: number;
  guidance?: number;
  seed?: number;
  strict?: boolean;
}

export interface Scene {
  version?: number;
  width?: number;
  height?: number;
  caption?: string;
  negative?: string;
  seed?: number;
  steps?: number;
  guidance?: number;
  sampler?: string;
  method?: string;
  overlap?: string;
  model?: string;
  background?: PictureRef;
  strength?: number;
  outside?: unknown;
  regions: Region[];
  [field: string]: unknown;
}

/** What the page adds to a region, and the scene has no field for. */
export interface Mark {
  colour: number;
  hidden?: boolean;
  locked?: boolean;
}

/** The one value that is drawn, saved, undone and sent. regions[0] is the uppermost. */
export interface Doc {
  scene: Scene;
  marks: Record<string, Mark>;
}

export const SHAPES = ["box", "ellipse", "polygon", "rle", "mask"] as const;

/** The fields of a shape, without the region's others. */
export function shapeOf(region: Region): Shape {
  const { box, ellipse, polygon, rle, mask, mask_channel } = region;
  return { box, ellipse, polygon, rle, mask, mask_channel };
}

/** A region with another shape. */
export function withShape(region: Region, shape: Shape): Region {
  const next: Region = { ...region };
  for (const name of [...SHAPES, "mask_channel"] as const) delete next[name];
  for (const [name, value] of Object.entries(shape)) {
    if (value !== undefined) Object.assign(next, { [name]: value });
  }
  return next;
}

/** The id of a stored picture. */
export function pictureId(ref: unknown): string | null {
  if (typeof ref !== "object" || ref === null || !("picture" in ref)) return null;
  return typeof ref.picture === "string" ? ref.picture : null;
}
