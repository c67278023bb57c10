/** A picture that is dropped, pasted or chosen. */

import { useId, useState } from "preact/hooks";
import { api, thumbUrl } from "../api/client";
import { shown } from "../state/jobs";
import { attempt } from "../state/store";
import { IconButton } from "./icons";

export function PictureField(props: {
  label: string;
  picture: string | null;
  reason?: string | null;
  onPicture: (id: string | null) => void;
}) {
  const id = useId();
  const [over, setOver] = useState(false);
  const now = shown.value?.picture;
  const take = (file: File | null | undefined) => {
    if (file && !props.reason) void attempt(async () => props.onPicture((await api.upload(file)).id));
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    event.stopPropagation();
    setOver(false);
    take(event.dataTransfer?.files[0]);
  };
  const paste = (event: ClipboardEvent) => {
    event.stopPropagation();
    take(event.clipboardData?.files[0]);
  };
  return (
    <div
      class={`picture-field${over ? " over" : ""}${props.reason ? " off" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        event.stopPropagation();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
      onPaste={paste}
    >
      {props.picture && <img src={thumbUrl(props.picture, 128)} alt={`${props.label}, now`} />}
      <div class="picture-text">
        <label for={id}>{props.label}</label>
        <input
          id={id}
          type="file"
          accept="image/png,image/jpeg,image/webp"
          disabled={!!props.reason}
          onChange={(event) => {
            take(event.currentTarget.files?.[0]);
            event.currentTarget.value = "";
          }}
        />
        <span class="quiet">
          Drop, paste or choose a picture.
          {now && !props.reason && (
            <button type="button" class="link" onClick={() => props.onPicture(now)}>
              Use the one shown
            </button>
          )}
        </span>
      </div>
      {props.picture && <IconButton icon="close" label={`Remove ${props.label}`} onClick={() => props.onPicture(null)} />}
      {props.reason && <p class="reason">{props.reason}</p>}
    </div>
  );
}
