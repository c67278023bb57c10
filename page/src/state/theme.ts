/** Dark, light, or as the system says. */

import { effect, signal } from "@preact/signals";
import { store, stored } from "./autosave";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

const KEY = "cloisonne.theme";
const found = stored(KEY);
export const theme = signal<Theme>(THEMES.find((name) => name === found) ?? "system");

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.peek()) + 1) % THEMES.length] ?? "system";
  store(KEY, theme.value);
}

effect(() => {
  document.documentElement.dataset.theme = theme.value;
});
