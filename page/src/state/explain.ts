/** The server's dry run of the document: coverage, overlaps, what is dropped, what the model cannot do. */

import { effect, signal } from "@preact/signals";
import { api } from "../api/client";
import type { Explanation } from "../api/types";
import { sceneToSend } from "../scene/exchange";
import { doc } from "./store";

export const explanation = signal<Explanation | null>(null);
/** The sentence of a dry run that was refused. */
export const refusal = signal<{ message: string; region: string | null } | null>(null);

const PAUSE = 350;

/** Ask for a dry run after each pause in the changes. */
export function watchDocument(): void {
  let waiting: number | undefined;
  let asking: AbortController | null = null;
  effect(() => {
    const sent = sceneToSend(doc.value);
    clearTimeout(waiting);
    waiting = window.setTimeout(() => {
      asking?.abort();
      const mine = (asking = new AbortController());
      void api.explain(sent, sent.model ?? null, mine.signal).then(
        (found) => {
          explanation.value = found;
          refusal.value = null;
        },
        (error: Error & { region?: string | null }) => {
          if (!mine.signal.aborted) refusal.value = { message: error.message, region: error.region ?? null };
        },
      );
    }, PAUSE);
  });
}
