/** Generate, the number of pictures, and how the running job goes. */

import { active, again, cancel, ending, generate, jobName, jobs, running, sent, type Tracked } from "../state/jobs";
import { STAGES, standing } from "../state/progress";
import { count, details } from "../state/store";
import { IconButton } from "./icons";

function timeLeft(): string {
  const job = running.value;
  const { step = 0, total = 0 } = job?.progress ?? {};
  if (!job?.began || step < 2 || !total) return "";
  const seconds = ((performance.now() - job.began) / (step - 1)) * (total - step) / 1000;
  return seconds < 1 ? "" : `, ${Math.round(seconds)} s left`;
}

function Progress() {
  const job = running.value;
  const waiting = active.value.length - (job ? 1 : 0);
  if (!job && !waiting) return null;
  const { stage = "", step = 0, total = 0, image, num_images: images = 1, loss } = job?.progress ?? {};
  const name = job && ending.value.has(job.id) ? "Cancelling," : (STAGES[stage] ?? (stage || "Starting"));
  const many = images > 1 ? ` picture ${(image ?? 0) + 1} of ${images},` : "";
  const steps = total ? `${many} step ${step} of ${total}${timeLeft()}` : "";
  return (
    <div class="progress" id="progress">
      <progress max={total || 1} value={total ? step : undefined} aria-label="Progress" />
      <p role="status">
        {job ? `${name}${steps}` : `Waiting, ${standing(active.value.at(-1) as Tracked)}`}
        {loss ? `, loss ${loss.toFixed(3)}` : ""}
        {waiting > 0 && `; ${waiting} waiting`}
      </p>
      <button type="button" onClick={() => cancel()}>
        Cancel
      </button>
    </div>
  );
}

/** The other jobs, in the order in which they are drawn. */
function Waiting() {
  const waiting = active.value.filter((job) => job !== running.value).reverse();
  if (!waiting.length) return null;
  return (
    <ol class="waiting" aria-label="Waiting jobs">
      {waiting.slice(0, 6).map((job) => (
        <li key={job.id}>
          {jobName(job)}, {standing(job)}
          <IconButton icon="close" label={`Cancel ${jobName(job)}`} onClick={() => cancel(job.id)} />
        </li>
      ))}
    </ol>
  );
}

/** The newest job, if it failed. */
function Failed({ job }: { job: Tracked | undefined }) {
  if (job?.status !== "failed") return null;
  return (
    <div class="failed">
      <p class="bad">{job.error?.message}</p>
      <button type="button" onClick={() => again(job.id)}>
        Run again
      </button>
    </div>
  );
}

export function GenerateBar() {
  return (
    <section class="generate" aria-label="Generate" data-sent={sent.value}>
      <div class="generate-row">
        <button type="button" class="primary" id="generate" onClick={generate} title="Ctrl+Enter">
          Generate <kbd>Ctrl ↵</kbd>
        </button>
        <label class="count">
          <span>Pictures</span>
          <input
            type="number"
            min={1}
            max={16}
            value={count.value}
            onInput={(event) => {
              const value = event.currentTarget.valueAsNumber;
              if (value >= 1 && value <= 16) count.value = Math.round(value);
            }}
          />
        </label>
      </div>
      {!details.value && <p class="quiet">The model is being loaded. What you generate now is drawn as soon as it is there.</p>}
      <Progress />
      <Waiting />
      <Failed job={jobs.value[0]} />
    </section>
  );
}
