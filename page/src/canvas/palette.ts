/** Colours and patterns of regions. The colours are those of Okabe and Ito, which colour-blind people tell apart. */

export const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#9a9a9a"] as const;
export const PATTERNS = ["rising", "falling", "dots", "lines", "grid", "columns", "rings", "plain"] as const;

export type Pattern = (typeof PATTERNS)[number];

/** The colour of a number. */
export function colourOf(index: number): string {
  return COLOURS[index % COLOURS.length] ?? COLOURS[0];
}

/** The pattern of a number: regions of one colour have one pattern. */
export function patternOf(index: number): Pattern {
  return PATTERNS[index % PATTERNS.length] ?? "plain";
}

const PERIOD = 12;

/** A tile of a colour and its pattern: a pale ground and stronger marks. */
export function tile(index: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = PERIOD;
  const context = canvas.getContext("2d");
  if (!context) return canvas;
  context.fillStyle = context.strokeStyle = colourOf(index);
  context.globalAlpha = 0.55;
  context.fillRect(0, 0, PERIOD, PERIOD);
  context.globalAlpha = 1;
  context.lineWidth = 2;
  context.beginPath();
  marks(context, patternOf(index));
  context.stroke();
  return canvas;
}

function marks(context: CanvasRenderingContext2D, pattern: Pattern): void {
  const line = (x0: number, y0: number, x1: number, y1: number) => {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  };
  const p = PERIOD;
  if (pattern === "rising") for (const x of [-p, 0, p]) line(x, p, x + p, 0);
  if (pattern === "falling") for (const x of [-p, 0, p]) line(x, 0, x + p, p);
  if (pattern === "lines" || pattern === "grid") line(0, p / 2, p, p / 2);
  if (pattern === "columns" || pattern === "grid") line(p / 2, 0, p / 2, p);
  if (pattern === "dots") context.arc(p / 2, p / 2, 1.2, 0, 2 * Math.PI);
  if (pattern === "rings") context.arc(p / 2, p / 2, 3.2, 0, 2 * Math.PI);
}
