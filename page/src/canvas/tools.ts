/** Tools: pointers on the canvas become changes of the document. */

import { boxBetween, isArea, moved, rounded, simplified, snapped } from "../geometry/shapes";
import type { Size } from "../geometry/view";
import { encoded, union, valueAt, without } from "../masks";
import { addRegion, markOf, regionOf, removeRegion, reshape } from "../scene/edits";
import type { Point, Region, Shape } from "../scene/types";
import * as store from "../state/store";
import { shapePatch } from "./patches";
import { type Dab, strokePatch } from "./stroke";

export interface Pointer {
  x: number;
  y: number;
  pressure: number;
  pen: boolean;
  shift: boolean;
}

/** What a tool shows while it draws. */
export interface Draft {
  shape?: Shape;
  line?: Pointer[];
  stroke?: { dabs: Dab[]; width: number; pen: boolean; erase: boolean };
  shift?: { name: string; x: number; y: number };
}

export interface Surface {
  size: Size;
  /** Pixels of the canvas in one pixel of the screen. */
  unit: number;
  grid: number;
  draft: (draft: Draft | null) => void;
}

export interface Handler {
  down(at: Pointer): void;
  move(at: Pointer): void;
  up(at: Pointer): void;
  /** End without a change. */
  stop(): void;
}

/** Add a region, select it, and let its card take the phrase. */
export function added(shape: Shape, fields: Partial<Region> = {}): void {
  let name = "";
  store.change((doc) => {
    const [next, made] = addRegion(doc, shape, fields);
    name = made;
    return next;
  });
  store.selected.value = name;
  requestAnimationFrame(() => document.getElementById("region-phrase")?.focus());
}

/** The uppermost visible region at a point. */
export function regionAt(x: number, y: number, size: Size): Region | undefined {
  const doc = store.doc.peek();
  return doc.scene.regions.find((region) => {
    if (markOf(doc, region.name).hidden) return false;
    return valueAt(shapePatch(region, size), Math.floor(x), Math.floor(y)) > 0;
  });
}

/** Box and ellipse; Shift makes the sides equal. */
export function boxTool(surface: Surface, kind: "box" | "ellipse"): Handler {
  let from: Pointer | null = null;
  const shape = (at: Pointer): Shape | null => {
    if (!from) return null;
    const corner = store.snap.peek() ? { ...at, ...snapped(at, surface.grid) } : at;
    const [dx, dy] = [corner.x - from.x, corner.y - from.y];
    const side = Math.max(Math.abs(dx), Math.abs(dy));
    const to = at.shift ? { x: from.x + side * Math.sign(dx), y: from.y + side * Math.sign(dy) } : corner;
    const box = boxBetween(from, to, surface.size);
    return box && { [kind]: box };
  };
  return {
    down: (at) => (from = store.snap.peek() ? { ...at, ...snapped(at, surface.grid) } : at),
    move: (at) => from && surface.draft({ shape: shape(at) ?? {} }),
    up: (at) => {
      const drawn = shape(at);
      const thin = !from || Math.hypot(at.x - from.x, at.y - from.y) < 4 * surface.unit;
      from = null;
      surface.draft(null);
      if (drawn && !thin) added(drawn);
      else store.selected.value = regionAt(at.x, at.y, surface.size)?.name ?? null;
    },
    stop: () => {
      from = null;
      surface.draft(null);
    },
  };
}

function polygonOf(line: { x: number; y: number }[], size: Size): Shape | null {
  const polygon = line.map((at): Point => [rounded(at.x / size.width), rounded(at.y / size.height)]);
  return isArea(polygon) ? { polygon } : null;
}

/** A free outline. */
export function lassoTool(surface: Surface): Handler {
  let line: Pointer[] = [];
  return {
    down: (at) => (line = [at]),
    move: (at) => {
      if (!line.length) return;
      line.push(at);
      surface.draft({ line });
    },
    up: () => {
      const shape = line.length > 2 ? polygonOf(simplified(line, 0.75 * surface.unit), surface.size) : null;
      line = [];
      surface.draft(null);
      if (shape) added(shape);
    },
    stop: () => {
      line = [];
      surface.draft(null);
    },
  };
}

/** Corners by clicks; the first corner, a double click or Enter closes. */
export function polygonTool(surface: Surface): Handler & { close(): void } {
  let corners: Pointer[] = [];
  const close = () => {
    const shape = polygonOf(corners, surface.size);
    corners = [];
    surface.draft(null);
    if (shape) added(shape);
  };
  const near = (a: Pointer, b: Pointer | undefined) => !!b && Math.hypot(a.x - b.x, a.y - b.y) < 8 * surface.unit;
  return {
    down: (at) => {
      const corner = store.snap.peek() ? { ...at, ...snapped(at, surface.grid) } : at;
      if (corners.length > 2 && (near(corner, corners[0]) || near(corner, corners.at(-1)))) close();
      else if (!near(corner, corners.at(-1))) corners.push(corner);
    },
    move: (at) => corners.length && surface.draft({ line: [...corners, at] }),
    up: () => corners.length && surface.draft({ line: [...corners] }),
    stop: () => {
      corners = [];
      surface.draft(null);
    },
    close,
  };
}

/** Brush and eraser: they change the selected region's mask; without a selection the brush begins a region. */
export function brushTool(surface: Surface, erase: boolean): Handler {
  let dabs: Dab[] = [];
  let pen = false;
  const show = () => surface.draft({ stroke: { dabs, width: store.brushSize.peek(), pen, erase } });
  return {
    down: (at) => {
      pen = at.pen;
      dabs = [at];
      show();
    },
    move: (at) => {
      if (!dabs.length) return;
      dabs.push(at);
      show();
    },
    up: () => {
      const stroke = dabs;
      dabs = [];
      surface.draft(null);
      if (stroke.length) painted(stroke, pen, erase, surface.size);
    },
    stop: () => {
      dabs = [];
      surface.draft(null);
    },
  };
}

function painted(stroke: Dab[], pen: boolean, erase: boolean, size: Size): void {
  const patch = strokePatch(stroke, store.brushSize.peek(), pen, size);
  const doc = store.doc.peek();
  const under = erase ? regionAt(stroke[0]?.x ?? 0, stroke[0]?.y ?? 0, size) : undefined;
  const region = regionOf(doc, store.selected.peek()) ?? under;
  if (!patch.width) return;
  if (!region) {
    if (erase) store.say("There is no region to erase from.");
    else added({ rle: encoded(patch, size.width, size.height) });
    return;
  }
  if (markOf(doc, region.name).locked) {
    store.say(`The region "${region.name}" is locked.`);
    return;
  }
  const next = (erase ? without : union)(shapePatch(region, size), patch);
  const shape = { rle: encoded(next, size.width, size.height) };
  store.change((old) => (next.width ? reshape(old, region.name, shape) : removeRegion(old, region.name)));
}

/** Select, and move what is selected. */
export function selectTool(surface: Surface): Handler {
  let from: Pointer | null = null;
  let name: string | null = null;
  const offset = (at: Pointer) => {
    const [x, y] = [at.x - (from?.x ?? 0), at.y - (from?.y ?? 0)];
    return store.snap.peek() ? snapped({ x, y }, surface.grid) : { x, y };
  };
  return {
    down: (at) => {
      const region = regionAt(at.x, at.y, surface.size);
      store.selected.value = region?.name ?? null;
      name = region && !markOf(store.doc.peek(), region.name).locked ? region.name : null;
      from = at;
    },
    move: (at) => from && name !== null && surface.draft({ shift: { name, ...offset(at) } }),
    up: (at) => {
      const region = regionOf(store.doc.peek(), name);
      const { x, y } = offset(at);
      const moves = from && region && Math.hypot(x, y) >= 2 * surface.unit;
      from = null;
      surface.draft(null);
      if (moves) store.change((doc) => reshape(doc, region.name, moved(region, x, y, surface.size)));
    },
    stop: () => {
      from = null;
      surface.draft(null);
    },
  };
}
