import { expect, test } from "vitest";
import type { Progress } from "../src/api/types";
import { current, standing, type Unfinished } from "../src/state/progress";

const queued = (position: number | null): Unfinished => ({ status: "queued", position, progress: null });
const running = (progress: Partial<Progress> | null): Unfinished => ({
  status: "running",
  position: 0,
  progress: progress && { status: "running", ...progress },
});

test("the oldest job that is drawn is shown, before those that wait for a worker", () => {
  const [first, second, third, last] = [running({ step: 2, total: 9 }), running({ stage: "loading" }), running({ stage: "waiting" }), queued(0)];
  expect(current([last, third, second, first])).toBe(first);
  expect(current([last, second, third])).toBe(second);
  expect(current([last, third])).toBe(third);
  expect(current([last])).toBeNull();
  expect(current([])).toBeNull();
});

test("a waiting job has its place in the queue, and a taken one its stage", () => {
  const found = [queued(3), queued(0), queued(null), running({ stage: "waiting" }), running({ stage: "sampling", step: 4, total: 20 }), running(null)];
  expect(found.map(standing)).toEqual(["3 before it", "next", "next", "waiting for a free worker", "step 4 of 20", "starting"]);
});
