/** How edits and concepts are made, where there are any: a preset, and single settings that differ from it. */

import { updateScene } from "../scene/edits";
import * as store from "../state/store";
import { Check, type Choice, NumberField, Section, Select } from "./fields";

type Kind = "editing" | "translating";
type Settings = Record<string, unknown> & { preset?: string };

const KINDS: Record<Kind, { title: string; usual: string; labels: Record<string, string> }> = {
  editing: {
    title: "How edits are made",
    usual: "follow",
    labels: {
      flow: "FlowEdit: without inversion",
      follow: "follow: shared canvas",
      mrgd: "MRGD, our settings",
      official: "MRGD as published",
      p2p: "prompt-to-prompt",
      multidiffusion: "MultiDiffusion",
    },
  },
  translating: {
    title: "How concepts are transferred",
    usual: "fast",
    labels: { fast: "fast: nothing is learned", flow: "FlowEdit: without inversion", interrogate: "interrogate: a style in words", learned: "learned", vct: "VCT, the paper", "vct-code": "VCT, the authors' code" },
  },
};

function given(kind: Kind): Settings {
  return (store.scene.value[kind] as Settings | undefined) ?? {};
}

/** The preset where none is chosen: a given image is edited without inversion. */
function usualOf(kind: Kind): string {
  return kind === "editing" && store.scene.value.background ? "flow" : KINDS[kind].usual;
}

function choose(kind: Kind, settings: Settings): void {
  const usual = usualOf(kind);
  const next = { ...settings, preset: settings.preset ?? usual };
  const own = next.preset === usual && Object.keys(next).length === 1 ? undefined : next;
  store.change((doc) => updateScene(doc, { [kind]: own }), `scene ${kind} ${Object.keys(next).join()}`);
}

/** Change one setting; a value that is the preset's own is left out. */
function set(kind: Kind, field: string, value: unknown, usual: unknown): void {
  const { [field]: _old, ...rest } = given(kind);
  choose(kind, value === undefined || value === usual ? rest : { ...rest, [field]: value });
}

/** Settings that fields of the scene override. */
const OF_SCENE = ["steps", "guidance"];

const worded = (field: string): string => field.charAt(0).toUpperCase() + field.slice(1).replaceAll("_", " ");

function Setting({ kind, field, usual }: { kind: Kind; field: string; usual: unknown }) {
  const value = given(kind)[field];
  const options = store.schema.value.options[kind]?.[field];
  const change = (next: unknown) => set(kind, field, next, usual);
  if (options) {
    const choices: Choice[] = options.map((one) => ({ value: one, label: one }));
    return <Select label={worded(field)} value={String(value ?? usual)} choices={choices} onChange={change} />;
  }
  if (typeof usual === "boolean") return <Check label={worded(field)} checked={Boolean(value ?? usual)} onChange={change} />;
  const number = typeof value === "number" ? value : undefined;
  return <NumberField label={worded(field)} min={0} value={number} placeholder={usual === null ? "automatic" : String(usual)} onInput={change} />;
}

function Preset({ kind }: { kind: Kind }) {
  const { title, labels } = KINDS[kind];
  const presets = store.schema.value.presets[kind] ?? {};
  const own = given(kind);
  const preset = own.preset ?? usualOf(kind);
  const choices = Object.keys(presets).map((value) => ({ value, label: labels[value] ?? value }));
  const changed = Object.keys(own).filter((field) => field !== "preset").length;
  return (
    <>
      <Select label={title} value={preset} choices={choices} onChange={(preset) => choose(kind, { ...own, preset })} />
      <Section title={changed ? `Its settings, ${changed} changed` : "Its settings"}>
        {Object.entries(presets[preset] ?? {})
          .filter(([field]) => !OF_SCENE.includes(field))
          .map(([field, value]) => (
            <Setting key={`${preset} ${field}`} kind={kind} field={field} usual={value} />
          ))}
      </Section>
    </>
  );
}

export function Presets() {
  const { regions } = store.scene.value;
  return (
    <>
      {regions.some((region) => region.edit) && <Preset kind="editing" />}
      {regions.some((region) => region.concept) && <Preset kind="translating" />}
    </>
  );
}
