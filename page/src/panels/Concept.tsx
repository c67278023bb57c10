/** A region's concept: a subject or style of another picture, or what was learned of one. */

import { pictureId, type Concept, type Region } from "../scene/types";
import { conceptIn, learnedForShown, saveConcept } from "../state/concepts";
import * as store from "../state/store";
import { Slider } from "./fields";
import { PictureField } from "./PictureField";

type Set = (fields: Partial<Region>) => void;

const WITHOUT = { phrase: undefined, exemplar: undefined, control: undefined, negative: undefined, seed: undefined };

function Learned({ concept, change, reason }: { concept: Concept | undefined; change: (concept: Concept | undefined) => void; reason: string | null }) {
  const file = typeof concept?.file === "string" ? concept.file : null;
  const found = learnedForShown.value;
  const without = () => {
    const { file: _gone, ...rest } = concept ?? {};
    change(rest.image ? rest : undefined);
  };
  return (
    <div class="buttons">
      <label class="file-link button-like" title={reason ?? "A .safetensors file that was learned from a picture; nothing is trained then"}>
        {file ? "Another learned concept" : "Learned concept"}
        <input
          type="file"
          accept=".safetensors"
          disabled={!!reason}
          onChange={(event) => {
            const given = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (given) void store.attempt(async () => change({ ...concept, file: await conceptIn(given) }));
          }}
        />
      </label>
      {found && found !== file && !reason && (
        <button type="button" onClick={() => change({ ...concept, file: found })}>
          Use what was learned
        </button>
      )}
      {file && (
        <>
          <button type="button" onClick={() => saveConcept(file)}>
            Save it
          </button>
          <button type="button" onClick={without}>
            Remove it
          </button>
        </>
      )}
    </div>
  );
}

export function ConceptFields({ region, set }: { region: Region; set: Set }) {
  const { concept } = region;
  const needs = pictureId(store.scene.value.background) ? null : "A concept changes a background; open one first.";
  const reason = store.reasonOf("concept") ?? needs;
  const change = (next: Concept | undefined) => set(next ? { concept: next, ...WITHOUT } : { concept: undefined });
  const choose = (id: string | null) => {
    const { image: _old, ...rest } = concept ?? {};
    if (id) change({ ...rest, image: { picture: id } });
    else change(rest.file ? rest : undefined);
  };
  return (
    <>
      <PictureField label="Concept: transfer this subject or style" picture={pictureId(concept?.image)} reason={reason} onPicture={choose} />
      <Learned concept={concept} change={change} reason={reason} />
      {concept && (
        <Slider label="Keep structure" min={0} max={1} step={0.05} value={concept.keep_structure ?? 0.5} onInput={(keep_structure) => change({ ...concept, keep_structure })} />
      )}
    </>
  );
}
