import { describe, expect, it } from "vitest";
import { heatOf } from "../src/state/heat";

/** Grey pixels as RGBA. */
function stack(width: number, values: number[]) {
  return { width, height: values.length / width, data: new Uint8ClampedArray(values.flatMap((one) => [one, one, one, 255])) };
}

describe("attention maps as colours", () => {
  it("takes one map of those that lie one above the other", () => {
    const maps = stack(2, [0, 0, 0, 0, 255, 255, 255, 255, 0, 255, 0, 255]);
    const third = heatOf(maps, 3, 2);
    expect([third.width, third.height]).toEqual([2, 2]);
    const pixel = (at: number) => [...third.data.slice(4 * at, 4 * at + 4)];
    expect(pixel(0)).toEqual(pixel(2));
    expect(pixel(1)).toEqual(pixel(3));
    expect(heatOf(maps, 3, 0).data).toEqual(heatOf(stack(2, [0, 0, 0, 0]), 1, 0).data);
  });

  it("gives more attention more light and less transparency", () => {
    const { data } = heatOf(stack(256, Array.from({ length: 256 }, (_, value) => value)), 1, 0);
    const sums = Array.from({ length: 256 }, (_, at) => (data[4 * at] ?? 0) + (data[4 * at + 1] ?? 0) + (data[4 * at + 2] ?? 0));
    for (let at = 1; at < 256; at++) {
      expect(sums[at]).toBeGreaterThanOrEqual((sums[at - 1] ?? 0) - 1);
      expect(data[4 * at + 3]).toBeGreaterThanOrEqual(data[4 * at - 1] ?? 0);
    }
    expect([...data.slice(-4)]).toEqual([252, 255, 164, 217]);
  });
});
