/** The state of the page: the document with its history, and what is no part of it. */

import { batch, computed, effect, signal } from "@preact/signals";
import type { Model, ModelDetails, Schema } from "../api/types";
import type { Size } from "../geometry/view";
import { EMPTY, regionOf } from "../scene/edits";
import type { Doc } from "../scene/types";
import * as steps from "./history";
import { restored, saved } from "./autosave";

export type Tool = "select" | "box" | "ellipse" | "polygon" | "lasso" | "brush" | "eraser" | "pan";

export const history = signal(steps.begin<Doc>(restored() ?? EMPTY));
export const doc = computed(() => history.value.present);
export const scene = computed(() => doc.value.scene);

/** Make a new document of the present one. key: changes of one key in a row are one step of the history. */
export function change(make: (doc: Doc) => Doc, key: string | null = null): void {
  history.value = steps.commit(history.value, make(history.peek().present), key);
}

/** Let the next change be a step of its own. */
export function seal(): void {
  history.value = steps.seal(history.peek());
}

export function undo(): void {
  history.value = steps.undo(history.peek());
}

export function redo(): void {
  history.value = steps.redo(history.peek());
}

export const tool = signal<Tool>("box");
export const selected = signal<string | null>(null);
export const brushSize = signal(24);
export const snap = signal(false);
export const overlay = signal(0.6);
export const count = signal(1);
export const models = signal<Model[]>([]);
export const schema = signal<Schema>({ samplers: [], methods: [], control_kinds: [], presets: {}, options: {} });
export const details = signal<ModelDetails | null>(null);
/** Why the model cannot do something; null where it can. */
export const reasonOf = (condition: string): string | null => details.value?.conditions[condition]?.reason ?? null;
/** Size of the picture that is changed, by its id. */
export const backgroundSize = signal<(Size & { id: string }) | null>(null);

/** A sentence for the user; an error stays until it is closed. */
export interface Notice {
  text: string;
  error: boolean;
}
export const notice = signal<Notice | null>(null);

const SECONDS = 8;

/** Show a sentence for a while. */
export function say(text: string): void {
  const mine = (notice.value = { text, error: false });
  setTimeout(() => notice.peek() === mine && (notice.value = null), 1000 * SECONDS);
}

/** Show an error until it is closed. */
export function fail(error: unknown): void {
  notice.value = { text: error instanceof Error ? error.message : String(error), error: true };
}

/** Run something that may be refused, and show the sentence. */
export async function attempt(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    fail(error);
  }
}

export const selectedRegion = computed(() => regionOf(doc.value, selected.value) ?? null);

/** Size of the canvas: the background's, else the scene's, else the model's. */
export const canvasSize = computed<Size>(
  () => {
    const { background, width, height } = scene.value;
    if (background && backgroundSize.value) return backgroundSize.value;
    const native = details.value?.defaults ?? { width: 128, height: 128 };
    return { width: width ?? native.width, height: height ?? native.height };
  },
);

/** Choose a tool; those that draw leave the selection as it is. */
export function choose(next: Tool): void {
  batch(() => {
    tool.value = next;
  });
}

effect(() => saved(doc.value));
effect(() => {
  if (selected.value !== null && !regionOf(doc.value, selected.value)) selected.value = null;
});
