import { describe, expect, it } from "vitest";
import { setBackground, updateScene } from "../src/scene/edits";
import { enlarged, isLarge, largeOf, windowed } from "../src/scene/large";
import type { Doc } from "../src/scene/types";

const doc: Doc = { scene: { regions: [] }, marks: {} };

describe("Larger pictures", () => {
  it("reads what a scene says", () => {
    expect(largeOf(doc.scene)).toEqual({ scale: 1, strength: 0.5, overlap: null });
    expect(largeOf({ regions: [], hires: 3 })).toEqual({ scale: 3, strength: 0.5, overlap: null });
    expect(largeOf({ regions: [], hires: { strength: 0.3 }, windows: 0.25 })).toEqual({ scale: 2, strength: 0.3, overlap: 0.25 });
    expect([doc.scene, { regions: [], windows: 0 }, { regions: [], hires: 2 }].map(isLarge)).toEqual([false, true, true]);
  });

  it("leaves nothing in the scene when it is off", () => {
    const on = updateScene(updateScene(doc, enlarged(2, 0.4)), windowed(true));
    expect(on.scene).toEqual({ regions: [], hires: { scale: 2, strength: 0.4 }, windows: 0.5 });
    expect(updateScene(updateScene(on, enlarged(1, 0.4)), windowed(false)).scene).toEqual(doc.scene);
  });

  it("is off for a picture with a background", () => {
    const on = updateScene(doc, { hires: 2, windows: 0.5 });
    expect(setBackground(on, { picture: "a" }).scene).toEqual({ regions: [], background: { picture: "a" } });
    expect(setBackground(on, undefined).scene).toEqual(on.scene);
  });
});
