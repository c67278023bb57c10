/** Exemplar, control, edit and concept of a region; what the model lacks is grey, with the reason. */

import { pictureId, type Region } from "../scene/types";
import * as store from "../state/store";
import { submit } from "../state/jobs";
import { Check, NumberField, Select, Slider, TextField } from "./fields";
import { ConceptFields } from "./Concept";
import { LoraFields } from "./Loras";
import { PictureField } from "./PictureField";

type Set = (fields: Partial<Region>) => void;

const { reasonOf } = store;

function ExemplarFields({ region, set }: { region: Region; set: Set }) {
  const picture = pictureId(region.exemplar?.image);
  const choose = (id: string | null) =>
    set(id ? { exemplar: { ...region.exemplar, image: { picture: id } } } : { exemplar: undefined, similarity: undefined });
  return (
    <>
      <PictureField label="Exemplar: a picture of the object" picture={picture} reason={reasonOf("exemplar")} onPicture={choose} />
      {region.exemplar && (
        <>
          <div class="pair">
            <Slider label="Strength" min={0} max={1} step={0.05} value={region.exemplar.strength ?? 1} onInput={(strength) => set({ exemplar: { ...region.exemplar!, strength } })} />
            <NumberField label="Similarity" min={0} max={100} step={0.5} value={region.similarity} placeholder="5" reason={region.guidance !== undefined ? "Guidance is set." : null} onInput={(similarity) => set({ similarity })} />
          </div>
          <Check
            label="Pooled features only"
            hint="The kind of object without its details: less similar, freer in its pose"
            checked={region.exemplar.bottleneck ?? false}
            onChange={(checked) => set({ exemplar: { ...region.exemplar!, bottleneck: checked || undefined } })}
          />
        </>
      )}
    </>
  );
}

function ControlFields({ region, set }: { region: Region; set: Set }) {
  const control = region.control;
  const offered = store.details.value?.controls ?? [];
  const drawn = store.schema.value.control_kinds;
  const kinds = [...new Set([...offered, ...drawn])];
  const kind = control?.kind ?? offered[0] ?? "canny";
  const made = drawn.includes(kind);
  const reason = reasonOf("control");
  const native = store.details.value?.defaults.conditional_controls ?? false;
  const choose = (field: "image" | "from", id: string | null) =>
    set({ control: id ? { kind, strength: control?.strength, conditional_only: control?.conditional_only, [field]: { picture: id } } : undefined });
  const map = () =>
    store.attempt(async () => {
      const photo = control?.from;
      if (photo) await submit("control", null, { image: photo, kind });
    });
  return (
    <>
      <Select
        label="Control"
        value={kind}
        reason={reason}
        choices={kinds.map((value) => ({ value, label: value, reason: offered.includes(value) ? null : "not loaded" }))}
        onChange={(next) => set({ control: control ? { ...control, kind: next } : undefined })}
      />
      {made && (
        <PictureField label={`Photo that the ${kind} map is made from`} picture={pictureId(control?.from)} reason={reason} onPicture={(id) => choose("from", id)} />
      )}
      <PictureField label={`A ${kind} map`} picture={pictureId(control?.image)} reason={reason} onPicture={(id) => choose("image", id)} />
      {control && (
        <>
          <Slider label="Strength" min={0} max={2} step={0.05} value={control.strength ?? 1} onInput={(strength) => set({ control: { ...control, strength } })} />
          <Check
            label="Amplified by guidance"
            hint="The null branch does without the map, so that guidance makes the picture follow it more closely"
            checked={control.conditional_only ?? native}
            onChange={(checked) => set({ control: { ...control, conditional_only: checked === native ? undefined : checked } })}
          />
        </>
      )}
      {control?.from && (
        <button type="button" onClick={() => void map()}>
          Show the map
        </button>
      )}
    </>
  );
}

function EditFields({ region, set }: { region: Region; set: Set }) {
  const { edit } = region;
  const choose = (kind: string) => {
    if (kind === "none") set({ edit: undefined, phrase: edit?.phrase ?? edit?.to });
    else if (kind === "change") set({ edit: { kind, from: edit?.phrase ?? region.phrase ?? "", to: "" }, phrase: undefined, exemplar: undefined, control: undefined });
    else set({ edit: { kind: kind as "add", phrase: edit?.phrase ?? edit?.to ?? region.phrase ?? "" }, phrase: undefined, exemplar: undefined, control: undefined });
  };
  const choices = [
    { value: "none", label: "draw" },
    { value: "add", label: "add an object" },
    { value: "remove", label: "remove an object" },
    { value: "change", label: "change an object" },
  ];
  return (
    <>
      <Select label="What to do here" value={edit?.kind ?? "none"} choices={choices} onChange={choose} />
      {edit?.kind === "change" && (
        <div class="pair">
          <TextField label="From" value={edit.from ?? ""} onInput={(from) => set({ edit: { ...edit, from } })} />
          <TextField label="To" value={edit.to ?? ""} onInput={(to) => set({ edit: { ...edit, to } })} />
        </div>
      )}
      {edit && edit.kind !== "change" && (
        <TextField label="Object" value={edit.phrase ?? ""} onInput={(phrase) => set({ edit: { ...edit, phrase } })} />
      )}
      {edit && (
        <TextField
          label="Keywords"
          hint="What MRGD's losses look for, with commas between"
          placeholder="those of the phrase"
          value={(region.keywords ?? []).join(",")}
          onInput={(text) => set({ keywords: text.trim() ? text.split(",") : undefined })}
        />
      )}
    </>
  );
}

export function Conditions(props: { region: Region; set: Set }) {
  const { region } = props;
  return (
    <>
      {!region.concept && <EditFields {...props} />}
      {!region.edit && !region.concept && <ExemplarFields {...props} />}
      {!region.edit && !region.concept && <ControlFields {...props} />}
      {!region.edit && <ConceptFields {...props} />}
      {!region.edit && !region.concept && <LoraFields {...props} />}
    </>
  );
}
