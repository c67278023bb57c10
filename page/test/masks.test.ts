import { describe, expect, it } from "vitest";
import { squaredDistances } from "../src/masks/distance";
import { encoded, feathered, grown, hardPatch, inverted, NOTHING, type Patch, rlePatch, shifted, union, valueAt, without } from "../src/masks";
import { difference } from "../src/state/difference";

const [W, H] = [37, 23];
const oval = hardPatch({ ellipse: [0.1, 0.2, 0.6, 0.9] }, W, H)!;
const box = hardPatch({ box: [0.4, 0.1, 0.9, 0.5] }, W, H)!;

function all(patch: Patch): number[] {
  return Array.from({ length: W * H }, (_, i) => valueAt(patch, i % W, Math.floor(i / W)));
}

describe("masks", () => {
  it.each([oval, box, NOTHING, inverted(oval, W, H), inverted(NOTHING, W, H)])("survive their encoding", (patch) => {
    const rle = encoded(patch, W, H);
    expect(rle.counts.reduce((a, b) => a + b, 0)).toBe(W * H);
    expect(all(rlePatch(rle, W, H))).toEqual(all(patch));
  });

  it("combine as sets", () => {
    const [a, b] = [all(oval), all(box)];
    expect(all(union(oval, box))).toEqual(a.map((value, i) => Math.max(value, b[i]!)));
    expect(all(without(oval, box))).toEqual(a.map((value, i) => (b[i] ? 0 : value)));
    expect(all(union(NOTHING, box))).toEqual(b);
    expect(all(without(NOTHING, box)).every((value) => value === 0)).toBe(true);
  });

  it.each([1, 3, -1, -3])("grow by %i pixels", (pixels) => {
    const a = all(oval);
    const near = (i: number, value: number, r: number) =>
      a.some((other, j) => other === value && ((i % W) - (j % W)) ** 2 + (Math.floor(i / W) - Math.floor(j / W)) ** 2 <= r * r);
    const expected = a.map((_, i) => (pixels > 0 ? (near(i, 1, pixels) ? 1 : 0) : near(i, 0, -pixels) ? 0 : 1));
    expect(all(grown(oval, pixels, W, H))).toEqual(expected);
  });

  it("lose what leaves the canvas", () => {
    expect(shifted(box, 100, 0, W, H).width).toBe(0);
    expect(all(shifted(box, -3, 2, W, H)).filter(Boolean).length).toBe(all(box).filter(Boolean).length);
  });

  it("measure exact distances", () => {
    const set = Uint8Array.from({ length: W * H }, (_, i) => (i * 7919) % 41 === 0 ? 1 : 0);
    const found = squaredDistances(set, W, H);
    found.forEach((square, i) => {
      let best = Infinity;
      set.forEach((on, j) => {
        if (on) best = Math.min(best, ((i % W) - (j % W)) ** 2 + (Math.floor(i / W) - Math.floor(j / W)) ** 2);
      });
      expect(square).toBe(best);
    });
  });

  it("are not feathered at the edge of the canvas", () => {
    const half = hardPatch({ box: [0, 0, 0.5, 1] }, W, H)!;
    const soft = feathered(half, 0.3, W, H);
    expect(valueAt(soft, 0, 5)).toBe(1);
    expect(valueAt(soft, half.width - 1, 5)).toBeLessThan(0.2);
    expect(feathered(hardPatch({ box: [0, 0, 1, 1] }, W, H)!, 0.5, W, H).data.every((value) => value === 1)).toBe(true);
  });
});

describe("difference", () => {
  const picture = (data: number[]) => ({ width: 2, height: 1, data: Uint8ClampedArray.from(data) });
  it("counts bytes inside and outside", () => {
    const left: Patch = { x: 0, y: 0, width: 1, height: 1, data: Float32Array.of(1) };
    const found = difference(picture([1, 2, 3, 255, 4, 5, 6, 255]), picture([9, 2, 4, 255, 4, 5, 7, 255]), [left]);
    expect([found.inside.changed, found.outside.changed, found.outside.bytes, found.largest]).toEqual([2, 1, 3, 8]);
    expect(() => difference(picture([]), { width: 3, height: 1, data: new Uint8ClampedArray(12) }, [])).toThrow(/sizes/);
  });
});
