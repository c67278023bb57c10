/** Tools of the canvas. */

import { redo, history, choose, tool, type Tool, undo, brushSize, snap, overlay } from "../state/store";
import { api } from "../state/canvasApi";
import { Icon, IconButton, type IconName } from "./icons";

const TOOLS: [Tool & IconName, string][] = [
  ["select", "Select and move (V)"],
  ["box", "Box (M)"],
  ["ellipse", "Ellipse (O)"],
  ["polygon", "Polygon (P): click corners, Enter closes"],
  ["lasso", "Lasso (L)"],
  ["brush", "Brush (B): adds to the selected region"],
  ["eraser", "Eraser (E): takes from the selected region"],
  ["pan", "Move the view (H, Space, middle button)"],
];

export function ToolBar() {
  return (
    <nav class="tools" aria-label="Tools">
      <div role="radiogroup" aria-label="Tool" class="tool-group">
        {TOOLS.map(([name, label]) => (
          <button key={name} type="button" role="radio" class="icon-button" aria-checked={tool.value === name} aria-label={label} title={label} onClick={() => choose(name)}>
            <Icon name={name} />
          </button>
        ))}
      </div>
      <IconButton icon="undo" label="Undo (Ctrl+Z)" disabled={!history.value.past.length} onClick={undo} />
      <IconButton icon="redo" label="Redo (Ctrl+Shift+Z)" disabled={!history.value.future.length} onClick={redo} />
    </nav>
  );
}

/** Controls of the view, over the canvas. */
export function ViewBar() {
  const paints = tool.value === "brush" || tool.value === "eraser";
  return (
    <div class="view-bar" role="group" aria-label="View">
      {paints && (
        <label class="inline">
          <span>Brush</span>
          <input type="range" min={1} max={300} value={Math.min(300, brushSize.value)} aria-valuetext={`${brushSize.value} pixels`} onInput={(event) => (brushSize.value = event.currentTarget.valueAsNumber)} />
          <output>{brushSize.value} px</output>
        </label>
      )}
      <label class="inline" title="How strongly the colours of the regions cover the picture">
        <span>Regions</span>
        <input type="range" min={0} max={1} step={0.05} value={overlay.value} onInput={(event) => (overlay.value = event.currentTarget.valueAsNumber)} />
      </label>
      <IconButton icon="grid" label="Snap to the model's grid (G)" pressed={snap.value} onClick={() => (snap.value = !snap.value)} />
      <IconButton icon="minus" label="Zoom out (-)" onClick={() => api.zoom(0.8)} />
      <IconButton icon="fit" label="Fit (Z)" onClick={() => api.fit()} />
      <IconButton icon="plus" label="Zoom in (+)" onClick={() => api.zoom(1.25)} />
    </div>
  );
}
