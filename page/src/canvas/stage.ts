/** The canvas: layers, view, pointers. It draws what the state says and keeps nothing of it. */

import { effect, untracked } from "@preact/signals";
import { boundsOf, resized } from "../geometry/shapes";
import { fitted, panned, toCanvas, type View, zoomed } from "../geometry/view";
import { markOf, reshape } from "../scene/edits";
import { type Region, type Shape, withShape } from "../scene/types";
import { shown } from "../state/jobs";
import { uncoloured } from "../state/attention";
import { compare, differenceImage, isSheet } from "../state/see";
import * as store from "../state/store";
import { theme } from "../state/theme";
import { Circle, Konva, Layer, Rect, Stage, Transformer } from "./konva";
import { Corners } from "./corners";
import { Drafts } from "./drafts";
import { arrivals } from "./patches";
import { PictureLayer } from "./pictureLayer";
import { type Look, RegionLayer } from "./regionLayer";
import { boxTool, brushTool, type Draft, type Handler, lassoTool, type Pointer, polygonTool, selectTool, type Surface } from "./tools";
import { Gestures } from "./gestures";

export class CanvasStage {
  private readonly stage: Stage;
  private readonly regions = new RegionLayer();
  private readonly pictures = new PictureLayer();
  private readonly tools = new Layer();
  private readonly handle = new Rect({ listening: false });
  private readonly transformer: Transformer;
  private readonly corners = new Corners(this.tools, (region, polygon, done) => this.reshaped(region, { polygon }, done));
  private readonly cursor = new Circle({ listening: false, stroke: "#fff", strokeWidth: 1, strokeScaleEnabled: false });
  private readonly drafts = new Drafts(this.tools, (draft) => this.drafted(draft));
  private view: View = { scale: 1, x: 0, y: 0 };
  private handler: (Handler & { close?: () => void }) | null = null;
  private fits = true;
  private readonly stops: (() => void)[] = [];

  constructor(private readonly container: HTMLDivElement) {
    Konva.pixelRatio = Math.min(2, window.devicePixelRatio || 1);
    this.stage = new Stage({ container, width: container.clientWidth, height: container.clientHeight });
    this.transformer = new Transformer({
      rotateEnabled: false,
      flipEnabled: false,
      keepRatio: false,
      ignoreStroke: true,
      anchorSize: 10,
      anchorCornerRadius: 2,
      anchorStroke: "#1d5b86",
      borderStroke: "#fff",
      borderDash: [4, 3],
    });
    this.cursor.visible(false);
    this.tools.add(this.handle, this.transformer, this.cursor);
    this.stage.add(this.pictures.layer, this.regions.layer, this.tools);
    this.handle.on("transform", () => this.resize(false));
    this.handle.on("transformend", () => this.resize(true));
    const gestures = new Gestures(container, {
      begin: (event) => this.begin(event),
      move: (event) => this.handler?.move(this.pointer(event)),
      end: (event) => this.handler?.up(this.pointer(event)),
      abort: () => this.handler?.stop(),
      hover: (event) => this.hover(event),
      pan: (dx, dy) => this.show(panned(this.view, dx, dy)),
      zoom: (factor, x, y) => this.show(zoomed(this.view, factor, { x, y })),
      panning: () => store.tool.peek() === "pan",
    });
    const observer = new ResizeObserver(() => this.measure());
    observer.observe(container);
    this.stops.push(() => gestures.stop(), () => observer.disconnect());
    this.stops.push(
      effect(() => {
        const tool = store.tool.value;
        void store.canvasSize.value;
        untracked(() => this.choose(tool));
      }),
    );
    this.stops.push(effect(() => this.draw()));
    this.stops.push(this.pictures.watch());
    const paper = () => this.pictures.colour(getComputedStyle(container).color);
    const scheme = window.matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", paper);
    this.stops.push(() => scheme.removeEventListener("change", paper));
    this.stops.push(
      effect(() => {
        void theme.value;
        requestAnimationFrame(paper);
      }),
    );
  }

  /** Remove the canvas from the page. */
  destroy(): void {
    this.stops.forEach((stop) => stop());
    this.stage.destroy();
  }

  /** Show the whole canvas. */
  fit(): void {
    this.show(fitted(store.canvasSize.peek(), this.stage.size()));
    this.fits = true;
  }

  /** Zoom around the middle. */
  zoom(factor: number): void {
    this.show(zoomed(this.view, factor, { x: this.stage.width() / 2, y: this.stage.height() / 2 }));
  }

  /** Close a polygon, or end what is being drawn. */
  finish(cancelled: boolean): void {
    if (!cancelled && this.handler?.close) this.handler.close();
    else this.handler?.stop();
  }

  private surface(): Surface {
    return {
      size: store.canvasSize.peek(),
      unit: 1 / this.view.scale,
      grid: store.details.peek()?.grid ?? 8,
      draft: (draft) => this.drafts.show(draft),
    };
  }

  private choose(tool: store.Tool): void {
    this.handler?.stop();
    this.container.dataset.tool = tool;
    const surface = this.surface();
    Object.defineProperty(surface, "unit", { get: () => 1 / this.view.scale });
    const make: Record<store.Tool, () => Handler | null> = {
      select: () => selectTool(surface),
      box: () => boxTool(surface, "box"),
      ellipse: () => boxTool(surface, "ellipse"),
      polygon: () => polygonTool(surface),
      lasso: () => lassoTool(surface),
      brush: () => brushTool(surface, false),
      eraser: () => brushTool(surface, true),
      pan: () => null,
    };
    this.handler = make[tool]();
    if (tool !== "brush" && tool !== "eraser") this.cursor.visible(false);
  }

  private measure(): void {
    this.stage.size({ width: this.container.clientWidth, height: this.container.clientHeight });
    if (this.fits) this.fit();
  }

  private show(view: View): void {
    this.fits = false;
    this.view = view;
    this.stage.scale({ x: view.scale, y: view.scale });
    this.stage.position({ x: view.x, y: view.y });
    this.pictures.scaled(view.scale);
    this.container.dataset.view = [view.scale, view.x, view.y].map((value) => value.toFixed(3)).join(" ");
    this.draw();
  }

  /** Tints are not shown over a comparison. */
  private opacity(): number {
    if (compare.value !== null || differenceImage.value !== null) return 0;
    return store.overlay.value;
  }

  private look(selected: string | null): Look {
    const faint = shown.value !== null || store.scene.value.background !== undefined;
    return { size: store.canvasSize.value, scale: this.view.scale, selected, opacity: this.opacity(), faint, uncoloured: uncoloured.value };
  }

  private lastSize = "";

  private draw(): void {
    const size = store.canvasSize.value;
    void arrivals.value;
    const key = `${size.width}x${size.height}`;
    if (key !== this.lastSize) {
      this.lastSize = key;
      this.pictures.resize(size);
      queueMicrotask(() => this.fit());
    }
    const selected = store.selected.value;
    this.regions.layer.visible(!isSheet.value);
    this.regions.draw(store.doc.value, this.look(selected));
    this.handles();
  }

  private handles(): void {
    const region = store.selectedRegion.value;
    const mark = region && markOf(store.doc.value, region.name);
    const bounds = region && store.tool.value === "select" && !isSheet.value && !mark?.locked && !mark?.hidden
      ? boundsOf(region, store.canvasSize.value)
      : null;
    if (bounds) {
      this.handle.setAttrs({ x: bounds.x, y: bounds.y, width: bounds.width, height: bounds.height, scaleX: 1, scaleY: 1 });
    }
    this.transformer.nodes(bounds ? [this.handle] : []);
    this.corners.show(bounds ? region : null, store.canvasSize.value, this.view.scale);
    this.tools.batchDraw();
  }

  private resize(done: boolean): void {
    const region = store.selectedRegion.peek();
    if (!region) return;
    const size = store.canvasSize.peek();
    const to = {
      x: this.handle.x(),
      y: this.handle.y(),
      width: this.handle.width() * this.handle.scaleX(),
      height: this.handle.height() * this.handle.scaleY(),
    };
    this.reshaped(region, resized(region, to, size), done);
  }

  /** Draw a region with another shape; done: and make it the document's. */
  private reshaped(region: Region, shape: Shape, done: boolean): void {
    if (done) {
      store.change((doc) => reshape(doc, region.name, shape));
      this.handles();
      return;
    }
    const doc = store.doc.peek();
    const live = doc.scene.regions.map((one) => (one === region ? withShape(region, shape) : one));
    this.regions.draw({ ...doc, scene: { ...doc.scene, regions: live } }, this.look(region.name));
  }

  private pointer(event: PointerEvent): Pointer {
    const bounds = this.container.getBoundingClientRect();
    const at = toCanvas(this.view, event.clientX - bounds.left, event.clientY - bounds.top);
    const pen = event.pointerType === "pen";
    return { ...at, pressure: pen ? event.pressure : 0.5, pen, shift: event.shiftKey };
  }

  private begin(event: PointerEvent): boolean {
    const bounds = this.container.getBoundingClientRect();
    const at = { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
    if (this.stage.getIntersection(at)?.name().includes("_anchor")) return false;
    this.handler?.down(this.pointer(event));
    return true;
  }

  private hover(event: PointerEvent | null): void {
    const paints = store.tool.peek() === "brush" || store.tool.peek() === "eraser";
    this.cursor.visible(paints && event !== null);
    if (event && paints) {
      const at = this.pointer(event);
      this.cursor.setAttrs({ x: at.x, y: at.y, radius: store.brushSize.peek() / 2 });
    }
    this.tools.batchDraw();
    if (event && store.tool.peek() === "polygon") this.handler?.move(this.pointer(event));
  }

  private drafted(draft: Draft | null): void {
    if (!draft) this.draw();
    if (!draft?.shift) return;
    this.regions.shift(draft.shift.name, draft.shift.x, draft.shift.y);
    this.transformer.nodes([]);
    this.corners.show(null, store.canvasSize.peek(), this.view.scale);
  }
}
