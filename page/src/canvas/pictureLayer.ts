/** The pictures on the canvas: background, result or preview, the one before it, and what lies over it. */

import { effect } from "@preact/signals";
import { pictureUrl } from "../api/client";
import type { Size } from "../geometry/view";
import { pictureId } from "../scene/types";
import { explanation } from "../state/explain";
import { running, shown } from "../state/jobs";
import { heat } from "../state/attention";
import { compare, differenceImage, earlier, isSheet } from "../state/see";
import * as store from "../state/store";
import { image } from "./images";
import { Group, Layer, Line, Picture, Rect } from "./konva";

export class PictureLayer {
  readonly layer = new Layer({ listening: false });
  private size: Size = { width: 128, height: 128 };
  private readonly paper = new Rect({ fill: "#ffffff", stroke: "rgba(0, 0, 0, 0.35)", strokeWidth: 1, strokeScaleEnabled: false });
  private readonly main = new Picture({ image: undefined });
  private readonly preview = new Picture({ image: undefined });
  private readonly old = new Picture({ image: undefined });
  private readonly clip = new Group({ visible: false });
  private readonly heat = new Picture({ image: undefined, visible: false });
  private readonly difference = new Picture({ image: undefined, visible: false });
  private readonly edge = new Line({ stroke: "#fff", strokeWidth: 2, strokeScaleEnabled: false, visible: false });

  constructor() {
    this.clip.add(this.old);
    this.layer.add(this.paper, this.main, this.preview, this.clip, this.heat, this.difference, this.edge);
  }

  /** Set the size of the canvas. */
  resize(size: Size): void {
    this.size = size;
    for (const node of [this.paper, this.difference]) node.size(size);
    for (const node of [this.main, this.old]) this.contain(node);
    this.layer.batchDraw();
  }

  /** Set the colour of the empty canvas. */
  colour(paper: string): void {
    this.paper.fill(paper);
    this.layer.batchDraw();
  }

  /** Large pixels stay sharp, small ones are averaged. */
  scaled(scale: number): void {
    this.layer.setAttr("imageSmoothingEnabled", scale < 3);
    this.layer.batchDraw();
  }

  /** Follow the state. Returns what stops it. */
  watch(): () => void {
    const stops = [
      effect(() => this.put(this.main, mainUrl())),
      effect(() => this.put(this.old, compare.value === null || !earlier.value ? null : pictureUrl(earlier.value))),
      effect(() => this.showPreview(running.value?.progress?.preview ?? null)),
      effect(() => this.compareAt(compare.value)),
      effect(() => {
        this.paper.visible(!isSheet.value);
      }),
      effect(() => {
        const found = heat.value;
        this.heat.visible(found !== null);
        if (found) this.heat.setAttrs(found);
        this.layer.getStage()?.container().setAttribute("data-heat", String(found !== null));
        this.layer.batchDraw();
      }),
      effect(() => {
        const canvas = differenceImage.value;
        this.difference.image(canvas ?? undefined);
        this.difference.visible(canvas !== null);
        this.layer.batchDraw();
      }),
    ];
    return () => stops.forEach((stop) => stop());
  }

  private readonly wanted = new Map<Picture, string | null>();

  private put(node: Picture, url: string | null): void {
    this.wanted.set(node, url);
    if (url === null) {
      node.image(undefined);
      this.layer.batchDraw();
      return;
    }
    image(url).then(
      (loaded) => {
        if (this.wanted.get(node) !== url) return;
        node.image(loaded);
        this.contain(node);
        node.getStage()?.container().setAttribute("data-picture", node === this.main ? url : "");
        this.layer.batchDraw();
      },
      (error) => this.wanted.get(node) === url && store.fail(error),
    );
  }

  /** Place a picture in the canvas; sheets and strips keep their shape. */
  private contain(node: Picture): void {
    const source = node.image() as HTMLImageElement | undefined;
    const { naturalWidth: w = 1, naturalHeight: h = 1 } = source ?? {};
    const { width, height } = this.size;
    const { width: across = 1, height: down = 1 } = this.layer.getStage()?.size() ?? {};
    const unit = Math.max(width / across, height / down);
    const scale = 0.94 * Math.min((across * unit) / w, (down * unit) / h);
    const place = Math.abs(w / h - width / height) < 0.02 ? { width, height } : { width: w * scale, height: h * scale };
    node.size(place).position({ x: (width - place.width) / 2, y: (height - place.height) / 2 });
  }

  private loading = false;

  private showPreview(url: string | null): void {
    this.wanted.set(this.preview, url);
    if (url === null) {
      this.preview.visible(false);
      this.preview.image(undefined);
      this.layer.batchDraw();
    }
    if (url === null || this.loading) return;
    this.loading = true;
    const place = windowOf(explanation.peek()?.window ?? "") ?? { x: 0, y: 0, ...this.size };
    this.preview.position(place).size(place);
    const next = (loaded: HTMLImageElement | null) => {
      this.loading = false;
      const wanted = this.wanted.get(this.preview) ?? null;
      if (loaded && wanted !== null) {
        this.preview.image(loaded);
        this.preview.visible(true);
        this.layer.batchDraw();
      }
      if (wanted !== url) this.showPreview(wanted);
    };
    image(url, false).then(next, () => next(null)); // a preview that is gone was followed by the picture
  }

  private compareAt(share: number | null): void {
    const on = share !== null;
    const x = (share ?? 0) * this.size.width;
    this.clip.visible(on);
    this.clip.clip({ x: 0, y: 0, width: x, height: this.size.height });
    this.edge.visible(on).points([x, 0, x, this.size.height]);
    this.layer.batchDraw();
  }
}

/** The part of a background that a preview shows, of the text of a dry run. */
function windowOf(text: string): { x: number; y: number; width: number; height: number } | null {
  const found = /window of (\d+) x (\d+) pixels, at \((\d+), (\d+)\)/.exec(text);
  if (!found) return null;
  const [width = 0, height = 0, x = 0, y = 0] = found.slice(1).map(Number);
  return { x, y, width, height };
}

function mainUrl(): string | null {
  const background = pictureId(store.scene.value.background);
  if (shown.value) return pictureUrl(shown.value.picture);
  return background ? pictureUrl(background) : null;
}
