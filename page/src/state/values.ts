/** Text of the user as values. */

/** The values of a list: JSON where it parses, else text. */
export function valuesOf(text: string): unknown[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      try {
        return JSON.parse(part) as unknown;
      } catch {
        return part;
      }
    });
}
