export * from "./masks";
export * from "./paint";
export * from "./rle";
