/** One option at several values, and what each phrase attended to. */

import { useState } from "preact/hooks";
import { sceneToSend } from "../scene/exchange";
import { shownStaged, submit } from "../state/jobs";
import * as store from "../state/store";
import { valuesOf } from "../state/values";
import { Dialog } from "./Dialog";
import { Select, TextField } from "./fields";

const OF_SCENE = ["guidance", "steps", "seed", "method", "overlap", "sampler", "guidance_rescale", "strength"];
const OF_REGION = ["weight", "feather", "start", "stop", "strict", "similarity", "phrase"];

export function SweepDialog({ close }: { close: () => void }) {
  const [field, setField] = useState("guidance");
  const [values, setValues] = useState("1, 2.5, 5, 8");
  const region = store.selected.value;
  const choices = [...OF_SCENE, ...(region ? OF_REGION.map((name) => `${region}.${name}`) : [])];
  const last = shownStaged.value;
  const seed = store.scene.value.seed ?? last?.job.report?.outputs?.[last.index]?.seed;
  const send = (verb: string, args: Record<string, unknown>) =>
    store.attempt(async () => {
      await submit(verb, { ...sceneToSend(store.doc.peek()), seed }, args);
      close();
    });
  return (
    <Dialog title="Explore" close={close}>
      <h3>Sweep one option</h3>
      <p class="quiet">The scene is drawn once for each value, on one sheet, with the seed of the shown picture.</p>
      <div class="pair">
        <Select label="Option" value={field} choices={choices.map((value) => ({ value, label: value }))} onChange={setField} />
        <TextField label="Values" value={values} onInput={setValues} />
      </div>
      <button type="button" class="primary" onClick={() => void send("sweep", { field, values: valuesOf(values) })}>
        Draw the sheet
      </button>
      <h3>See what each phrase attended to</h3>
      <p class="quiet">Draws the scene once more, with the same seed. The attention of each region's words lies over the picture, step by step, and in one strip for each region.</p>
      <button type="button" onClick={() => void send("explain", {})}>
        Draw with attention
      </button>
    </Dialog>
  );
}
