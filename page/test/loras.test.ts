import { expect, it } from "vitest";
import { fieldOf, lorasOf } from "../src/scene/loras";

it("reads every form of a region's LoRAs", () => {
  expect(lorasOf(undefined)).toEqual({});
  expect(lorasOf("ink")).toEqual({ ink: 1 });
  expect(lorasOf({ ink: 0.5, oil: -1 })).toEqual({ ink: 0.5, oil: -1 });
  expect(lorasOf({ name: "ink" })).toEqual({ ink: 1 });
  expect(lorasOf([{ name: "ink", scale: 0.5 }, "oil", { gold: 2 }])).toEqual({ ink: 0.5, oil: 1, gold: 2 });
});

it("has no field without LoRAs", () => {
  expect(fieldOf({})).toBeUndefined();
  expect(fieldOf({ ink: 1 })).toEqual({ ink: 1 });
});
