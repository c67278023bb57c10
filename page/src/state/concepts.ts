/** Learned concepts: small files that are embedded in the scene. */

import { computed } from "@preact/signals";
import { download } from "./exporting";
import { shownStaged } from "./jobs";

const MOST = 2 ** 20;
const START = "data:application/octet-stream;base64,";

/** The concept that was learned for the shown picture, as a data URI. */
export const learnedForShown = computed<string | null>(() => {
  const made = shownStaged.value?.job.report?.scene?.regions ?? [];
  const file = made.find((region) => region.concept?.file)?.concept?.file;
  return typeof file === "string" && file.startsWith(START) ? file : null;
});

/** A file as a data URI. Throws an Error with a sentence where it is no learned concept. */
export async function conceptIn(file: File): Promise<string> {
  if (file.size > MOST) throw new Error(`${file.name} has over ${MOST >> 20} MiB; a learned concept is smaller.`);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[8] !== "{".charCodeAt(0)) throw new Error(`${file.name} is no learned concept; give a .safetensors file of one.`);
  return START + btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/** Save a concept as a file. */
export function saveConcept(uri: string): void {
  const bytes = Uint8Array.from(atob(uri.slice(START.length)), (letter) => letter.charCodeAt(0));
  download(new Blob([bytes], { type: "application/octet-stream" }), "concept.safetensors");
}
