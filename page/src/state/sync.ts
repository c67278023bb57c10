/** The document on the server too, so that another browser, or one that forgets, goes on where this one was. */

import { effect } from "@preact/signals";
import { api } from "../api/client";
import type { Doc } from "../scene/types";
import { isDoc, store, stored } from "./autosave";
import { begin } from "./history";
import { doc, fail, history } from "./store";

/** The server's time of the document that this browser has saved or read last. */
const CHANGED = "cloisonne.changed";
/** Whether this browser has a document that the server has not. */
const UNSAVED = "cloisonne.unsaved";
const PAUSE = 1000;

/** Read the server's document, if it is newer than this browser's, and save each change from now on. */
export async function syncDocument(): Promise<void> {
  const found = await api.document();
  const newer = String(found.changed) !== stored(CHANGED) && stored(UNSAVED) !== "yes";
  if (newer && isDoc(found.document)) {
    history.value = begin(found.document);
    store(CHANGED, String(found.changed));
  }
  let saved: Doc = doc.peek();
  let waiting: number | undefined;
  let reported = false;
  const save = async () => {
    const mine = doc.peek();
    if (mine === saved) return;
    try {
      store(CHANGED, String((await api.saveDocument(mine)).changed));
      saved = mine;
      reported = false;
      if (doc.peek() === mine) store(UNSAVED, "no");
    } catch (error) {
      if (!reported) fail(error);
      reported = true; // once; the browser has the document
    }
  };
  effect(() => {
    if (doc.value === saved) return;
    store(UNSAVED, "yes");
    clearTimeout(waiting);
    waiting = window.setTimeout(() => void save(), PAUSE);
  });
  if (stored(UNSAVED) === "yes") {
    saved = { ...saved };
    await save();
  }
}
