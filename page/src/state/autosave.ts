/** The document in the browser's storage. Pictures are ids of the server's, so it stays small. */

import type { Doc } from "../scene/types";

const KEY = "cloisonne.doc";
const PAUSE = 300;
let waiting: number | undefined;

/** Whether a JSON value has the form of a document. */
export function isDoc(value: unknown): value is Doc {
  if (typeof value !== "object" || value === null || !("scene" in value) || !("marks" in value)) return false;
  return Array.isArray((value as Doc).scene?.regions);
}

/** The document that was saved last, or null. */
export function restored(): Doc | null {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "null");
    return isDoc(found) ? found : null;
  } catch {
    return null;
  }
}

/** Save a document soon. The page's root says whether it is saved. */
export function saved(doc: Doc): void {
  const { dataset } = document.documentElement;
  dataset.saved = "no";
  clearTimeout(waiting);
  waiting = window.setTimeout(() => {
    store(KEY, JSON.stringify(doc));
    dataset.saved = "yes";
  }, PAUSE);
}

/** Keep a value in the browser; a full or forbidden storage is no reason to stop. */
export function store(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Autosave is a convenience: the document is still in memory, and jobs are on the server.
  }
}

/** A kept value. */
export function stored(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
