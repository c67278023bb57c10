/** Handles at the corners of a polygon: drag to move one, double click to remove it. */

import { isArea, rounded } from "../geometry/shapes";
import type { Size } from "../geometry/view";
import type { Point, Region } from "../scene/types";
import { Circle, type Layer } from "./konva";

const MOST = 24;

export class Corners {
  private nodes: Circle[] = [];
  private shown: Point[] | null = null;

  constructor(
    private readonly layer: Layer,
    private readonly changed: (region: Region, polygon: Point[], done: boolean) => void,
  ) {}

  /** Show the handles of a region; null for none. */
  show(region: Region | null, size: Size, scale: number): void {
    const points = region?.polygon && region.polygon.length <= MOST ? region.polygon : null;
    if (points && points === this.shown) {
      this.nodes.forEach((node) => node.scale({ x: 1 / scale, y: 1 / scale }));
      return;
    }
    this.nodes.forEach((node) => node.destroy());
    this.shown = points;
    this.nodes = region && points ? points.map((point, index) => this.handle(region, points, point, index, size, scale)) : [];
    if (this.nodes.length) this.layer.add(...(this.nodes as [Circle, ...Circle[]]));
  }

  private handle(region: Region, points: Point[], [x, y]: Point, index: number, size: Size, scale: number): Circle {
    const node = new Circle({
      name: "corner_anchor",
      x: x * size.width,
      y: y * size.height,
      radius: 5,
      hitStrokeWidth: 12,
      scaleX: 1 / scale,
      scaleY: 1 / scale,
      fill: "#ffffff",
      stroke: "#1d5b86",
      strokeWidth: 1.5,
      draggable: true,
    });
    const moved = (): Point[] =>
      points.map((point, at) => (at === index ? [rounded(node.x() / size.width), rounded(node.y() / size.height)] : point));
    node.on("dragmove", () => this.give(region, moved(), false));
    node.on("dragend", () => this.give(region, moved(), true));
    node.on("dblclick dbltap", () => this.give(region, points.filter((_, at) => at !== index), true));
    return node;
  }

  private give(region: Region, polygon: Point[], done: boolean): void {
    if (isArea(polygon)) this.changed(region, polygon, done);
    else if (done) this.changed(region, region.polygon ?? polygon, true);
  }
}
