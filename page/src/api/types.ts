/** Answers of the server (docs/api.md), as far as the page reads them. */

import type { Scene } from "../scene/types";

export interface Picture {
  id: string;
  name: string;
  width: number;
  height: number;
  bytes: number;
  url: string;
}

export interface Upload extends Picture {
  scene: Scene | null;
  scene_error: string | null;
}

export type Status = "queued" | "running" | "done" | "failed" | "cancelled";

/** Attention maps: pictures of a job, in which the maps of these steps lie one above the other. */
export interface Attention {
  count: number;
  /** x0, y0, x1, y1 in pixels of the picture. */
  window: [number, number, number, number];
  regions: Record<string, { picture: string; steps: number[] }>;
}

export interface Report {
  attention?: Attention;
  outputs?: { seed: number }[];
  scene?: Scene;
  seconds?: number;
  warnings?: string[];
  dropped?: string[];
  identical_outside?: boolean | null;
  max_difference_outside?: number | null;
}

export interface Job {
  id: string;
  number: number;
  verb: string;
  model: string;
  status: Status;
  created: number;
  position: number | null;
  scene: Scene | null;
  options: Record<string, unknown>;
  pictures: Picture[];
  report: Report | null;
  error: Failure | null;
}

/** Fields of a progress event. */
export interface Progress {
  status: Status;
  position?: number | null;
  stage?: string;
  step?: number;
  total?: number;
  image?: number;
  num_images?: number;
  loss?: number | null;
  preview?: string;
}

export interface Failure {
  kind: string;
  message: string;
  region: string | null;
}

export interface Condition {
  supported: boolean;
  reason: string | null;
}

export interface ModelDetails {
  family: string;
  title: string;
  defaults: { width: number; height: number; steps: number; guidance: number; sampler: string; method: string };
  grid: number;
  conditions: Record<string, Condition>;
  controls: string[];
  loras: string[];
  vocabulary: Record<string, string[][]> | null;
  device: string;
  dtype: string;
}

export interface Model {
  id: string;
  default?: boolean;
  details: ModelDetails | null;
}

export interface Schema {
  samplers: string[];
  methods: string[];
  control_kinds: string[];
  /** By "editing" and "translating": presets with the value of each field, and the words that a field takes. */
  presets: Record<string, Record<string, Record<string, unknown>>>;
  options: Record<string, Record<string, string[]>>;
}

export interface RegionFinding {
  name: string;
  active: boolean;
  coverage: number | null;
  overlaps: Record<string, number>;
  dropped: boolean;
  unsupported: string | null;
  warnings: string[];
}

export interface Explanation {
  ok: boolean;
  unsupported: Failure[];
  cost: { forwards: number; seconds: number; memory_bytes: number; device: string } | null;
  dropped: string[];
  warnings: string[];
  width?: number;
  height?: number;
  regions: RegionFinding[];
  caption_share: number | null;
  /** Text: the part of a background that is drawn again. */
  window?: string | null;
}
