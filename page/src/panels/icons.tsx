/** Icons, drawn for this page on a grid of 20. */

const PATHS = {
  select: "M5 3l10 6-4.5 1.2L13 16l-2.4 1-2.4-5.6L5 14z",
  box: "M3.500 4.500h13v11h-13z",
  ellipse: "M10 4.500c4 0 7 2.500 7 5.500s-3 5.500-7 5.500-7-2.500-7-5.500 3-5.500 7-5.500z",
  polygon: "M10 3l7 5-2.500 8.500h-9L3 8z",
  lasso: "M10 3.500c4 0 7 1.900 7 4.500s-3 4.500-7 4.500-7-1.900-7-4.500 3-4.500 7-4.500zM6 12c-1.500 1-1.500 2.500 0 3s2 1.500.5 2.500",
  brush: "M16.500 3.500L9 11M8 10.500c-2 0-3 1.200-3 3S4 16 3 16.500c3 .8 6.500 0 6.500-3.500",
  eraser: "M8 16.500l-4.500-4.500 7.500-8 5.500 5.500-7 7zM6.500 8.800l5.500 5.500M8 16.500h8.500",
  pan: "M10 3v14M3 10h14M10 3L8 5M10 3l2 2M10 17l-2-2M10 17l2-2M3 10l2-2M3 10l2 2M17 10l-2-2M17 10l-2 2",
  undo: "M7 4L3.500 7.500 7 11M4 7.500h7.500a4.500 4.500 0 0 1 0 9H8",
  redo: "M13 4l3.500 3.500L13 11M16 7.500H8.500a4.500 4.500 0 0 0 0 9H12",
  eye: "M2.500 10c2-3.500 4.500-5 7.500-5s5.500 1.500 7.500 5c-2 3.500-4.500 5-7.500 5s-5.500-1.500-7.500-5zM10 7.800a2.200 2.200 0 1 1 0 4.400 2.200 2.200 0 0 1 0-4.400z",
  eyeOff: "M3 3l14 14M8 5.300c4-1 7.300.7 9.500 4.700-.6 1-1.200 1.900-2 2.600M12.500 14.500c-4 1.300-7.700-.2-10-4.500.7-1.300 1.600-2.400 2.600-3.200",
  lock: "M5 9h10v7.500H5zM7 9V6.500a3 3 0 0 1 6 0V9",
  unlock: "M5 9h10v7.500H5zM7 9V6.500a3 3 0 0 1 5.700-1.300",
  solo: "M10 4a6 6 0 1 1 0 12 6 6 0 0 1 0-12zM10 8.500a1.500 1.500 0 1 1 0 3 1.500 1.500 0 0 1 0-3z",
  copy: "M7.500 7.500h9v9h-9zM4 12.500H3.500v-9h9V4",
  trash: "M3.500 5.500h13M8 5.500V3.500h4v2M5.500 5.500l.8 11h7.400l.8-11M8.500 8.500v5M11.500 8.500v5",
  up: "M10 16V4M5.500 8.500L10 4l4.500 4.500",
  down: "M10 4v12M5.500 11.500L10 16l4.500-4.500",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  fit: "M3.500 7V3.500H7M13 3.500h3.500V7M16.500 13v3.500H13M7 16.500H3.500V13",
  left: "M12.500 4L6.500 10l6 6",
  right: "M7.500 4l6 6-6 6",
  compare: "M10 2.500v15M7 5.500H3.500v9H7M13 5.500h3.500v9H13",
  difference: "M7.500 5a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12.500 5a5 5 0 1 1 0 10 5 5 0 0 1 0-10z",
  check: "M4 10.500l4 4 8-9",
  close: "M5 5l10 10M15 5L5 15",
  restore: "M4 10a6 6 0 1 0 2-4.500M4 3.500v3.500h3.500M10 7v3.500l2.500 1.500",
  save: "M10 3v9.500M6 9l4 4 4-4M3.500 16.500h13",
  theme: "M10 3.500a6.500 6.500 0 1 0 0 13zM10 3.500a6.500 6.500 0 0 1 0 13",
  help: "M7.500 8a2.500 2.500 0 1 1 3.500 2.300c-.7.300-1 .8-1 1.700M10 14.500v.5M10 2.500a7.500 7.500 0 1 0 0 15 7.500 7.500 0 0 0 0-15z",
  grid: "M3.500 3.500h13v13h-13zM3.500 8h13M3.500 12.500h13M8 3.500v13M12.500 3.500v13",
  spark: "M10 3l1.700 5.300L17 10l-5.300 1.700L10 17l-1.700-5.300L3 10l5.300-1.700z",
} as const;

export type IconName = keyof typeof PATHS;

/** An icon; the control that has it has the label. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A square button with an icon. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: (event: MouseEvent) => void;
  pressed?: boolean;
  disabled?: boolean;
}) {
  const { icon, label, onClick, pressed, disabled } = props;
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
