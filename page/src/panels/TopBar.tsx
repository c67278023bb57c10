/** The head of the page: model, files, theme, help. */

import { useState } from "preact/hooks";
import { updateScene } from "../scene/edits";
import { clear, open } from "../state/actions";
import { copyAs, saveAs, saveScene } from "../state/exporting";
import * as store from "../state/store";
import { nextTheme, theme } from "../state/theme";
import { IconButton } from "./icons";
import { Help } from "./Help";
import { ImportDialog, SCENES } from "./Import";
import { SweepDialog } from "./Sweep";

function ModelChoice() {
  const all = store.models.value;
  const own = store.scene.value.model ?? all.find((model) => model.default)?.id ?? "";
  return (
    <label class="inline">
      <span>Model</span>
      <select value={own} onChange={(event) => store.change((doc) => updateScene(doc, { model: event.currentTarget.value }))}>
        {all.map(({ id }) => (
          <option key={id} value={id}>
            {id}
          </option>
        ))}
      </select>
    </label>
  );
}

async function copy(kind: "cli" | "python" | "curl"): Promise<void> {
  await navigator.clipboard.writeText(await copyAs(kind));
  store.say({ cli: "The command is in the clipboard.", python: "The program is in the clipboard.", curl: "The request is in the clipboard; put your token in $TOKEN." }[kind]);
}

export function TopBar() {
  const [dialog, setDialog] = useState<"help" | "import" | "sweep" | null>(null);
  const close = (event: Event) => (event.currentTarget as HTMLElement).closest("details")?.removeAttribute("open");
  const item = (label: string, act: () => unknown) => (
    <button
      type="button"
      onClick={(event) => {
        close(event);
        void store.attempt(async () => act());
      }}
    >
      {label}
    </button>
  );
  return (
    <header class="top">
      <h1>
        cloisonne <span>studio</span>
      </h1>
      <ModelChoice />
      <span class="gap" />
      <label class="file-link button-like" title="A picture; a scene of cloisonne, AUTOMATIC1111 or InvokeAI in its picture; JSON of a scene, COCO, GLIGEN or ComfyUI elements; a PSD; the PNG layers of an image, all at once">
        Open
        <input
          type="file"
          id="open-file"
          multiple
          accept={`image/png,image/jpeg,image/webp,${SCENES}`}
          onChange={(event) => {
            const files = [...(event.currentTarget.files ?? [])];
            event.currentTarget.value = "";
            void store.attempt(() => open(files));
          }}
        />
      </label>
      <details
        class="menu"
        onFocusOut={(event) => {
          if (!event.currentTarget.contains(event.relatedTarget as Node | null)) event.currentTarget.removeAttribute("open");
        }}
      >
        <summary>Scene</summary>
        <div class="menu-items">
          {item("New scene", clear)}
          {item("Save scene as JSON", saveScene)}
          {item("Import from another tool", () => setDialog("import"))}
          {item("Save regions as COCO", () => saveAs("coco"))}
          {item("Save regions as ComfyUI elements", () => saveAs("elements"))}
          {item("Copy as a command", () => copy("cli"))}
          {item("Copy as Python", () => copy("python"))}
          {item("Copy as curl", () => copy("curl"))}
        </div>
      </details>
      <button type="button" onClick={() => setDialog("sweep")}>
        Explore
      </button>
      <IconButton icon="theme" label={`Theme: ${theme.value}; choose the next`} onClick={nextTheme} />
      <IconButton icon="help" label="Help and keys" onClick={() => setDialog("help")} />
      {dialog === "help" && <Help close={() => setDialog(null)} />}
      {dialog === "import" && <ImportDialog close={() => setDialog(null)} />}
      {dialog === "sweep" && <SweepDialog close={() => setDialog(null)} />}
    </header>
  );
}
