/** LoRAs of a region: names with their scales. */

export type Loras = Record<string, number>;

/** The LoRAs in each form that a scene may have: a name, names with scales, objects, or a list of these. */
export function lorasOf(value: unknown): Loras {
  if (typeof value === "string") return { [value]: 1 };
  if (Array.isArray(value)) return Object.assign({}, ...value.map(lorasOf)) as Loras;
  if (typeof value !== "object" || value === null) return {};
  if ("name" in value && typeof value.name === "string") {
    return { [value.name]: "scale" in value && typeof value.scale === "number" ? value.scale : 1 };
  }
  return Object.fromEntries(Object.entries(value).filter(([, scale]) => typeof scale === "number")) as Loras;
}

/** The field of a region; undefined where there are none. */
export const fieldOf = (loras: Loras): Loras | undefined => (Object.keys(loras).length ? loras : undefined);
