/** Shapes in fractions of the canvas: bounds, moving, resizing, snapping. */

import { encoded, hardPatch, shifted, stretched } from "../masks";
import type { Box, Point, Shape } from "../scene/types";
import type { Size } from "./view";

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

const clamp = (value: number): number => Math.min(1, Math.max(0, value));

/** Fractions with 5 digits: a hundredth of a pixel of 1000. */
export const rounded = (value: number): number => Math.round(clamp(value) * 1e5) / 1e5;

/** The box between two points of the canvas in pixels; null where it is thinner than a pixel. */
export function boxBetween(a: { x: number; y: number }, b: { x: number; y: number }, size: Size): Box | null {
  const box: Box = [
    rounded(Math.min(a.x, b.x) / size.width),
    rounded(Math.min(a.y, b.y) / size.height),
    rounded(Math.max(a.x, b.x) / size.width),
    rounded(Math.max(a.y, b.y) / size.height),
  ];
  return (box[2] - box[0]) * size.width >= 1 && (box[3] - box[1]) * size.height >= 1 ? box : null;
}

/** A point moved to the nearest crossing of a grid. */
export function snapped(point: { x: number; y: number }, grid: number): { x: number; y: number } {
  if (grid <= 1) return point;
  return { x: Math.round(point.x / grid) * grid, y: Math.round(point.y / grid) * grid };
}

/** The rectangle around a shape, in pixels of the canvas; null for a mask that is a picture. */
export function boundsOf(shape: Shape, size: Size): Rect | null {
  const box = shape.box ?? shape.ellipse ?? (shape.polygon && around(shape.polygon));
  if (box) {
    const [x0, y0, x1, y1] = box;
    return { x: x0 * size.width, y: y0 * size.height, width: (x1 - x0) * size.width, height: (y1 - y0) * size.height };
  }
  return hardPatch(shape, size.width, size.height);
}

function around(points: Point[]): Box {
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** A shape moved by pixels; vector shapes stay whole inside of the canvas. */
export function moved(shape: Shape, dx: number, dy: number, size: Size): Shape {
  const bounds = boundsOf(shape, size);
  if (!bounds) return shape;
  if (shape.rle) {
    const patch = hardPatch(shape, size.width, size.height);
    const next = patch && shifted(patch, Math.round(dx), Math.round(dy), size.width, size.height);
    return next?.width ? { rle: encoded(next, size.width, size.height) } : shape;
  }
  const x = Math.max(0, Math.min(size.width - bounds.width, bounds.x + dx));
  const y = Math.max(0, Math.min(size.height - bounds.height, bounds.y + dy));
  return resized(shape, { ...bounds, x, y }, size);
}

/** A shape stretched from its bounds to others, cut at the canvas. */
export function resized(shape: Shape, to: Rect, size: Size): Shape {
  const from = boundsOf(shape, size);
  if (!from) return shape;
  if (shape.rle) {
    const patch = hardPatch(shape, size.width, size.height);
    const [x, y, w, h] = [to.x, to.y, to.width, to.height].map(Math.round) as [number, number, number, number];
    const next = patch && stretched(patch, x, y, w, h, size.width, size.height);
    return next?.width ? { rle: encoded(next, size.width, size.height) } : shape;
  }
  if (shape.polygon) {
    const polygon = shape.polygon.map(([px, py]): Point => [
      rounded((to.x + ((px * size.width - from.x) / from.width) * to.width) / size.width),
      rounded((to.y + ((py * size.height - from.y) / from.height) * to.height) / size.height),
    ]);
    return isArea(polygon) ? { polygon } : shape;
  }
  const box = boxBetween({ x: to.x, y: to.y }, { x: to.x + to.width, y: to.y + to.height }, size);
  if (!box) return shape;
  return shape.ellipse ? { ellipse: box } : { box };
}

/** Whether points lie around an area. */
export function isArea(points: Point[]): boolean {
  if (points.length < 3) return false;
  const [x0, y0] = points[0] as Point;
  let [fx, fy, far] = [0, 0, 0];
  for (const [x, y] of points) {
    const square = (x - x0) ** 2 + (y - y0) ** 2;
    if (square > far) [fx, fy, far] = [x - x0, y - y0, square];
  }
  return points.some(([x, y]) => Math.abs(fx * (y - y0) - fy * (x - x0)) > 1e-9);
}

/** Leave out points that lie within a distance of the line between the others (Ramer, Douglas and Peucker). */
export function simplified(points: { x: number; y: number }[], tolerance: number): { x: number; y: number }[] {
  const keep = new Uint8Array(points.length);
  const waiting: [number, number][] = [[0, points.length - 1]];
  keep[0] = keep[points.length - 1] = 1;
  while (waiting.length) {
    const [from, to] = waiting.pop() as [number, number];
    let [worst, distance] = [-1, tolerance];
    for (let i = from + 1; i < to; i++) {
      const d = distanceToLine(points[i] as never, points[from] as never, points[to] as never);
      if (d > distance) [worst, distance] = [i, d];
    }
    if (worst >= 0) {
      keep[worst] = 1;
      waiting.push([from, worst], [worst, to]);
    }
  }
  return points.filter((_, index) => keep[index]);
}

function distanceToLine(p: { x: number; y: number }, a: { x: number; y: number }, b: { x: number; y: number }): number {
  const [dx, dy] = [b.x - a.x, b.y - a.y];
  const length = dx * dx + dy * dy;
  const t = length ? Math.min(1, Math.max(0, ((p.x - a.x) * dx + (p.y - a.y) * dy) / length)) : 0;
  return Math.hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}
