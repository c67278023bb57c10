import { describe, expect, it } from "vitest";
import { begin, commit, MOST_STEPS, redo, seal, undo } from "../src/state/history";

describe("history", () => {
  it("goes back and forth over every change", () => {
    let history = begin(0);
    for (const value of [1, 2, 3]) history = commit(history, value);
    const seen = [history.present];
    for (let i = 0; i < 3; i++) seen.push((history = undo(history)).present);
    expect(seen).toEqual([3, 2, 1, 0]);
    expect(undo(history)).toBe(history);
    for (let i = 0; i < 3; i++) history = redo(history);
    expect(history.present).toBe(3);
    expect(redo(history)).toBe(history);
  });

  it("joins changes of one key until it is sealed", () => {
    let history = commit(commit(begin("a"), "ab", "text"), "abc", "text");
    history = commit(seal(history), "abcd", "text");
    expect(undo(history).present).toBe("abc");
    expect(undo(undo(history)).present).toBe("a");
  });

  it("does not join changes after an undo", () => {
    const history = undo(commit(begin("a"), "ab", "text"));
    expect(undo(commit(history, "ac", "text")).present).toBe("a");
  });

  it("forgets the future after a change, and an equal value is no change", () => {
    const history = commit(undo(commit(begin(1), 2)), 3);
    expect(history.future).toEqual([]);
    expect(commit(history, 3)).toBe(history);
  });

  it("is bounded", () => {
    let history = begin(0);
    for (let i = 1; i < 2 * MOST_STEPS; i++) history = commit(history, i);
    expect(history.past).toHaveLength(MOST_STEPS);
  });
});
