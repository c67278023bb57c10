import { describe, expect, it } from "vitest";
import { decompressed } from "../src/masks";
import { fromCoco, isCoco } from "../src/scene/coco";

const image = { id: 7, width: 100, height: 50 };

describe("COCO", () => {
  it("reads boxes, outlines and runs", () => {
    const scene = fromCoco({
      images: [image],
      categories: [{ id: 1, name: "cat" }],
      annotations: [
        { image_id: 7, category_id: 1, bbox: [10, 10, 30, 20] },
        { image_id: "7", segmentation: [[0, 0, 50, 0, 50, 50]], caption: "a car" },
        { image_id: 7, segmentation: [[0, 0, 50, 0, 50, 50], [60, 0, 90, 0, 90, 40]] },
        { image_id: 7, segmentation: { size: [2, 3], counts: [1, 2, 3] } },
        { image_id: 8, bbox: [0, 0, 1, 1] },
        { image_id: 7, caption: "on a beach" },
      ],
    });
    expect(scene.caption).toBe("on a beach");
    expect(scene.regions.map((region) => region.phrase)).toEqual([undefined, undefined, "a car", "cat"]);
    expect(scene.regions[3]?.box).toEqual([0.1, 0.2, 0.4, 0.6]);
    expect(scene.regions[2]?.polygon).toEqual([[0, 0], [0.5, 0], [0.5, 1]]);
    expect(scene.regions[1]?.rle?.size).toEqual([50, 100]);
  });

  it("is distinguished from a scene", () => {
    expect(isCoco({ regions: [] })).toBe(false);
    expect(isCoco({ images: [], annotations: [] })).toBe(true);
    expect(() => fromCoco({ images: [], annotations: [] })).toThrow(/no image/);
    expect(() => fromCoco({ images: [image], annotations: [] })).toThrow(/no annotation/);
  });

  it("decodes compressed runs", () => {
    expect(decompressed("1234")).toEqual([1, 2, 3, 6]);
    expect(decompressed("P1")).toEqual([32]);
    expect(() => decompressed("P")).toThrow(/middle/);
    expect(() => decompressed("é")).toThrow(/COCO/);
  });
});
