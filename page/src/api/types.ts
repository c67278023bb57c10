/** Answers of the server. Their types are made from the server's own (openapi.json); a scene's fields are the page's. */

import type { Scene } from "../scene/types";
import type { components } from "./schema";

type Answers = components["schemas"];

export type Picture = Answers["Picture"];
export type Upload = Answers["Upload"] & { scene: Scene | null };
export type Imported = Answers["Imported"] & { scene: Scene };
export type Exported = Answers["Exported"];
export type Status = Answers["Job"]["status"];
export type Report = Answers["Report"] & { scene?: Scene | null };
export type Job = Answers["Job"] & { scene: Scene | null; report: Report | null };
export type Failure = Answers["Failure"];
export type ModelDetails = Answers["ModelDetails"];
export type Model = Answers["Model"] & { default?: boolean };
/** The part of the schema that the page reads. */
export type Schema = Omit<Answers["Schema"], "scene" | "job" | "arguments">;
export type Explanation = Answers["Explanation"];

/** Fields of a progress event, which is no answer of a route. */
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
