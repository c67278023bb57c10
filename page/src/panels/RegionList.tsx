/** Regions as layers: the uppermost first. */

import { useEffect, useRef, useState } from "preact/hooks";
import { COLOURS, colourOf, patternOf } from "../canvas/palette";
import * as edits from "../scene/edits";
import { isReady, titleOf } from "../scene/exchange";
import type { Region } from "../scene/types";
import { addBox, duplicateSelected, importMask, removeSelected } from "../state/actions";
import { explanation } from "../state/explain";
import * as store from "../state/store";
import { IconButton } from "./icons";

const percent = (share: number): string => `${share < 0.1 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;

/** What the dry run says of a region, in a few words. */
function finding(region: Region): { text: string; bad: boolean } {
  const found = explanation.value?.regions.find((one) => one.name === region.name);
  if (!isReady(region)) return { text: "empty", bad: false };
  if (!found) return { text: "", bad: false };
  if (found.unsupported) return { text: "not with this model", bad: true };
  if (found.dropped) return { text: "dropped: no room", bad: true };
  const overlaps = Object.keys(found.overlaps).length;
  const covered = found.coverage === null ? "" : percent(found.coverage);
  return { text: overlaps ? `${covered}, overlaps ${overlaps}` : covered, bad: false };
}

function Row({ region, index }: { region: Region; index: number }) {
  const mark = edits.markOf(store.doc.value, region.name);
  const chosen = store.selected.value === region.name;
  const { text, bad } = finding(region);
  const [naming, setNaming] = useState(false);
  const [over, setOver] = useState(false);
  const name = useRef<HTMLInputElement>(null);
  useEffect(() => {
    name.current?.focus();
    name.current?.select();
  }, [naming]);
  const select = () => (store.selected.value = region.name);
  const rename = (value: string) => {
    setNaming(false);
    store.change((doc) => {
      const [next, name] = edits.renameRegion(doc, region.name, value);
      queueMicrotask(() => (store.selected.value = name));
      return next;
    });
  };
  return (
    <li
      class={`row${chosen ? " chosen" : ""}${over ? " over" : ""}${mark.hidden ? " off" : ""}`}
      draggable={!naming}
      onDragStart={(event) => {
        event.dataTransfer?.setData("text/x-region", region.name);
      }}
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes("text/x-region")) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        const name = event.dataTransfer?.getData("text/x-region");
        setOver(false);
        if (!name) return;
        event.preventDefault();
        event.stopPropagation();
        store.change((doc) => edits.moveRegion(doc, name, index));
      }}
    >
      <Swatch region={region} />
      {naming ? (
        <input
          class="row-name"
          type="text"
          aria-label={`Name of ${region.name}`}
          defaultValue={region.name}
          ref={name}
          onBlur={(event) => rename(event.currentTarget.value)}
          onKeyDown={(event) => {
            event.stopPropagation();
            if (event.key === "Enter") event.currentTarget.blur();
            if (event.key === "Escape") setNaming(false);
          }}
        />
      ) : (
        <button type="button" class="row-name" aria-pressed={chosen} onClick={select} onDblClick={() => setNaming(true)}>
          <span>{titleOf(region)}</span>
          <small class={bad ? "bad" : undefined}>{text}</small>
        </button>
      )}
      <IconButton
        icon={mark.hidden ? "eyeOff" : "eye"}
        label={mark.hidden ? `Show ${region.name}` : `Hide ${region.name}; hidden regions are not drawn`}
        pressed={!!mark.hidden}
        onClick={() => store.change((doc) => edits.setMark(doc, region.name, { hidden: !mark.hidden }))}
      />
      <IconButton
        icon={mark.locked ? "lock" : "unlock"}
        label={mark.locked ? `Unlock ${region.name}` : `Lock ${region.name}`}
        pressed={!!mark.locked}
        onClick={() => store.change((doc) => edits.setMark(doc, region.name, { locked: !mark.locked }))}
      />
      {chosen && !naming && (
        <div class="row-tools">
          <button type="button" class="link" onClick={() => setNaming(true)}>
            Rename
          </button>
          <IconButton icon="up" label="Move up: higher priority" disabled={index === 0} onClick={() => move(region.name, index - 1)} />
          <IconButton icon="down" label="Move down: lower priority" onClick={() => move(region.name, index + 1)} />
          <IconButton icon="solo" label="Only this region" onClick={() => store.change((doc) => edits.solo(doc, region.name))} />
          <IconButton icon="copy" label="Duplicate" onClick={duplicateSelected} />
          <IconButton icon="trash" label="Delete" disabled={!!mark.locked} onClick={removeSelected} />
        </div>
      )}
    </li>
  );
}

function move(name: string, to: number): void {
  store.change((doc) => edits.moveRegion(doc, name, to));
}

/** The colour and pattern of a region; a click takes the next. */
function Swatch({ region }: { region: Region }) {
  const { colour } = edits.markOf(store.doc.value, region.name);
  return (
    <button
      type="button"
      class={`swatch pattern-${patternOf(colour)}`}
      style={{ "--swatch": colourOf(colour) }}
      aria-label={`Colour and pattern of ${region.name}: ${patternOf(colour)}; choose the next`}
      title="Another colour and pattern"
      onClick={() => store.change((doc) => edits.setMark(doc, region.name, { colour: (colour + 1) % COLOURS.length }))}
    />
  );
}

export function RegionList() {
  const { regions } = store.scene.value;
  const [over, setOver] = useState(false);
  const rest = explanation.value?.caption_share;
  return (
    <section
      class={`panel${over ? " over" : ""}`}
      aria-label="Regions"
      onDragOver={(event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        event.stopPropagation();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        setOver(false);
        const file = event.dataTransfer?.files[0];
        if (!file) return;
        event.preventDefault();
        event.stopPropagation();
        void store.attempt(() => importMask(file));
      }}
    >
      <header class="panel-head">
        <h2>Regions</h2>
        <label class="file-link" title="A picture: white is the region. Or drop it here.">
          Import mask
          <input
            type="file"
            accept="image/png,image/jpeg,image/webp"
            onChange={(event) => {
              const file = event.currentTarget.files?.[0];
              event.currentTarget.value = "";
              if (file) void store.attempt(() => importMask(file));
            }}
          />
        </label>
        <IconButton icon="plus" label="Add a region in the middle" onClick={addBox} />
      </header>
      {regions.length ? (
        <ul class="rows">
          {regions.map((region, index) => (
            <Row key={region.name} region={region} index={index} />
          ))}
        </ul>
      ) : (
        <p class="empty">Draw a box on the canvas and say what is in it.</p>
      )}
      {regions.length > 0 && rest !== null && rest !== undefined && (
        <p class="quiet">{percent(rest)} of the picture is left to the caption.</p>
      )}
    </section>
  );
}
