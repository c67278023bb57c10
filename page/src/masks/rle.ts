/** COCO's compressed text of runs (pycocotools' maskApi, rleToString). */

/** Decode: groups of 5 bits; from the fourth run on, differences to the run two before. */
export function decompressed(text: string): number[] {
  const counts: number[] = [];
  let [value, shift] = [0, 0];
  for (const character of text) {
    const code = character.charCodeAt(0) - 48;
    if (code < 0 || code > 63 || shift > 45) throw new Error("The file has a mask that is not COCO's compressed runs.");
    value += (code & 31) * 2 ** shift;
    shift += 5;
    if (code & 32) continue;
    if (code & 16) value -= 2 ** shift;
    counts.push(value + (counts.length > 2 ? (counts.at(-2) ?? 0) : 0));
    [value, shift] = [0, 0];
  }
  if (shift) throw new Error("The file has a mask that ends in the middle of a run.");
  return counts;
}
