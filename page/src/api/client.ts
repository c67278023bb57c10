/** Calls of the server. */

import type { Scene } from "../scene/types";
import type { Doc } from "../scene/types";
import type { Explanation, Exported, Failure, Imported, Job, Model, Picture, Schema, Upload } from "./types";

/** A call that the server refused, with its sentence. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly region: string | null = null,
  ) {
    super(message);
  }
}

const RETRY = 700;

/** patient: ask again while the server says that it is busy, as it is while a device starts. */
async function call<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
  patient = false,
): Promise<T> {
  const form = body instanceof FormData;
  const init: RequestInit = { method, signal };
  if (body !== undefined) init.body = form ? body : JSON.stringify(body);
  if (body !== undefined && !form) init.headers = { "Content-Type": "application/json" };
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused("The server does not answer; is it still running?", 0);
  }
  if (answer.status === 503 && patient) {
    await new Promise((resolve) => setTimeout(resolve, RETRY));
    if (signal?.aborted) throw new DOMException("superseded", "AbortError");
    return call(method, path, body, signal, patient);
  }
  if (answer.status === 204) return undefined as T;
  const data: unknown = await answer.json().catch(() => null);
  if (answer.ok) return data as T;
  const failure = (data as { error?: Failure } | null)?.error;
  throw new Refused(failure?.message ?? `The server answered ${answer.status}.`, answer.status, failure?.region ?? null);
}

/** Exchange the token in the address for a cookie, and remove it from the address and the history. */
export async function beginSession(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  history.replaceState(null, "", location.pathname);
  await call("POST", "/v1/session", { token });
}

/** imageId: which image of COCO annotations. mask: of Regional Prompter. promptOnly: without an infotext's regions. */
export interface ImportOptions {
  imageId?: string;
  mask?: File;
  promptOnly?: boolean;
}

export const api = {
  models: () => call<{ data: Model[] }>("GET", "/v1/models"),
  model: (name: string) => call<Model>("GET", `/v1/models/${encodeURIComponent(name)}`, undefined, undefined, true),
  schema: () => call<Schema>("GET", "/v1/schema"),
  /** before: the number of a job; older ones than that. */
  jobs: (limit: number, before?: number) =>
    call<{ jobs: Job[] }>("GET", `/v1/jobs?limit=${limit}${before === undefined ? "" : `&before=${before}`}`),
  job: (id: string) => call<Job>("GET", `/v1/jobs/${id}`),
  submit: (verb: string, scene: Scene | null, args: Record<string, unknown>, model: string | null) =>
    call<Job>("POST", "/v1/jobs", { verb, scene, arguments: args, model }),
  again: (id: string) => call<Job>("POST", `/v1/jobs/${id}/again`, {}),
  cancel: (id: string) => call<Job>("DELETE", `/v1/jobs/${id}`),
  erase: (id: string) => call<void>("DELETE", `/v1/jobs/${id}/record`),
  explain: (scene: Scene, model: string | null, signal: AbortSignal) =>
    call<Explanation>("POST", "/v1/explain", { scene, model }, signal, true),
  document: () => call<{ document: Doc | null; changed: number | null }>("GET", "/v1/document"),
  saveDocument: (document: Doc) => call<{ changed: number }>("PUT", "/v1/document", { document }),
  importFiles: (files: File[], { imageId, mask, promptOnly }: ImportOptions) => {
    const form = new FormData();
    files.forEach((file) => form.append("file", file));
    if (imageId) form.append("image_id", imageId);
    if (mask) form.append("mask", mask);
    if (promptOnly) form.append("prompt_only", "true");
    return call<Imported>("POST", "/v1/import", form);
  },
  exportScene: (scene: Scene, format: "coco" | "elements", size: readonly [number, number] | null) =>
    call<Exported>("POST", "/v1/export", { scene, format, size }),
  picture: (id: string) => call<Picture>("GET", `/v1/pictures/${id}/info`),
  erasePicture: (id: string) => call<void>("DELETE", `/v1/pictures/${id}`),
  upload: (file: Blob) => {
    const form = new FormData();
    form.append("file", file);
    return call<Upload>("POST", "/v1/pictures", form);
  },
};

/** The address of a picture. */
export const pictureUrl = (id: string): string => `/v1/pictures/${id}`;

/** The address of a small copy of a picture. */
export const thumbUrl = (id: string, side = 256): string => `/v1/pictures/${id}?side=${side}`;
