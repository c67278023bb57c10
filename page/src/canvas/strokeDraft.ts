/** A stroke while it is drawn. */

import { Shape } from "konva/lib/Shape";
import { type Dab, strokeOutline } from "./stroke";

/** The node of a stroke. */
export function strokeDraft(stroke: { dabs: Dab[]; width: number; pen: boolean }, colour: string): Shape {
  const path = strokeOutline(stroke.dabs, stroke.width, stroke.pen);
  return new Shape({
    listening: false,
    opacity: 0.6,
    sceneFunc: (context) => {
      context._context.fillStyle = colour;
      context._context.fill(path, "nonzero");
    },
  });
}
