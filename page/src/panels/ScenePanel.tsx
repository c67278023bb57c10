/** The whole picture: caption, method, steps, seed, size, background. */

import { setBackground, updateScene } from "../scene/edits";
import { pictureId, type Scene } from "../scene/types";
import { keepSeed } from "../state/actions";
import { explanation, refusal } from "../state/explain";
import { shownStaged } from "../state/jobs";
import * as store from "../state/store";
import { type Choice, NumberField, Section, Select, Slider, TextField } from "./fields";
import { LargePicture } from "./LargePicture";
import { PictureField } from "./PictureField";
import { Presets } from "./Presets";
import { useAsBackground } from "../state/actions";
import { api } from "../api/client";

function set(fields: Partial<Scene>): void {
  store.change((doc) => updateScene(doc, fields), `scene ${Object.keys(fields).join()}`);
}

const METHODS: Record<string, string> = {
  reco: "ReCo: trained layout",
  attention: "attention",
  multidiffusion: "MultiDiffusion",
  words: "place words (baseline)",
  caption: "caption only (baseline)",
};

function methods(): Choice[] {
  return store.schema.value.methods.map((value) => ({
    value,
    label: METHODS[value] ?? value,
    reason: store.details.value?.conditions[`phrase, method ${value}`]?.reason ?? null,
  }));
}

/** The caption, above all others. */
export function Caption() {
  return (
    <section class="panel" aria-label="Caption">
      <TextField label="The whole picture" rows={2} placeholder="for example: on a beach" value={store.scene.value.caption ?? ""} onInput={(value) => set({ caption: value || undefined })} />
    </section>
  );
}

function SeedField() {
  const { seed } = store.scene.value;
  const one = shownStaged.value;
  const last = one?.job.report?.outputs?.[one.index]?.seed;
  return (
    <>
      <NumberField label="Seed" hint="The same seed gives the same picture" min={0} step={1} value={seed} placeholder="new for each picture" onInput={(value) => set({ seed: value })} />
      <div class="pair">
        <button type="button" disabled={last === undefined || last === seed} onClick={keepSeed}>
          {last === undefined ? "Keep the seed" : `Keep ${last}`}
        </button>
        <button type="button" disabled={seed === undefined} onClick={() => set({ seed: undefined })}>
          New seeds
        </button>
      </div>
    </>
  );
}

function Background() {
  const { background, strength } = store.scene.value;
  const choose = (id: string | null) =>
    void store.attempt(async () => {
      if (id) useAsBackground(id, await api.picture(id));
      else store.change((doc) => setBackground(doc, undefined));
    });
  const reason = store.details.value?.conditions.background?.reason ?? null;
  return (
    <>
      <PictureField label="Background: the picture to change" picture={pictureId(background)} reason={reason} onPicture={choose} />
      {background && (
        <Slider label="Strength" hint="1: regions start from pure noise" min={0} max={1} step={0.05} value={strength ?? 1} onInput={(value) => set({ strength: value === 1 ? undefined : value })} />
      )}
    </>
  );
}

function Words() {
  const groups = store.details.value?.vocabulary;
  if (!groups) return null;
  return (
    <Section title="Words that this model knows">
      <p class="quiet">The built-in model knows these words and no others.</p>
      {Object.entries(groups).map(([group, words]) => (
        <p key={group} class="words">
          <strong>{group}</strong> {words.map(([word]) => word).join(", ")}
        </p>
      ))}
    </Section>
  );
}

export function ScenePanel() {
  const scene = store.scene.value;
  const native = store.details.value?.defaults;
  const samplers = store.schema.value.samplers.map((value) => ({ value, label: value }));
  const fixed = scene.background ? "The background's." : null;
  const cost = explanation.value?.cost;
  const general = [...(refusal.value && refusal.value.region === null ? [refusal.value.message] : []), ...(explanation.value?.warnings ?? []).filter((line) => !line.startsWith("Region "))];
  return (
    <section class="panel" aria-label="Scene">
      <Section title="Background" open={!!scene.background}>
        <Background />
      </Section>
      <Section title="How it is drawn">
        <Select label="Method" value={scene.method ?? native?.method ?? "reco"} choices={methods()} onChange={(method) => set({ method: method === native?.method ? undefined : method })} />
        <Presets />
        <Select
          label="Where regions overlap"
          value={scene.overlap ?? "blend"}
          choices={[
            { value: "blend", label: "blend by weight" },
            { value: "priority", label: "the upper one wins" },
            { value: "union", label: "all equally" },
          ]}
          onChange={(overlap) => set({ overlap: overlap === "blend" ? undefined : overlap })}
        />
        <div class="pair">
          <NumberField label="Steps" min={1} max={200} step={1} value={scene.steps} placeholder={String(native?.steps ?? "")} onInput={(steps) => set({ steps })} />
          <NumberField label="Guidance" min={0} max={100} step={0.1} value={scene.guidance} placeholder={String(native?.guidance ?? "")} onInput={(guidance) => set({ guidance })} />
        </div>
        <div class="pair">
          <NumberField label="Width" lazy min={64} max={2048} step={8} value={scene.width} placeholder={String(native?.width ?? "")} reason={fixed} onInput={(width) => set({ width, height: scene.height ?? width })} />
          <NumberField label="Height" lazy min={64} max={2048} step={8} value={scene.height} placeholder={String(native?.height ?? "")} reason={fixed} onInput={(height) => set({ height, width: scene.width ?? height })} />
        </div>
        <Select label="Sampler" value={scene.sampler ?? native?.sampler ?? "ddim"} choices={samplers} onChange={(sampler) => set({ sampler: sampler === native?.sampler ? undefined : sampler })} />
        <TextField label="Negative" value={scene.negative ?? ""} onInput={(value) => set({ negative: value || undefined })} />
        <SeedField />
      </Section>
      <LargePicture />
      <Words />
      {general.map((line) => (
        <p key={line} class="bad">
          {line}
        </p>
      ))}
      {cost && (
        <p class="quiet">
          About {cost.seconds < 10 ? cost.seconds.toFixed(1) : Math.round(cost.seconds)} s and {Math.round(cost.memory_bytes / 2 ** 20)} MiB on {cost.device}.
        </p>
      )}
    </section>
  );
}
