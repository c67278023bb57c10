/** The selected region: what is in it, and how. */

import { regionOf, updateRegion } from "../scene/edits";
import { readable, titleOf } from "../scene/exchange";
import type { Region } from "../scene/types";
import { redraw } from "../state/actions";
import { explanation, refusal } from "../state/explain";
import { shownStaged } from "../state/jobs";
import * as store from "../state/store";
import { Conditions } from "./Conditions";
import { Check, NumberField, Section, Slider, TextField } from "./fields";
import { ShapeFields } from "./ShapeFields";

/** Change fields of a region; the same field again is the same step. */
export function setRegion(name: string, fields: Partial<Region>): void {
  store.change((doc) => updateRegion(doc, name, fields), `${name} ${Object.keys(fields).join()}`);
}

const orNone = <T,>(value: T, none: T): T | undefined => (value === none ? undefined : value);

function titled(name: string): string {
  const region = regionOf(store.doc.value, name);
  return region ? titleOf(region) : name;
}

function Findings({ region }: { region: Region }) {
  const found = explanation.value?.regions.find((one) => one.name === region.name);
  const refused = refusal.value?.region === region.name ? refusal.value.message : null;
  const lines = [refused, found?.unsupported, ...(found?.warnings ?? [])].filter((line) => typeof line === "string");
  const overlaps = Object.entries(found?.overlaps ?? {});
  return (
    <div aria-live="polite">
      {found?.dropped && <p class="bad">This region is dropped: the text encoder has no room for it.</p>}
      {lines.map((line) => (
        <p key={line} class="bad">
          {readable(line, store.scene.value)}
        </p>
      ))}
      {overlaps.length > 0 && (
        <p class="quiet">Covered by {overlaps.map(([other, share]) => `${titled(other)} to ${share < 0.01 ? "less than 1" : Math.round(100 * share)} %`).join(", ")}.</p>
      )}
    </div>
  );
}

export function RegionCard() {
  const region = store.selectedRegion.value;
  if (!region) return null;
  const { name } = region;
  const set = (fields: Partial<Region>) => setRegion(name, fields);
  const native = store.details.value?.defaults;
  const own = !region.edit && !region.concept;
  return (
    <section class="panel card" aria-label={`Region ${name}`}>
      <header class="panel-head">
        <h2>{titleOf(region)}</h2>
      </header>
      {own && (
        <TextField
          id="region-phrase"
          label="What is here"
          rows={2}
          placeholder="for example: a cat"
          value={region.phrase ?? ""}
          onInput={(value) => set({ phrase: orNone(value, "") })}
        />
      )}
      <Findings region={region} />
      {shownStaged.value && (
        <div class="pair">
          <button type="button" onClick={() => void store.attempt(() => redraw(name, false))} title="All other pixels keep their bytes">
            Change only this
          </button>
          <button type="button" onClick={() => void store.attempt(() => redraw(name, true))} title="New noise in this region; all other pixels keep their bytes">
            Variation
          </button>
        </div>
      )}
      <Section key={name} title="Conditions" open={!!(region.exemplar || region.control || region.edit || region.concept)}>
        <Conditions region={region} set={set} />
      </Section>
      <Section title="Strength and edge" open>
        <Slider label="Feather" hint="Soft edge inwards" min={0} max={0.5} step={0.01} value={region.feather ?? 0} show={(v) => v.toFixed(2)} onInput={(value) => set({ feather: orNone(value, 0) })} />
        <Slider label="Weight" hint="Against other regions; 0 removes the region" min={0} max={3} step={0.05} value={region.weight ?? 1} show={(v) => v.toFixed(2)} onInput={(value) => set({ weight: orNone(value, 1) })} />
        <div class="pair">
          <NumberField label="From step" hint="Fraction of the steps" min={0} max={region.stop ?? 1} step={0.05} value={region.start} placeholder="0" onInput={(value) => set({ start: value })} />
          <NumberField label="To step" hint="Fraction of the steps" min={region.start ?? 0} max={1} step={0.05} value={region.stop} placeholder="1" onInput={(value) => set({ stop: value })} />
        </div>
        <div class="pair">
          <NumberField label="Guidance" min={0} max={100} step={0.1} value={region.guidance} placeholder={String(store.scene.value.guidance ?? native?.guidance ?? "")} reason={region.similarity !== undefined ? "Similarity is the guidance of an exemplar." : null} onInput={(value) => set({ guidance: value })} />
          <NumberField label="Seed" min={0} step={1} value={region.seed} placeholder="the scene's" reason={region.concept ? "A concept starts from the background." : null} onInput={(value) => set({ seed: value })} />
        </div>
        {own && <TextField label="Negative" value={region.negative ?? ""} onInput={(value) => set({ negative: orNone(value, "") })} />}
        <Check label="Confine the words to the shape" hint="strict" checked={!!region.strict} onChange={(strict) => set({ strict: orNone(strict, false) })} />
      </Section>
      <Section title="Shape">
        <ShapeFields region={region} />
      </Section>
    </section>
  );
}
