/** The view of the canvas: screen = canvas * scale + offset. */

export interface View {
  scale: number;
  x: number;
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export const SCALES = { least: 0.02, most: 64 };

/** The view that shows the whole canvas. */
export function fitted(canvas: Size, screen: Size, margin = 32): View {
  const room = { width: Math.max(16, screen.width - 2 * margin), height: Math.max(16, screen.height - 2 * margin) };
  const scale = Math.min(room.width / canvas.width, room.height / canvas.height);
  return { scale, x: (screen.width - canvas.width * scale) / 2, y: (screen.height - canvas.height * scale) / 2 };
}

/** Zoom by a factor; the point of the screen stays where it is. */
export function zoomed(view: View, factor: number, at: { x: number; y: number }): View {
  const scale = Math.min(SCALES.most, Math.max(SCALES.least, view.scale * factor));
  const ratio = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/** Move the view by pixels of the screen. */
export function panned(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x + dx, y: view.y + dy };
}

/** A point of the screen on the canvas. */
export function toCanvas(view: View, x: number, y: number): { x: number; y: number } {
  return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale };
}
