/** What is being drawn: shapes, lines and strokes that are not in the document yet. */

import { Shape } from "konva/lib/Shape";
import { markOf } from "../scene/edits";
import * as store from "../state/store";
import { type Layer, Line } from "./konva";
import { colourOf } from "./palette";
import { outline } from "./regionLayer";
import { type Dab, strokeOutline } from "./stroke";
import type { Draft } from "./tools";

const LOOK = { stroke: "#fff", strokeWidth: 1.5, strokeScaleEnabled: false, listening: false };

export class Drafts {
  private nodes: { destroy(): void }[] = [];
  private pending: { draft: Draft; frame: number } | null = null;

  /** shown: what else happens when a draft is shown; null after its end. */
  constructor(
    private readonly layer: Layer,
    private readonly shown: (draft: Draft | null) => void,
  ) {}

  /** Show a draft, once a frame; null ends it at once. */
  show(draft: Draft | null): void {
    if (this.pending && draft) {
      this.pending.draft = draft;
      return;
    }
    if (this.pending) cancelAnimationFrame(this.pending.frame);
    this.pending = null;
    if (!draft) {
      this.draw(null);
      return;
    }
    const frame = requestAnimationFrame(() => {
      const latest = this.pending?.draft ?? draft;
      this.pending = null;
      this.draw(latest);
    });
    this.pending = { draft, frame };
  }

  private draw(draft: Draft | null): void {
    this.nodes.forEach((node) => node.destroy());
    this.nodes = [];
    this.shown(draft);
    for (const node of nodesOf(draft)) {
      if (!node) continue;
      this.layer.add(node);
      this.nodes.push(node);
    }
    this.layer.batchDraw();
  }
}

function nodesOf(draft: Draft | null): (Shape | null)[] {
  if (draft?.shape) return [outline(draft.shape, store.canvasSize.peek(), { ...LOOK, fill: "rgba(86, 180, 233, 0.3)" })];
  if (draft?.line) {
    const points = draft.line.flatMap((at) => [at.x, at.y]);
    return [new Line({ ...LOOK, stroke: "rgba(0, 0, 0, 0.6)", strokeWidth: 4, points }), new Line({ ...LOOK, points })];
  }
  if (!draft?.stroke) return [];
  const { colour } = markOf(store.doc.peek(), store.selected.peek() ?? "");
  return [strokeNode(draft.stroke, draft.stroke.erase ? "#202226" : colourOf(colour))];
}

function strokeNode(stroke: { dabs: Dab[]; width: number; pen: boolean }, colour: string): Shape {
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
