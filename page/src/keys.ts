/** Keys of the page. In text fields only those with Ctrl act. */

import { api } from "./state/canvasApi";
import * as actions from "./state/actions";
import { moved, resized } from "./geometry/shapes";
import { markOf, reshape } from "./scene/edits";
import { cancel, generate, step } from "./state/jobs";
import * as store from "./state/store";

export const TOOL_KEYS: Record<string, store.Tool> = {
  v: "select",
  m: "box",
  o: "ellipse",
  p: "polygon",
  l: "lasso",
  b: "brush",
  e: "eraser",
  h: "pan",
};

const isTyping = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && !!target.closest("input:not([type=range], [type=checkbox]), textarea, select");

function withControl(event: KeyboardEvent): boolean {
  const key = event.key.toLowerCase();
  if (key === "enter") generate();
  else if (key === "z" && event.shiftKey) store.redo();
  else if (key === "z") store.undo();
  else if (key === "y") store.redo();
  else if (key === "d" && !isTyping(event.target)) actions.duplicateSelected();
  else return false;
  return true;
}

function arrow(event: KeyboardEvent): boolean {
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const region = store.selectedRegion.peek();
  const onCanvas = event.target instanceof HTMLElement && event.target.id === "canvas";
  if (!by || !region || !onCanvas || markOf(store.doc.peek(), region.name).locked) return false;
  const times = event.shiftKey ? 10 : 1;
  const [dx, dy] = [(by[0] ?? 0) * times, (by[1] ?? 0) * times];
  const size = store.canvasSize.peek();
  store.change((doc) => {
    const now = doc.scene.regions.find((other) => other.name === region.name);
    if (!now) return doc;
    const bounds = event.altKey ? api.bounds(now) : null;
    const shape = bounds
      ? resized(now, { ...bounds, width: bounds.width + dx, height: bounds.height + dy }, size)
      : moved(now, dx, dy, size);
    return reshape(doc, region.name, shape);
  }, `move ${region.name}`);
  return true;
}

function plain(event: KeyboardEvent): boolean {
  const key = event.key.toLowerCase();
  const tool = TOOL_KEYS[key];
  if (tool) store.choose(tool);
  else if (key === "[") store.brushSize.value = Math.max(1, Math.round(store.brushSize.value / 1.25));
  else if (key === "]") store.brushSize.value = Math.min(1000, Math.ceil(store.brushSize.value * 1.25));
  else if (key === "z") api.fit();
  else if (key === "+" || key === "=") api.zoom(1.25);
  else if (key === "-") api.zoom(0.8);
  else if (key === "g") store.snap.value = !store.snap.value;
  else if (key === "delete" || key === "backspace") actions.removeSelected();
  else if (key === ",") step(-1);
  else if (key === ".") step(1);
  else if (key === "enter" && event.target instanceof HTMLElement && event.target.id === "canvas") enter();
  else return arrow(event);
  return true;
}

/** Enter closes a polygon; with another tool it adds a box. */
function enter(): void {
  if (store.tool.peek() === "polygon") api.finish(false);
  else actions.addBox();
}

function escape(event: KeyboardEvent): void {
  api.finish(true);
  if (isTyping(event.target)) (event.target as HTMLElement).blur();
  else if (store.selected.peek() !== null) store.selected.value = null;
  else cancel();
}

/** Listen to keys. */
export function listen(): void {
  window.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") escape(event);
    else if (event.ctrlKey || event.metaKey ? withControl(event) : !isTyping(event.target) && !event.altKey && plain(event)) {
      event.preventDefault();
    } else if (event.altKey && !isTyping(event.target) && arrow(event)) event.preventDefault();
  });
}
