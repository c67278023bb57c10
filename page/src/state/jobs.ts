/** Jobs of the server, and the picture that is shown. */

import { computed, signal } from "@preact/signals";
import { api } from "../api/client";
import type { Job, Picture, Progress, Status } from "../api/types";
import { sceneToSend, verbOf } from "../scene/exchange";
import type { Scene } from "../scene/types";
import { current } from "./progress";
import { attempt, count, doc, fail, say } from "./store";

export interface Tracked extends Job {
  progress: Progress | null;
  /** Time of the first step, to estimate the time left. */
  began: number | null;
}

/** Newest first. */
export const jobs = signal<Tracked[]>([]);
export const shown = signal<{ job: string; picture: string } | null>(null);
/** The picture before the one that is shown. */
export const before = signal<string | null>(null);

/** Number of jobs that this page has sent. */
export const sent = signal(0);

/** Whether the server may have older jobs than those that are here. */
export const older = signal(false);

const PAGE = 40;
const FINAL: Status[] = ["done", "failed", "cancelled"];
const streams = new Map<string, EventSource>();
/** Job whose picture is shown as soon as it is there. */
let wanted: string | null = null;

export const active = computed(() => jobs.value.filter((job) => !FINAL.includes(job.status)));
export const running = computed(() => current(active.value));

export interface Staged {
  job: Tracked;
  picture: Picture;
  index: number;
}

/** Whether a picture is attention maps of a region, which are shown as a layer. */
const isMap = (picture: Picture): boolean => picture.name.startsWith("map-");

/** All finished pictures, newest job first. */
export const staged = computed<Staged[]>(() =>
  jobs.value.flatMap((job) =>
    job.pictures.map((picture, index) => ({ job, picture, index })).filter(({ picture }) => !isMap(picture)),
  ),
);

export const shownStaged = computed(() => staged.value.find((one) => one.picture.id === shown.value?.picture) ?? null);

function patch(id: string, change: Partial<Tracked>): void {
  jobs.value = jobs.value.map((job) => (job.id === id ? { ...job, ...change } : job));
}

/** What a job is called on the page. */
export const jobName = ({ verb, number }: Job): string => `${verb === "explain" ? "attention" : verb} ${number}`;

/** Show a picture of a job. */
export function show(job: string, picture: string): void {
  if (shown.peek()?.picture !== picture) before.value = shown.peek()?.picture ?? before.peek();
  shown.value = { job, picture };
}

/** Show the next or the previous picture. */
export function step(by: number): void {
  const all = staged.peek();
  const at = all.findIndex((one) => one.picture.id === shown.peek()?.picture);
  const next = all[Math.max(0, Math.min(all.length - 1, at + by))];
  if (next) show(next.job.id, next.picture.id);
}

function finished(job: Job): void {
  streams.get(job.id)?.close();
  streams.delete(job.id);
  patch(job.id, { ...job, progress: null });
  const first = job.pictures.find((picture) => picture.name === "after") ?? job.pictures[0];
  if (job.status === "done" && first && job.id === wanted) show(job.id, first.id);
  if (job.status === "failed") fail(job.error?.message ?? "The job failed.");
  const warnings = job.report?.warnings ?? [];
  if (job.status === "done" && warnings.length) say(warnings.join(" "));
}

function watch(job: Job): void {
  if (streams.has(job.id)) return;
  const source = new EventSource(`/v1/jobs/${job.id}/events`);
  streams.set(job.id, source);
  source.addEventListener("progress", (event) => {
    const progress = JSON.parse(event.data) as Progress;
    const old = jobs.peek().find((one) => one.id === job.id);
    const began = old?.began ?? (progress.step ? performance.now() : null);
    patch(job.id, { progress, began, status: progress.status ?? "running", position: progress.position ?? null });
  });
  for (const name of FINAL) {
    source.addEventListener(name, (event) => finished(JSON.parse((event as MessageEvent<string>).data) as Job));
  }
}

function track(job: Job): void {
  jobs.value = [{ ...job, progress: null, began: null }, ...jobs.value.filter((one) => one.id !== job.id)];
  sent.value += 1;
  if (!FINAL.includes(job.status)) watch(job);
}

/** Send a job, and show its first picture when it is there. */
export async function submit(verb: string, scene: Scene | null, args: Record<string, unknown> = {}): Promise<Job> {
  const job = await api.submit(verb, scene, args, scene?.model ?? doc.peek().scene.model ?? null);
  wanted = job.id;
  track(job);
  return job;
}

/** Draw the document. */
export function generate(): void {
  const scene = sceneToSend(doc.peek());
  const images = count.peek();
  const verb = verbOf(scene);
  void attempt(() => submit(verb, scene, verb === "generate" && images > 1 ? { num_images: images } : {}));
}

/** Ids of jobs that end before their next step. */
export const ending = signal<ReadonlySet<string>>(new Set());

/** Cancel a job: without its id the running one, then the newest of those that wait. */
export function cancel(id?: string): void {
  const left = [running.peek(), ...active.peek()].filter((job) => job && !ending.peek().has(job.id));
  const target = id ?? left[0]?.id;
  if (!target) return;
  ending.value = new Set([...ending.peek(), target]);
  void attempt(async () => {
    const job = await api.cancel(target);
    if (FINAL.includes(job.status)) finished(job);
  });
}

/** Run a finished job again. */
export function again(id: string): void {
  void attempt(async () => {
    const job = await api.again(id);
    wanted = job.id;
    track(job);
  });
}

/** Delete a picture; a job without pictures goes too. */
export function discard(one: Staged): void {
  void attempt(async () => {
    const all = staged.peek();
    const at = all.findIndex((other) => other.picture.id === one.picture.id);
    const next = all[at + 1] ?? all[at - 1];
    const left = one.job.pictures.filter((picture) => picture.id !== one.picture.id);
    await (left.some((picture) => !isMap(picture)) ? api.erasePicture(one.picture.id) : api.erase(one.job.id));
    jobs.value = left.some((picture) => !isMap(picture))
      ? jobs.value.map((job) => (job.id === one.job.id ? { ...job, pictures: left } : job))
      : jobs.value.filter((job) => job.id !== one.job.id);
    if (before.peek() === one.picture.id) before.value = null;
    shown.value = next ? { job: next.job.id, picture: next.picture.id } : null;
  });
}

/** Read the jobs before those that are here, and watch those that are not finished. Returns the latter. */
export async function loadOlder(): Promise<Job[]> {
  const found = (await api.jobs(PAGE, jobs.peek().at(-1)?.number)).jobs;
  jobs.value = [...jobs.peek(), ...found.map((job) => ({ ...job, progress: null, began: null }))];
  older.value = found.length === PAGE;
  const open = found.filter((job) => !FINAL.includes(job.status));
  open.forEach(watch);
  return open;
}

/** Read the server's newest jobs. */
export async function load(): Promise<void> {
  wanted = (await loadOlder())[0]?.id ?? null;
  const last = staged.peek()[0];
  if (last && !shown.peek()) show(last.job.id, last.picture.id);
}
