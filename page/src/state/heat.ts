/** Attention maps as colours. */

/** From no attention to the most: black, purple, red, orange, yellow. */
const RAMP: [number, number, number][] = [
  [0, 0, 4],
  [87, 16, 110],
  [188, 55, 84],
  [249, 142, 9],
  [252, 255, 164],
];
const [CLEAR, DENSE] = [0.3, 0.85];

interface Pixels {
  width: number;
  height: number;
  data: Uint8ClampedArray;
}

/** One of several maps that lie one above the other in a grey picture, as RGBA. More attention is more opaque. */
export function heatOf(stack: Pixels, count: number, index: number): Pixels & { data: Uint8ClampedArray<ArrayBuffer> } {
  const { width } = stack;
  const height = Math.floor(stack.height / count);
  const data = new Uint8ClampedArray(4 * width * height);
  for (let at = 0; at < width * height; at++) {
    const value = (stack.data[4 * (index * width * height + at)] ?? 0) / 255;
    const place = value * (RAMP.length - 1);
    const low = Math.min(Math.floor(place), RAMP.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from = 0, to = 0] = [RAMP[low]?.[channel], RAMP[low + 1]?.[channel]];
      data[4 * at + channel] = from + (place - low) * (to - from);
    }
    data[4 * at + 3] = 255 * (CLEAR + value * (DENSE - CLEAR));
  }
  return { width, height, data };
}
