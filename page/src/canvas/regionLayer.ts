/** The regions on the canvas: tints, outlines and labels, drawn from the document and never read back. */

import type { Size } from "../geometry/view";
import { markOf } from "../scene/edits";
import { titleOf } from "../scene/exchange";
import type { Doc, Region, Shape } from "../scene/types";
import { Ellipse, Group, Label, Layer, Line, type Node, Picture, Rect, Tag, Text } from "./konva";
import { colourOf } from "./palette";
import { regionPatch } from "./patches";
import { tint } from "./tint";

export interface Look {
  size: Size;
  scale: number;
  selected: string | null;
  opacity: number;
  /** Whether a picture lies under the regions: their tints are fainter then. */
  faint: boolean;
  /** Names of regions whose colours are not shown. */
  uncoloured: ReadonlySet<string>;
}

export class RegionLayer {
  readonly layer = new Layer({ listening: false, imageSmoothingEnabled: false });
  private readonly groups = new Map<string, { group: Group; region: Region; key: string }>();

  /** Draw a document. Regions that have not changed keep their nodes. */
  draw(doc: Doc, look: Look): void {
    const names = new Set(doc.scene.regions.map((region) => region.name));
    for (const [name, { group }] of this.groups) {
      if (names.has(name)) continue;
      group.destroy();
      this.groups.delete(name);
    }
    for (const region of [...doc.scene.regions].reverse()) {
      this.one(region, doc, look).moveToTop();
    }
    this.layer.batchDraw();
  }

  private one(region: Region, doc: Doc, look: Look): Group {
    const { colour, hidden } = markOf(doc, region.name);
    const selected = region.name === look.selected;
    const patch = regionPatch(region, look.size);
    const key = [look.size.width, look.size.height, look.scale, selected, look.opacity, look.faint, colour, hidden, patch.width, look.uncoloured.has(region.name)].join();
    const old = this.groups.get(region.name);
    if (old && old.region === region && old.key === key) {
      old.group.position({ x: 0, y: 0 });
      return old.group;
    }
    old?.group.destroy();
    const opacity = look.uncoloured.has(region.name) ? 0 : look.opacity * (look.faint ? (selected ? 0.4 : 0.18) : 1);
    const group = new Group({ visible: !hidden });
    const image = tint(patch, colour, look.size) ?? undefined;
    const { x, y, width, height } = patch;
    group.add(new Picture({ image, x, y, width, height, opacity }));
    for (const line of outlines(region, look.size, colour, selected)) group.add(line);
    group.add(label(titleOf(region), patch, colour, look.scale));
    this.layer.add(group);
    this.groups.set(region.name, { group, region, key });
    return group;
  }

  /** Show a region at another place, until the next drawing. */
  shift(name: string, x: number, y: number): void {
    this.groups.get(name)?.group.position({ x, y });
    this.layer.batchDraw();
  }
}

function label(text: string, at: { x: number; y: number }, colour: number, scale: number): Label {
  const node = new Label({ x: at.x, y: at.y, scaleX: 1 / scale, scaleY: 1 / scale });
  node.add(new Tag({ fill: "rgba(22, 24, 28, 0.85)", stroke: colourOf(colour), strokeWidth: 1.5, cornerRadius: 3 }));
  const shown = text.length > 24 ? `${text.slice(0, 23)}…` : text;
  node.add(new Text({ text: shown, fontSize: 12, fontFamily: "system-ui, sans-serif", fill: "#ffffff", padding: 4 }));
  return node;
}

function outlines(shape: Shape, size: Size, colour: number, selected: boolean): Node[] {
  const make = (options: object): Node | null => outline(shape, size, { strokeScaleEnabled: false, ...options });
  const under = make({ stroke: "rgba(0, 0, 0, 0.6)", strokeWidth: selected ? 4 : 3 });
  const over = make({ stroke: colourOf(colour), strokeWidth: selected ? 2 : 1.5 });
  return under && over ? [under, over] : [];
}

/** The outline of a vector shape; null for others. */
export function outline(shape: Shape, size: Size, options: object): Node | null {
  const box = shape.box ?? shape.ellipse;
  if (box) {
    const [x0, y0, x1, y1] = [box[0] * size.width, box[1] * size.height, box[2] * size.width, box[3] * size.height];
    if (shape.box) return new Rect({ x: x0, y: y0, width: x1 - x0, height: y1 - y0, ...options });
    const centre = { x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
    return new Ellipse({ ...centre, radiusX: (x1 - x0) / 2, radiusY: (y1 - y0) / 2, ...options });
  }
  if (!shape.polygon) return null;
  const points = shape.polygon.flatMap(([x, y]) => [x * size.width, y * size.height]);
  return new Line({ points, closed: true, lineJoin: "round", ...options });
}
