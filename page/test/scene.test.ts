import { describe, expect, it } from "vitest";
import * as edits from "../src/scene/edits";
import { docOf, isReady, sceneToSend, titleOf, verbOf } from "../src/scene/exchange";
import type { Doc, Region } from "../src/scene/types";

const box = { box: [0.1, 0.1, 0.5, 0.5] as [number, number, number, number] };

function docWith(...names: string[]): Doc {
  let doc = edits.EMPTY;
  for (const name of names) [doc] = edits.addRegion(doc, box, { name, phrase: name });
  return doc;
}
const names = (doc: Doc) => doc.scene.regions.map((region) => region.name);

describe("changes of a document", () => {
  it("leave the old document as it was", () => {
    const doc = docWith("a", "b");
    const frozen = JSON.stringify(doc);
    edits.removeRegion(doc, "a");
    edits.renameRegion(doc, "a", "c");
    edits.updateRegion(doc, "a", { weight: 2 });
    edits.solo(doc, "b");
    edits.duplicateRegion(doc, "b");
    expect(JSON.stringify(doc)).toBe(frozen);
  });

  it("put new regions on top, with unique names and the rarest colour", () => {
    const doc = docWith("cat", "cat", "cat");
    expect(names(doc)).toEqual(["cat-3", "cat-2", "cat"]);
    expect(new Set(doc.scene.regions.map((region) => edits.markOf(doc, region.name).colour)).size).toBe(3);
  });

  it("rename a region and what belongs to it", () => {
    const [doc, name] = edits.renameRegion(edits.setMark(docWith("a", "b"), "a", { locked: true }), "a", "b");
    expect(name).toBe("b-2");
    expect(edits.markOf(doc, "b-2").locked).toBe(true);
    expect(Object.keys(doc.marks).sort()).toEqual(["b", "b-2"]);
  });

  it("move regions within the list", () => {
    const doc = docWith("c", "b", "a");
    expect(names(edits.moveRegion(doc, "a", 2))).toEqual(["b", "c", "a"]);
    expect(names(edits.moveRegion(doc, "c", -5))).toEqual(["c", "a", "b"]);
  });

  it("show one region only, and all again", () => {
    const alone = edits.solo(docWith("a", "b", "c"), "b");
    const hidden = (doc: Doc) => names(doc).filter((name) => edits.markOf(doc, name).hidden);
    expect(hidden(alone)).toEqual(["c", "a"]);
    expect(hidden(edits.solo(alone, "b"))).toEqual([]);
  });

  it("give a region exactly one shape", () => {
    const doc = edits.reshape(docWith("a"), "a", { polygon: [[0, 0], [1, 0], [0, 1]] });
    expect(doc.scene.regions[0]).toEqual({ name: "a", phrase: "a", polygon: [[0, 0], [1, 0], [0, 1]] });
  });
});

describe("exchange", () => {
  it("sends hidden regions without weight and leaves out those without content", () => {
    let doc = edits.setMark(docWith("a", "b"), "a", { hidden: true });
    [doc] = edits.addRegion(doc, box);
    expect(sceneToSend(doc).regions.map(({ name, weight }) => [name, weight])).toEqual([["b", undefined], ["a", 0]]);
  });

  it("sends the order as priority only where it counts", () => {
    const doc = docWith("low", "middle", "high");
    expect(sceneToSend(doc).regions.every((region) => region.priority === undefined)).toBe(true);
    const sent = sceneToSend(edits.updateScene(doc, { overlap: "priority" })).regions;
    expect(sent.map(({ name, priority }) => [name, priority])).toEqual([["high", 2], ["middle", 1], ["low", 0]]);
  });

  it("reads what it sends, and sends what it reads", () => {
    let doc = edits.updateScene(docWith("low", "high"), { overlap: "priority", caption: "x", seed: 3 });
    doc = edits.setMark(doc, "low", { hidden: true });
    const sent = sceneToSend(doc);
    expect(sceneToSend(docOf({ ...sent, version: 1 }))).toEqual(sent);
  });

  it("leaves out what is the default", () => {
    const full = { name: "a", box: box.box, phrase: "a cat", negative: "", weight: 1, priority: 0, start: 0, stop: 1, feather: 0, lora: [], keywords: [], mask_channel: "auto", strict: false };
    const doc = docOf({ version: 1, caption: "", guidance: 2.5, guidance_interval: [0, 1], editing: {}, lora: [], regions: [full] });
    expect(doc.scene).toEqual({ caption: "", guidance: 2.5, regions: [{ name: "a", box: box.box, phrase: "a cat" }] });
  });

  it.each([null, [], "text", { regions: 3 }, { regions: [{ name: "a" }] }])("refuses %o with a sentence", (data) => {
    expect(() => docOf(data)).toThrow(/give/);
  });

  it("knows what can be drawn", () => {
    const of = (fields: Partial<Region>) => isReady({ name: "a", ...fields });
    expect([{}, { phrase: " " }, { edit: { kind: "change", from: "a", to: "" } }].map((one) => of(one as Partial<Region>))).toEqual([false, false, false]);
    expect(of({ phrase: "a" }) && of({ edit: { kind: "remove", phrase: "a" } }) && of({ exemplar: { image: { picture: "x" } } })).toBe(true);
    expect(verbOf({ regions: [{ name: "a", edit: { kind: "add", phrase: "b" } }] })).toBe("edit");
    expect(titleOf({ name: "region-1", phrase: "a cat" })).toBe("a cat");
    expect(titleOf({ name: "pet", phrase: "a cat" })).toBe("pet");
  });
});
