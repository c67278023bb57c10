/** Undo and redo over immutable values. */

export interface History<T> {
  past: T[];
  present: T;
  future: T[];
  /** Key of the last change; changes of one key in a row are one step. */
  key: string | null;
}

export const MOST_STEPS = 200;

/** A history that begins with a value. */
export function begin<T>(present: T): History<T> {
  return { past: [], present, future: [], key: null };
}

/** Add a step. With a key, it joins the last step of the same key. An equal value changes nothing. */
export function commit<T>(history: History<T>, next: T, key: string | null = null): History<T> {
  if (next === history.present) return history;
  if (key !== null && key === history.key) return { ...history, present: next, future: [] };
  return { past: [...history.past, history.present].slice(-MOST_STEPS), present: next, future: [], key };
}

/** End the joining of changes. */
export function seal<T>(history: History<T>): History<T> {
  return history.key === null ? history : { ...history, key: null };
}

/** Go one step back. */
export function undo<T>(history: History<T>): History<T> {
  const last = history.past.at(-1);
  if (last === undefined) return history;
  return { past: history.past.slice(0, -1), present: last, future: [history.present, ...history.future], key: null };
}

/** Go one step forward. */
export function redo<T>(history: History<T>): History<T> {
  const [next, ...future] = history.future;
  if (next === undefined) return history;
  return { past: [...history.past, history.present], present: next, future, key: null };
}
