/** The canvas on the page. */

import { useEffect, useRef } from "preact/hooks";
import { CanvasStage } from "../canvas/stage";
import { register } from "../state/canvasApi";
import { shown } from "../state/jobs";
import { canvasSize, scene } from "../state/store";
import { ViewBar } from "./ToolBar";

export function CanvasArea() {
  const area = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!area.current) return;
    const stage = new CanvasStage(area.current);
    register(stage);
    return () => {
      register(null);
      stage.destroy();
    };
  }, []);
  const { width, height } = canvasSize.value;
  const empty = !scene.value.regions.length && !scene.value.background && !shown.value;
  const label =
    `Canvas, ${width} x ${height} pixels, ${scene.value.regions.length} regions. ` +
    "Enter adds a region, arrows move the selected one, Alt and arrows resize it.";
  return (
    <div class="canvas-area">
      <div ref={area} id="canvas" class="canvas" role="application" tabIndex={0} aria-label={label} />
      {empty && (
        <p class="canvas-hint">
          Draw a box, say what is in it, and press <kbd>Ctrl ↵</kbd>
        </p>
      )}
      <span class="canvas-size">
        {width} × {height}
      </span>
      <ViewBar />
    </div>
  );
}
