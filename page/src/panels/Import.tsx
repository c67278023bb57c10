/** A scene from another tool's file, with what the file lacks. */

import { useState } from "preact/hooks";
import { importFiles } from "../state/actions";
import * as store from "../state/store";
import { Dialog } from "./Dialog";
import { TextField } from "./fields";

/** Files of scenes that are no pictures. */
export const SCENES = "application/json,.json,.txt,.psd,.psb";

function Files(props: { label: string; accept: string; multiple?: boolean; onFiles: (files: File[]) => void }) {
  return (
    <label class="field">
      <span>{props.label}</span>
      <input type="file" accept={props.accept} multiple={props.multiple} onChange={(event) => props.onFiles([...(event.currentTarget.files ?? [])])} />
    </label>
  );
}

export function ImportDialog({ close }: { close: () => void }) {
  const [files, setFiles] = useState<File[]>([]);
  const [mask, setMask] = useState<File | undefined>();
  const [imageId, setImageId] = useState("");
  const [promptOnly, setPromptOnly] = useState(false);
  const read = () =>
    store.attempt(async () => {
      await importFiles(files, { ...(imageId && { imageId }), ...(mask && { mask }), ...(promptOnly && { promptOnly }) });
      close();
    });
  return (
    <Dialog title="Import from another tool" close={close}>
      <p class="quiet">A picture of AUTOMATIC1111, Forge or InvokeAI; JSON of COCO, GLIGEN, InstanceDiffusion, MRGD or ComfyUI's elements; a PSD; or all PNG layers of an image.</p>
      <Files label="Files" accept={`image/png,image/jpeg,image/webp,${SCENES}`} multiple onFiles={setFiles} />
      <TextField label="Which image of COCO annotations (its id)" value={imageId} onInput={setImageId} />
      <Files label="The mask image of Regional Prompter's mask mode" accept="image/png,image/jpeg,image/webp" onFiles={([one]) => setMask(one)} />
      <label class="inline">
        <input type="checkbox" checked={promptOnly} onChange={(event) => setPromptOnly(event.currentTarget.checked)} />
        <span>The prompt alone, without the regions of extensions</span>
      </label>
      <button type="button" class="primary" disabled={!files.length} onClick={() => void read()}>
        Read the scene
      </button>
    </Dialog>
  );
}
