import { defineConfig } from "vitest/config";

// The build is committed, so it must be the same on every machine: names without hashes, no source maps, no dates.
export default defineConfig({
  base: "/static/",
  build: {
    outDir: "../src/cloisonne/studio/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rollupOptions: {
      input: { studio: "index.html", masks: "src/masks/index.ts" },
      preserveEntrySignatures: "strict",
      output: {
        entryFileNames: "[name].mjs",
        chunkFileNames: "[name].mjs",
        assetFileNames: "[name][extname]",
      },
    },
  },
  test: { include: ["test/**/*.test.ts"] },
});
