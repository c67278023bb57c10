/** The start of the page: session, what the server offers, jobs, and the page itself. */

import { effect } from "@preact/signals";
import { render } from "preact";
import { api, beginSession } from "./api/client";
import { listen } from "./keys";
import { App } from "./panels/App";
import { measureBackground } from "./state/actions";
import { watchDocument } from "./state/explain";
import { load } from "./state/jobs";
import * as store from "./state/store";
import { syncDocument } from "./state/sync";
import "./state/theme";

async function start(): Promise<void> {
  const root = document.getElementById("studio");
  if (!root) return;
  render(<App />, root);
  listen();
  await beginSession();
  await syncDocument();
  const [models, schema] = await Promise.all([api.models(), api.schema(), load()]);
  store.models.value = models.data;
  store.schema.value = schema;
  effect(() => void store.attempt(() => measureBackground(store.scene.value.background)));
  watchModel();
  watchDocument();
  root.dataset.ready = "true";
}

/** Read what the document's model can do. */
function watchModel(): void {
  let asked: string | null = null;
  effect(() => {
    const name = store.scene.value.model ?? store.models.value.find((model) => model.default)?.id;
    if (!name || name === asked) return;
    asked = name;
    void store.attempt(async () => {
      const { details } = await api.model(name);
      if (asked === name) store.details.value = details;
    });
  });
}

void store.attempt(start);
