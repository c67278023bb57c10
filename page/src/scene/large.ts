/** Pictures larger than the model's size: a second pass at a larger size, and windows. */

import type { Scene } from "./types";

/** Why a region of such a picture is not drawn again alone. */
export const NOT_AGAIN =
  "This picture was enlarged, or drawn in windows, and a region of it cannot be drawn again alone; make it the background instead.";

const SCALE = 2;
const STRENGTH = 0.5;
const OVERLAP = 0.5;

export interface Large {
  /** How many times the width and height; 1 without a second pass. */
  scale: number;
  /** How much the second pass changes, in [0, 1]. */
  strength: number;
  /** The fraction that a window shares with the next one; null without windows. */
  overlap: number | null;
}

/** What a scene says of it. */
export function largeOf(scene: Scene): Large {
  const { hires, windows } = scene;
  const given = typeof hires === "number" ? { scale: hires } : ((hires ?? { scale: 1 }) as { scale?: number; strength?: number });
  return { scale: given.scale ?? SCALE, strength: given.strength ?? STRENGTH, overlap: typeof windows === "number" ? windows : null };
}

/** The fields of a scene that is enlarged so many times. */
export function enlarged(scale: number, strength: number): Partial<Scene> {
  return { hires: scale > 1 ? { scale, strength } : undefined };
}

/** The fields of a scene with windows, or without. */
export function windowed(on: boolean): Partial<Scene> {
  return { windows: on ? OVERLAP : undefined };
}

/** Whether a picture of the scene has another size than its canvas, or comes of windows. */
export function isLarge(scene: Scene): boolean {
  const { scale, overlap } = largeOf(scene);
  return scale > 1 || overlap !== null;
}
