/** Enlarging with a second pass, and windows for panoramas. */

import { updateScene } from "../scene/edits";
import { enlarged, largeOf, windowed } from "../scene/large";
import type { Scene } from "../scene/types";
import * as store from "../state/store";
import { Check, NumberField, Section, Slider } from "./fields";

function set(fields: Partial<Scene>): void {
  store.change((doc) => updateScene(doc, fields), `large ${Object.keys(fields).join()}`);
}

export function LargePicture() {
  const scene = store.scene.value;
  const { scale, strength, overlap } = largeOf(scene);
  const reason = scene.background ? "A picture with a background keeps its size." : null;
  return (
    <Section title="Larger pictures" open={scale > 1 || overlap !== null}>
      <NumberField
        label="Enlarge so many times"
        hint="The picture is drawn, enlarged and drawn over with the same regions"
        lazy
        min={1}
        max={8}
        step={0.25}
        value={scale > 1 ? scale : undefined}
        placeholder="1: as it is"
        reason={reason}
        onInput={(value) => set(enlarged(value ?? 1, strength))}
      />
      {scale > 1 && (
        <Slider label="Drawn over at" hint="How much the second pass may change" min={0} max={1} step={0.05} value={strength} onInput={(value) => set(enlarged(scale, value))} />
      )}
      <Check
        label="In overlapping windows, for panoramas"
        hint="A canvas larger than the model's own size; each window has its own regions"
        reason={reason}
        checked={overlap !== null}
        onChange={(on) => set(windowed(on))}
      />
    </Section>
  );
}
