/** The parts of Konva that are used; the others are not built in. */

export { Konva } from "konva/lib/Global";
export { Stage } from "konva/lib/Stage";
export { Layer } from "konva/lib/Layer";
export { Group } from "konva/lib/Group";
export { Rect } from "konva/lib/shapes/Rect";
export { Ellipse } from "konva/lib/shapes/Ellipse";
export { Line } from "konva/lib/shapes/Line";
export { Circle } from "konva/lib/shapes/Circle";
export { Image as Picture } from "konva/lib/shapes/Image";
export { Label, Tag } from "konva/lib/shapes/Label";
export { Text } from "konva/lib/shapes/Text";
export { Transformer } from "konva/lib/shapes/Transformer";
export type { Shape as Node } from "konva/lib/Shape";
