/** What the page says about jobs that are not finished. */

import type { Tracked } from "./jobs";

export const STAGES: Record<string, string> = {
  waiting: "Waiting for a free worker",
  loading: "Loading the model",
  preparing: "Preparing",
  sampling: "Drawing",
  generating: "Drawing",
  encoding: "Saving",
};

export type Unfinished = Pick<Tracked, "status" | "position" | "progress">;

/** Whether a job is being drawn: a server on a cluster takes jobs that then wait for a worker. */
const drawn = (job: Unfinished): boolean => job.status === "running" && job.progress?.stage !== "waiting";

/** The job whose progress is shown: the oldest that is drawn, else the oldest that waits for a worker. `active`: newest first. */
export function current<T extends Unfinished>(active: readonly T[]): T | null {
  const taken = active.filter((job) => job.status === "running");
  return taken.filter(drawn).at(-1) ?? taken.at(-1) ?? null;
}

/** Where a job stands that is not shown: its place in the queue of all clients, or what is done with it. */
export function standing({ status, position, progress }: Unfinished): string {
  if (status === "queued") return position ? `${position} before it` : "next";
  const { stage = "", step = 0, total = 0 } = progress ?? {};
  if (total) return `step ${step} of ${total}`;
  return (STAGES[stage] ?? (stage || "Starting")).toLowerCase();
}
