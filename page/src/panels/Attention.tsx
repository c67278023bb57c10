/** What each phrase attended to: which region, at which step. */

import { titleOf } from "../scene/exchange";
import { attended, attention, chosen, mapped, stepsBack } from "../state/attention";
import { shownStaged } from "../state/jobs";

export function Attention() {
  const found = attention.value;
  const made = shownStaged.value?.job.scene;
  if (!found || !made) return null;
  const { steps, index } = mapped.value;
  const title = (name: string) => {
    const region = made.regions.find((one) => one.name === name);
    return region ? titleOf(region) : name;
  };
  const step = `step ${(steps[index] ?? 0) + 1} of ${found.count}`;
  return (
    <div class="attention" role="group" aria-label="What each phrase attended to">
      <label class="inline">
        <span>Attention of</span>
        <select value={attended.value} onChange={(event) => (chosen.value = event.currentTarget.value)}>
          <option value="">no region</option>
          {Object.keys(found.regions).map((name) => (
            <option key={name} value={name}>
              {title(name)}
            </option>
          ))}
        </select>
      </label>
      {attended.value && steps.length > 1 && (
        <label class="inline">
          <span>at</span>
          <input type="range" min={0} max={steps.length - 1} step={1} value={index} aria-label="Step" aria-valuetext={step} onInput={(event) => (stepsBack.value = steps.length - 1 - event.currentTarget.valueAsNumber)} />
          <output>{step}</output>
        </label>
      )}
    </div>
  );
}
