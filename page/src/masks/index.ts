export * from "./masks";
export * from "./paint";
