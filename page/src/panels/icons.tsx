/** Lucide's icons, by what the page means by them. */

import {
  ArrowDown,
  ArrowUp,
  Brush,
  Check,
  ChevronLeft,
  ChevronRight,
  Circle,
  CircleDot,
  CircleQuestionMark,
  Columns2,
  Contrast,
  Copy,
  Diff,
  Download,
  Eraser,
  Eye,
  EyeOff,
  Grid3x3,
  History,
  Lasso,
  Lock,
  LockOpen,
  Minus,
  MousePointer2,
  Move,
  Pentagon,
  Plus,
  Redo2,
  Scan,
  Square,
  Trash2,
  Undo2,
  X,
} from "lucide-preact";

const ICONS = {
  select: MousePointer2,
  box: Square,
  ellipse: Circle,
  polygon: Pentagon,
  lasso: Lasso,
  brush: Brush,
  eraser: Eraser,
  pan: Move,
  undo: Undo2,
  redo: Redo2,
  eye: Eye,
  eyeOff: EyeOff,
  lock: Lock,
  unlock: LockOpen,
  solo: CircleDot,
  copy: Copy,
  trash: Trash2,
  up: ArrowUp,
  down: ArrowDown,
  plus: Plus,
  minus: Minus,
  fit: Scan,
  left: ChevronLeft,
  right: ChevronRight,
  compare: Columns2,
  difference: Diff,
  check: Check,
  close: X,
  restore: History,
  save: Download,
  theme: Contrast,
  help: CircleQuestionMark,
  grid: Grid3x3,
} as const;

export type IconName = keyof typeof ICONS;

/** An icon; the control that has it has the label. */
export function Icon({ name }: { name: IconName }) {
  const Drawn = ICONS[name];
  return <Drawn class="icon" size={18} strokeWidth={1.8} focusable="false" aria-hidden="true" />;
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
