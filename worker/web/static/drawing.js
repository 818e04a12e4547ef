// Drawing on the viewer's canvas, by the processor: stored values through the table, a picture over them, a line.

// The part of the coarsest sufficient level that is seen, through the table, onto the canvas.
export function drawCodes(viewer, matrix) {
  let number = 0;
  while (number + 1 < viewer.levels.length && viewer.zoom <= 0.5 ** (number + 1)) number++;
  const { context, size } = viewer, level = viewer.levels[number], scale = size.columns / level.columns;
  const part = seen(viewer.canvas, matrix, level, scale);
  if (part.width <= 0 || part.height <= 0) return;
  const picture = colours(level, part, viewer.table, viewer.isInverted);
  if (viewer.zoom === 1 && viewer.turns === 0) {
    context.putImageData(picture, matrix.e + part.x, matrix.f + part.y);
    return;
  }
  viewer.scratch.width = part.width;
  viewer.scratch.height = part.height;
  viewer.scratch.getContext("2d", { willReadFrequently: true }).putImageData(picture, 0, 0);
  context.setTransform(matrix.scale(scale, size.rows / level.rows).translate(part.x, part.y));
  context.imageSmoothingEnabled = viewer.zoom < 1;
  context.imageSmoothingQuality = "low";
  context.drawImage(viewer.scratch, 0, 0);
  context.setTransform(1, 0, 0, 1, 0, 0);
}

export function drawOver(viewer, bitmap, matrix, opacity) {
  const { context, size } = viewer;
  context.setTransform(matrix);
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = true;
  context.drawImage(bitmap, 0, 0, size.columns, size.rows);
  context.globalAlpha = 1;
  context.setTransform(1, 0, 0, 1, 0, 0);
}

export function drawLine(context, matrix, line) {
  const [from, to] = line.map((point) => matrix.transformPoint(point));
  context.strokeStyle = "#ffd24a";
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
}

export function drawNothing({ context, canvas }) {
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
}

function seen({ width, height }, matrix, level, scale) {
  const back = matrix.inverse();
  const corners = [[0, 0], [width, 0], [0, height], [width, height]].map(([x, y]) => back.transformPoint({ x, y }));
  const xs = corners.map((p) => p.x / scale), ys = corners.map((p) => p.y / scale);
  const x = Math.max(0, Math.floor(Math.min(...xs))), y = Math.max(0, Math.floor(Math.min(...ys)));
  return {
    x, y,
    width: Math.min(level.columns, Math.ceil(Math.max(...xs))) - x,
    height: Math.min(level.rows, Math.ceil(Math.max(...ys))) - y,
  };
}

function colours(level, part, table, isInverted) {
  const palette = new Uint32Array(table.length);
  for (let code = 0; code < palette.length; code++) {
    const grey = isInverted ? 255 - table[code] : table[code];
    palette[code] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  const picture = new ImageData(part.width, part.height), out = new Uint32Array(picture.data.buffer);
  for (let row = 0, to = 0; row < part.height; row++) {
    const from = (part.y + row) * level.columns + part.x;
    for (let at = from; at < from + part.width; at++) out[to++] = palette[level.codes[at]];
  }
  return picture;
}
