/** The pictures that were made: choose, compare, accept, discard. */

import { useEffect, useRef } from "preact/hooks";
import { pictureUrl, thumbUrl } from "../api/client";
import { accept, discardShown, restoreShown } from "../state/actions";
import { jobName, loadOlder, older, show, shown, shownStaged, staged, step, type Staged } from "../state/jobs";
import { compare, differenceFound, hideDifference, earlier, showDifference } from "../state/see";
import * as store from "../state/store";
import { Attention } from "./Attention";
import { Icon, IconButton } from "./icons";

function title(one: Staged): string {
  const seed = one.job.report?.outputs?.[one.index]?.seed;
  const name = /^\d+$/.test(one.picture.name) ? "" : `, ${one.picture.name}`;
  return `${jobName(one.job)}${name}${seed === undefined ? "" : `, seed ${seed}`}`;
}

function Difference() {
  const found = differenceFound.value;
  if (!found) return null;
  const { outside, inside, largest } = found;
  const same = outside.changed === 0;
  return (
    <p class={same ? "good" : "bad"} role="status" id="difference">
      {same ? "No byte differs outside of the regions" : `${outside.changed} bytes differ outside of the regions`} (of {outside.bytes}); inside{" "}
      {inside.changed} of {inside.bytes}; the largest difference is {largest}.
    </p>
  );
}

function Proof() {
  const report = shownStaged.value?.job.report;
  if (report?.identical_outside === undefined || report.identical_outside === null) return null;
  return <span class={report.identical_outside ? "good" : "bad"}>{report.identical_outside ? "outside identical" : `outside differs by ${report.max_difference_outside}`}</span>;
}

/** Compare or difference, one at a time. */
function toggle(what: "compare" | "difference"): void {
  const [comparing, differing] = [compare.peek() !== null, differenceFound.peek() !== null];
  compare.value = null;
  hideDifference();
  if (what === "compare" && !comparing) {
    if (earlier.peek()) compare.value = 0.5;
    else store.say("There is no earlier picture to compare with; generate another one first.");
  }
  if (what === "difference" && !differing) void store.attempt(showDifference);
}

export function Staging() {
  const all = staged.value;
  const now = shown.value?.picture;
  const strip = useRef<HTMLOListElement>(null);
  useEffect(() => {
    strip.current?.querySelector("[aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    hideDifference();
  }, [now]);
  if (!all.length && !older.value) return null;
  const one = shownStaged.value;
  return (
    <section class="staging" aria-label="Pictures">
      <div class="staging-tools">
        <IconButton icon="left" label="Previous picture (,)" onClick={() => step(-1)} />
        <IconButton icon="right" label="Next picture (.)" onClick={() => step(1)} />
        <span class="quiet staging-title">{one ? title(one) : ""}</span>
        <Proof />
        <span class="gap" />
        <IconButton icon="compare" label="Compare with the picture before" pressed={compare.value !== null} onClick={() => toggle("compare")} />
        <IconButton icon="difference" label="Difference, with the bytes that changed outside of the regions" pressed={differenceFound.value !== null} onClick={() => toggle("difference")} />
        <IconButton icon="check" label="Accept: use as the background" disabled={!one} onClick={accept} />
        <IconButton icon="restore" label="Restore everything as it was for this picture" disabled={!one} onClick={restoreShown} />
        {one && (
          <a class="icon-button" href={`${pictureUrl(one.picture.id)}?download=true`} download={`${one.picture.name}.png`} aria-label="Save the picture, with its scene" title="Save the picture, with its scene">
            <Icon name="save" />
          </a>
        )}
        <IconButton icon="trash" label="Discard this picture" disabled={!one} onClick={discardShown} />
      </div>
      {compare.value !== null && (
        <input
          class="compare"
          type="range"
          min={0}
          max={1}
          step={0.005}
          value={compare.value}
          aria-label="Compare: the earlier picture is on the left"
          onInput={(event) => (compare.value = event.currentTarget.valueAsNumber)}
        />
      )}
      <Attention />
      <Difference />
      <ol class="strip" ref={strip}>
        {all.map((item) => (
          <li key={item.picture.id}>
            <button type="button" class="thumb" aria-pressed={item.picture.id === now} aria-label={title(item)} title={title(item)} onClick={() => show(item.job.id, item.picture.id)}>
              <img src={thumbUrl(item.picture.id, 128)} alt="" loading="lazy" />
              {item.picture.id === earlier.value && <span class="badge">before</span>}
            </button>
          </li>
        ))}
        {older.value && (
          <li>
            <button type="button" class="older" onClick={() => void store.attempt(loadOlder)}>
              Older
            </button>
          </li>
        )}
      </ol>
    </section>
  );
}

