/** The canvas that is on the page, for keys and buttons. */

import { boundsOf, type Rect } from "../geometry/shapes";
import type { Shape } from "../scene/types";
import { canvasSize } from "./store";

interface Canvas {
  fit(): void;
  zoom(factor: number): void;
  finish(cancelled: boolean): void;
}

let canvas: Canvas | null = null;

/** Name the canvas that is on the page. */
export function register(one: Canvas | null): void {
  canvas = one;
}

export const api = {
  fit: () => canvas?.fit(),
  zoom: (factor: number) => canvas?.zoom(factor),
  finish: (cancelled: boolean) => canvas?.finish(cancelled),
  bounds: (shape: Shape): Rect | null => boundsOf(shape, canvasSize.peek()),
};
