/** The document in the browser's storage. Pictures are ids of the server's, so it stays small. */

import type { Doc } from "../scene/types";

const KEY = "cloisonne.doc";
let waiting: number | undefined;

/** The document that was saved last, or null. */
export function restored(): Doc | null {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(KEY) ?? "null");
    if (typeof found !== "object" || found === null || !("scene" in found) || !("marks" in found)) return null;
    const doc = found as Doc;
    return Array.isArray(doc.scene?.regions) ? doc : null;
  } catch {
    return null;
  }
}

/** Save a document soon. */
export function saved(doc: Doc): void {
  clearTimeout(waiting);
  waiting = window.setTimeout(() => store(KEY, JSON.stringify(doc)), 300);
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
