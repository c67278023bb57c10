/** The page. */

import { useEffect, useState } from "preact/hooks";
import { readable } from "../scene/exchange";
import { open } from "../state/actions";
import { attempt, notice, scene } from "../state/store";
import { CanvasArea } from "./CanvasArea";
import { GenerateBar } from "./GenerateBar";
import { IconButton } from "./icons";
import { RegionCard } from "./RegionCard";
import { RegionList } from "./RegionList";
import { Caption, ScenePanel } from "./ScenePanel";
import { Staging } from "./Staging";
import { ToolBar } from "./ToolBar";
import { TopBar } from "./TopBar";

function Notice() {
  const now = notice.value;
  return (
    <div class="notices" role={now?.error ? "alert" : "status"}>
      {now && (
        <p class={now.error ? "notice error" : "notice"}>
          <span>{readable(now.text, scene.value)}</span>
          <IconButton icon="close" label="Close the message" onClick={() => (notice.value = null)} />
        </p>
      )}
    </div>
  );
}

export function App() {
  const [over, setOver] = useState(false);
  const take = (files: FileList | undefined) => void attempt(() => open([...(files ?? [])]));
  useEffect(() => {
    const paste = (event: ClipboardEvent) => take(event.clipboardData?.files);
    window.addEventListener("paste", paste);
    return () => window.removeEventListener("paste", paste);
  }, []);
  return (
    <div
      class={`app${over ? " dropping" : ""}`}
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => event.relatedTarget === null && setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        take(event.dataTransfer?.files);
      }}
    >
      <TopBar />
      <ToolBar />
      <main class="middle">
        <CanvasArea />
        <Staging />
      </main>
      <aside class="side" aria-label="Scene and regions">
        <div class="side-scroll">
          <Caption />
          <RegionList />
          <RegionCard />
          <ScenePanel />
        </div>
        <GenerateBar />
      </aside>
      <Notice />
    </div>
  );
}
