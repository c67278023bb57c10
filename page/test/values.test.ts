import { expect, it } from "vitest";
import { valuesOf } from "../src/state/values";

it("reads the values of a sweep", () => {
  expect(valuesOf("1, 2.5,true, a cat,, \"x\"")).toEqual([1, 2.5, true, "a cat", "x"]);
});
