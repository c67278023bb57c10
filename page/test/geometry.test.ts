import { describe, expect, it } from "vitest";
import { boundsOf, boxBetween, isArea, moved, resized, simplified, snapped } from "../src/geometry/shapes";
import { fitted, panned, SCALES, toCanvas, zoomed } from "../src/geometry/view";
import { encoded, hardPatch } from "../src/masks";
import type { Shape } from "../src/scene/types";

const size = { width: 96, height: 64 };

describe("the view", () => {
  it("keeps the point under the cursor while it zooms", () => {
    let view = fitted(size, { width: 800, height: 500 });
    const before = toCanvas(view, 123, 77);
    for (const factor of [1.3, 5, 0.2, 1000, 1e-6]) view = zoomed(view, factor, { x: 123, y: 77 });
    const after = toCanvas(view, 123, 77);
    expect(after.x).toBeCloseTo(before.x, 6);
    expect(after.y).toBeCloseTo(before.y, 6);
    expect(view.scale).toBe(SCALES.least);
  });

  it("fits the whole canvas in the middle", () => {
    const view = fitted(size, { width: 800, height: 500 });
    const corner = toCanvas(view, 800, 500);
    expect(toCanvas(view, 0, 0).x + corner.x).toBeCloseTo(size.width);
    expect(toCanvas(view, 0, 0).y + corner.y).toBeCloseTo(size.height);
    expect(corner.x).toBeGreaterThan(size.width);
    expect(panned(view, 3, 4)).toEqual({ scale: view.scale, x: view.x + 3, y: view.y + 4 });
  });
});

describe("shapes", () => {
  const rle = encoded(hardPatch({ ellipse: [0.2, 0.2, 0.6, 0.7] }, 96, 64)!, 96, 64);
  const shapes: Shape[] = [
    { box: [0.1, 0.2, 0.5, 0.6] },
    { ellipse: [0.1, 0.2, 0.5, 0.6] },
    { polygon: [[0.1, 0.2], [0.5, 0.25], [0.3, 0.6]] },
    { rle },
  ];

  it.each(shapes)("move and come back: %o", (shape) => {
    const there = moved(shape, 7, -5, size);
    const [from, to] = [boundsOf(shape, size)!, boundsOf(there, size)!];
    expect(to.x - from.x).toBeCloseTo(7, 1);
    expect(to.y - from.y).toBeCloseTo(-5, 1);
    const back = boundsOf(moved(there, -7, 5, size), size)!;
    expect(back.x).toBeCloseTo(from.x, 1);
    expect(back.width).toBeCloseTo(from.width, 1);
  });

  it.each(shapes.slice(0, 3))("stay whole at the edge of the canvas: %o", (shape) => {
    const bounds = boundsOf(moved(shape, 1000, 1000, size), size)!;
    expect(bounds.x + bounds.width).toBeCloseTo(size.width, 1);
    expect(bounds.width).toBeCloseTo(boundsOf(shape, size)!.width, 1);
  });

  it.each(shapes)("take the bounds that they are given: %o", (shape) => {
    const bounds = boundsOf(resized(shape, { x: 8, y: 10, width: 40, height: 20 }, size), size)!;
    for (const [side, value] of Object.entries({ x: 8, y: 10, width: 40, height: 20 })) {
      expect(bounds[side as "x"]).toBeCloseTo(value, 1);
    }
  });

  it("are not thinner than a pixel", () => {
    expect(boxBetween({ x: 5, y: 5 }, { x: 5.4, y: 30 }, size)).toBeNull();
    expect(boxBetween({ x: 30, y: 30 }, { x: -9, y: 5 }, size)).toEqual([0, 0.07813, 0.3125, 0.46875]);
    expect(resized({ box: [0, 0, 1, 1] }, { x: 1, y: 1, width: 0, height: 5 }, size)).toEqual({ box: [0, 0, 1, 1] });
  });

  it("snap to a grid", () => {
    expect(snapped({ x: 13, y: 19 }, 8)).toEqual({ x: 16, y: 16 });
    expect(snapped({ x: 13, y: 19 }, 1)).toEqual({ x: 13, y: 19 });
  });

  it("lose points on straight lines only", () => {
    const line = Array.from({ length: 50 }, (_, i) => ({ x: i, y: i < 25 ? 0 : i - 24 }));
    expect(simplified(line, 0.6)).toHaveLength(3);
    expect(isArea([[0, 0], [0.5, 0.5], [1, 1]])).toBe(false);
    expect(isArea([[0, 0], [0.5, 0.5], [1, 0]])).toBe(true);
  });
});
