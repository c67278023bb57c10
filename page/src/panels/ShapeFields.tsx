/** The place and size of a region in pixels, and changes of its mask. */

import { boundsOf, resized } from "../geometry/shapes";
import { reshape } from "../scene/edits";
import type { Region } from "../scene/types";
import { growMask, invertMask } from "../state/actions";
import { saveMask } from "../state/exporting";
import * as store from "../state/store";
import { NumberField } from "./fields";

const SIDES = [
  ["x", "Left"],
  ["y", "Top"],
  ["width", "Width"],
  ["height", "Height"],
] as const;

export function ShapeFields({ region }: { region: Region }) {
  const size = store.canvasSize.value;
  const bounds = boundsOf(region, size);
  const kind = (["box", "ellipse", "polygon", "rle", "mask"] as const).find((name) => region[name]);
  const pixels = Math.max(1, Math.round(Math.min(size.width, size.height) / 64));
  const set = (side: "x" | "y" | "width" | "height", value: number | undefined) => {
    if (!bounds || value === undefined) return;
    const { x, y, width, height } = bounds;
    const shape = resized(region, { x, y, width, height, [side]: value }, size);
    store.change((doc) => reshape(doc, region.name, shape), `${region.name} ${side}`);
  };
  return (
    <>
      <p class="quiet">{{ box: "Box", ellipse: "Ellipse", polygon: "Polygon", rle: "Painted mask", mask: "Mask from a picture" }[kind ?? "box"]}, in pixels of the canvas.</p>
      {bounds && (
        <div class="quad">
          {SIDES.map(([side, label]) => (
            <NumberField key={side} label={label} step={1} value={Math.round(bounds[side] * 10) / 10} onInput={(value) => set(side, value)} />
          ))}
        </div>
      )}
      <div class="pair">
        <button type="button" onClick={() => growMask(pixels)}>
          Grow {pixels} px
        </button>
        <button type="button" onClick={() => growMask(-pixels)}>
          Shrink {pixels} px
        </button>
        <button type="button" onClick={invertMask}>
          Invert
        </button>
        <button type="button" onClick={() => void store.attempt(saveMask)}>
          Export mask
        </button>
      </div>
    </>
  );
}
