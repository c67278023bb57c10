/** What the page does, and its keys. */

import { Dialog } from "./Dialog";

const KEYS: [string, string][] = [
  ["Ctrl Enter", "generate"],
  ["Ctrl Z, Ctrl Shift Z", "undo, redo"],
  ["V", "select and move"],
  ["M, O", "box, ellipse; Shift makes a square or a circle"],
  ["P, L", "polygon, lasso"],
  ["B, E", "brush, eraser"],
  ["[ ]", "smaller, larger brush"],
  ["Space, middle button, H", "move the view"],
  ["wheel, + -", "zoom"],
  ["Z", "fit the canvas"],
  ["G", "snap to the model's grid"],
  ["Enter on the canvas", "add a region in the middle"],
  ["arrows on the canvas", "move the region; Shift: 10 pixels; Alt: resize"],
  ["Ctrl D, Delete", "duplicate, delete the region"],
  [", .", "previous, next picture"],
  ["Esc", "end drawing, deselect, cancel the job"],
];

export function Help({ close }: { close: () => void }) {
  return (
    <Dialog title="Help" close={close}>
      <ol class="steps">
        <li>Draw a box where something is to be, and say what it is.</li>
        <li>Say what the whole picture is. Press Ctrl+Enter.</li>
        <li>Change a region and press "Change only this": all other pixels keep their bytes.</li>
        <li>Drop a PNG that was made here: the whole scene comes back. Any other picture becomes the background.</li>
      </ol>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div key={keys}>
            <dt>{keys}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
