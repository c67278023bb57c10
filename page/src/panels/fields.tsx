/** Form fields. Each change of a field in a row is one step of the history, until the field is left. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { seal } from "../state/store";

interface Common {
  label: string;
  hint?: string;
  /** Why the field cannot be used. */
  reason?: string | null;
}

function Reason({ id, text }: { id: string; text: string | null | undefined }) {
  return text ? (
    <p class="reason" id={id}>
      {text}
    </p>
  ) : null;
}

/** Text of one or more lines. */
export function TextField(props: Common & {
  value: string;
  id?: string;
  rows?: number;
  list?: string;
  placeholder?: string;
  onInput: (value: string) => void;
}) {
  const own = useId();
  const id = props.id ?? own;
  const shared = {
    id,
    value: props.value,
    placeholder: props.placeholder,
    disabled: !!props.reason,
    "aria-describedby": props.reason ? `${id}-why` : undefined,
    onInput: (event: Event) => props.onInput((event.currentTarget as HTMLInputElement).value),
    onBlur: seal,
  };
  return (
    <div class="field">
      <label for={id} title={props.hint}>
        {props.label}
      </label>
      {props.rows ? <textarea rows={props.rows} maxLength={2000} {...shared} /> : <input type="text" maxLength={2000} {...shared} />}
      <Reason id={`${id}-why`} text={props.reason} />
    </div>
  );
}

/** A number; empty means the default. While it is typed the field shows what is typed. lazy: it counts when it is left. */
export function NumberField(props: Common & {
  value: number | undefined;
  min?: number;
  max?: number;
  step?: number;
  placeholder?: string;
  lazy?: boolean;
  onInput: (value: number | undefined) => void;
}) {
  const id = useId();
  const [typed, setTyped] = useState<string | null>(null);
  const { min = -Infinity, max = Infinity } = props;
  const take = (field: HTMLInputElement, complete: boolean) => {
    if (field.validity.badInput) return;
    const value = field.value === "" ? undefined : field.valueAsNumber;
    if (value !== undefined && (value < min || value > max) && !complete) return;
    const next = value === undefined ? undefined : Math.min(max, Math.max(min, value));
    if (next !== props.value) props.onInput(next);
  };
  return (
    <div class="field">
      <label for={id} title={props.hint}>
        {props.label}
      </label>
      <input
        id={id}
        type="number"
        value={typed ?? props.value ?? ""}
        min={props.min}
        max={props.max}
        step={props.step ?? "any"}
        placeholder={props.placeholder}
        disabled={!!props.reason}
        aria-describedby={props.reason ? `${id}-why` : undefined}
        onInput={(event) => {
          setTyped(event.currentTarget.value);
          if (!props.lazy) take(event.currentTarget, false);
        }}
        onChange={(event) => take(event.currentTarget, true)}
        onBlur={() => {
          setTyped(null);
          seal();
        }}
      />
      <Reason id={`${id}-why`} text={props.reason} />
    </div>
  );
}

/** A slider with its value. */
export function Slider(props: Common & {
  value: number;
  min: number;
  max: number;
  step: number;
  show?: (value: number) => string;
  onInput: (value: number) => void;
}) {
  const id = useId();
  const text = (props.show ?? String)(props.value);
  return (
    <div class="field slider">
      <label for={id} title={props.hint}>
        {props.label}
      </label>
      <input
        id={id}
        type="range"
        min={props.min}
        max={props.max}
        step={props.step}
        value={props.value}
        disabled={!!props.reason}
        aria-valuetext={text}
        onInput={(event) => props.onInput(event.currentTarget.valueAsNumber)}
        onChange={seal}
      />
      <output for={id}>{text}</output>
      <Reason id={`${id}-why`} text={props.reason} />
    </div>
  );
}

export interface Choice {
  value: string;
  label: string;
  reason?: string | null;
}

/** One of several values. */
export function Select(props: Common & { value: string; choices: Choice[]; onChange: (value: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id} title={props.hint}>
        {props.label}
      </label>
      <select
        id={id}
        value={props.value}
        disabled={!!props.reason}
        aria-describedby={props.reason ? `${id}-why` : undefined}
        onChange={(event) => props.onChange(event.currentTarget.value)}
      >
        {props.choices.map(({ value, label, reason }) => (
          <option key={value} value={value} disabled={!!reason} title={reason ?? undefined}>
            {reason ? `${label} (not with this model)` : label}
          </option>
        ))}
      </select>
      <Reason id={`${id}-why`} text={props.reason} />
    </div>
  );
}

/** Yes or no. */
export function Check(props: Common & { checked: boolean; onChange: (checked: boolean) => void }) {
  return (
    <label class="check" title={props.hint}>
      <input
        type="checkbox"
        checked={props.checked}
        disabled={!!props.reason}
        onChange={(event) => props.onChange(event.currentTarget.checked)}
      />
      <span>{props.label}</span>
    </label>
  );
}

/** A part of a panel that opens and closes. open: opens it when it becomes true. */
export function Section(props: { title: string; open?: boolean; children: ComponentChildren }) {
  const [open, setOpen] = useState(!!props.open);
  useEffect(() => {
    if (props.open) setOpen(true);
  }, [props.open]);
  return (
    <details class="section" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{props.title}</summary>
      <div class="section-body">{props.children}</div>
    </details>
  );
}
