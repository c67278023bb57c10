/** The LoRAs of a region, each with its scale. */

import { fieldOf, lorasOf } from "../scene/loras";
import type { Region } from "../scene/types";
import * as store from "../state/store";
import { Select, Slider } from "./fields";
import { IconButton } from "./icons";

export function LoraFields({ region, set }: { region: Region; set: (fields: Partial<Region>) => void }) {
  const given = lorasOf(region.lora);
  const loaded = store.details.value?.loras ?? [];
  const reason = store.reasonOf("lora") ?? (loaded.length ? null : "The model was loaded without LoRAs for regions.");
  const left = loaded.filter((name) => !(name in given));
  const choices = [{ value: "", label: left.length ? "choose one" : "no other one" }, ...left.map((value) => ({ value, label: value }))];
  const remove = (name: string) => {
    const { [name]: _gone, ...rest } = given;
    set({ lora: fieldOf(rest) });
  };
  return (
    <>
      {Object.entries(given).map(([name, scale]) => (
        <div class="with-button" key={name}>
          <Slider label={`LoRA ${name}`} min={-2} max={2} step={0.05} value={scale} show={(value) => value.toFixed(2)} onInput={(value) => set({ lora: { ...given, [name]: value } })} />
          <IconButton icon="close" label={`Remove the LoRA ${name}`} onClick={() => remove(name)} />
        </div>
      ))}
      <Select label="Add a LoRA" value="" reason={reason} choices={choices} onChange={(name) => name && set({ lora: { ...given, [name]: 1 } })} />
    </>
  );
}
