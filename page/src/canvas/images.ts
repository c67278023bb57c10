/** Pictures of the server as decoded images, by address. */

const images = new Map<string, Promise<HTMLImageElement>>();
const MOST = 24;

/** Load a picture once. Raises an Error where it cannot be read. */
export function image(url: string, keep = true): Promise<HTMLImageElement> {
  const found = images.get(url);
  if (found) return found;
  const loading = new Promise<HTMLImageElement>((resolve, reject) => {
    const element = new Image();
    element.onload = () => resolve(element);
    element.onerror = () => {
      images.delete(url);
      reject(new Error("A picture is gone; it may have been deleted on the server."));
    };
    element.src = url;
  });
  if (keep) images.set(url, loading);
  for (const old of images.keys()) {
    if (images.size <= MOST) break;
    images.delete(old);
  }
  return loading;
}

/** The pixels of a picture, RGBA, as they are in the file: no colour is converted. */
export async function pixels(url: string): Promise<ImageData> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error("A picture is gone; it may have been deleted on the server.");
  const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("The browser has no canvas; use another one.");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
