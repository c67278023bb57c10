/** Pointers, wheel and keys as gestures: draw, pan, zoom. */

export interface Hands {
  /** Begin to draw; false leaves the pointer to others. */
  begin(event: PointerEvent): boolean;
  move(event: PointerEvent): void;
  end(event: PointerEvent): void;
  abort(): void;
  hover(event: PointerEvent | null): void;
  pan(dx: number, dy: number): void;
  zoom(factor: number, x: number, y: number): void;
  /** Whether the main button pans. */
  panning(): boolean;
}

type Mode = "none" | "draw" | "pan" | "pinch";

export class Gestures {
  private mode: Mode = "none";
  private space = false;
  private readonly pointers = new Map<number, PointerEvent>();
  private readonly ending = new AbortController();

  constructor(
    private readonly area: HTMLElement,
    private readonly hands: Hands,
  ) {
    const options = { signal: this.ending.signal };
    area.addEventListener("pointerdown", (event) => this.down(event), options);
    area.addEventListener("pointermove", (event) => this.move(event), options);
    area.addEventListener("pointerup", (event) => this.up(event), options);
    area.addEventListener("pointercancel", (event) => this.up(event), options);
    area.addEventListener("pointerleave", () => hands.hover(null), options);
    area.addEventListener("wheel", (event) => this.wheel(event), { ...options, passive: false });
    area.addEventListener("contextmenu", (event) => event.preventDefault(), options);
    window.addEventListener("keydown", (event) => this.key(event, true), options);
    window.addEventListener("keyup", (event) => this.key(event, false), options);
    window.addEventListener("blur", () => this.grab(false), options);
  }

  /** Remove all listeners. */
  stop(): void {
    this.ending.abort();
  }

  private key(event: KeyboardEvent, down: boolean): void {
    if (event.code !== "Space") return;
    const target = event.target as HTMLElement;
    if (down && target.closest("input, textarea, select, button, a, summary, [role=slider]")) return;
    if (down) event.preventDefault();
    this.grab(down);
  }

  private grab(on: boolean): void {
    this.space = on;
    this.area.classList.toggle("grabbing", on);
  }

  private down(event: PointerEvent): void {
    this.pointers.set(event.pointerId, event);
    if (this.pointers.size === 2) {
      if (this.mode === "draw") this.hands.abort();
      this.mode = "pinch";
      return;
    }
    if (this.pointers.size > 2) return;
    const pans = this.space || event.button === 1 || this.hands.panning();
    if (!pans && event.button !== 0) return;
    if (pans) {
      event.preventDefault();
      this.mode = "pan";
    } else {
      if (!this.hands.begin(event)) return;
      this.mode = "draw";
    }
    this.area.setPointerCapture(event.pointerId);
    this.area.focus({ preventScroll: true });
  }

  private move(event: PointerEvent): void {
    const last = this.pointers.get(event.pointerId);
    if (last) this.pointers.set(event.pointerId, event);
    if (this.mode === "none" || this.mode === "draw") this.hands.hover(event);
    if (!last) return;
    if (this.mode === "pan") this.hands.pan(event.clientX - last.clientX, event.clientY - last.clientY);
    if (this.mode === "pinch") this.pinch(last, event);
    if (this.mode === "draw") {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) this.hands.move(one);
    }
  }

  private pinch(last: PointerEvent, event: PointerEvent): void {
    const other = [...this.pointers.values()].find((one) => one.pointerId !== event.pointerId);
    if (!other) return;
    const apart = (one: PointerEvent) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const bounds = this.area.getBoundingClientRect();
    const x = (event.clientX + other.clientX) / 2 - bounds.left;
    const y = (event.clientY + other.clientY) / 2 - bounds.top;
    this.hands.pan((event.clientX - last.clientX) / 2, (event.clientY - last.clientY) / 2);
    if (apart(last) > 0) this.hands.zoom(apart(event) / apart(last), x, y);
  }

  private up(event: PointerEvent): void {
    if (!this.pointers.delete(event.pointerId)) return;
    if (this.mode === "draw") {
      if (event.type === "pointercancel") this.hands.abort();
      else this.hands.end(event);
    }
    if (!this.pointers.size || this.mode === "draw") this.mode = "none";
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    if (event.shiftKey) {
      this.hands.pan(-(event.deltaX || event.deltaY), 0);
      return;
    }
    const bounds = this.area.getBoundingClientRect();
    this.hands.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - bounds.left, event.clientY - bounds.top);
  }
}
