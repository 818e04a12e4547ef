// The viewer: one image on a canvas that is drawn by the processor, at the depth of the file.

import { fetchCodes, fetchFacts, fetchPicture, halve } from "/static/pixels.js";
import * as tables from "/static/tables.js";

const LARGEST_ZOOM = 16, STEP = 1.25;

export class Viewer {
  constructor(canvas, tell) {
    this.canvas = canvas;
    this.tell = tell;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.scratch = document.createElement("canvas");
    this.digest = null;
    this.heat = null;
    this.opacity = 0.6;
    this.isMeasuring = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  // Show an image: first its half-size picture, then the whole depth.
  async open(digest) {
    this.digest = digest;
    Object.assign(this, { levels: null, facts: null, heat: null, preview: null, line: null });
    this.canvas.dataset.ready = "";
    const facts = fetchFacts(digest);
    facts.catch(() => null);
    fetchPicture(`/picture/${digest}/half`).then((picture) => {
      if (this.digest === digest && !this.levels) {
        this.preview = picture;
        this.size = { columns: 2 * picture.width, rows: 2 * picture.height };
        this.reset();
        this.canvas.dataset.ready = "half";
      }
    }).catch(() => null);
    try {
      const codes = await fetchCodes(digest, facts);
      if (this.digest !== digest) return;
      this.show(await facts, codes);
    } catch (error) {
      if (this.digest === digest) this.tell("note", `This image cannot be shown: ${error.message}`);
    }
  }

  show(facts, codes) {
    this.facts = facts;
    this.size = { columns: facts.columns, rows: facts.rows };
    this.levels = [{ codes, columns: facts.columns, rows: facts.rows }];
    while (Math.min(this.levels.at(-1).columns, this.levels.at(-1).rows) > 256) {
      this.levels.push(halve(this.levels.at(-1), facts));
    }
    this.modality = tables.modalityValues(facts);
    this.presets = this.offered();
    this.reset();
    this.tell("opened", facts);
    this.canvas.dataset.ready = "full";
  }

  // What the header offers: as sent, every window, every VOI LUT, the full range.
  offered() {
    const { facts, modality } = this;
    return [
      { label: "as sent", table: () => tables.asSent(facts) },
      ...facts.windows.map((w) => ({
        label: `${w.label} (${w.center}/${w.width})`, center: w.center, width: w.width,
        table: () => tables.windowTable(facts, modality, w.center, w.width),
      })),
      ...facts.voi_luts.map((lut) => ({ label: lut.label, table: () => tables.voiTable(facts, modality, lut) })),
      { label: "full range", table: () => tables.rangeTable(facts, modality) },
    ];
  }

  reset() {
    Object.assign(this, { turns: 0, isInverted: false, line: null });
    if (this.presets && this.facts) this.choose(0, false);
    this.fit();
  }

  choose(index, draw = true) {
    this.preset = index;
    this.table = this.presets[index].table();
    this.window = null;
    this.tell("window", index);
    if (draw) this.draw();
  }

  nextWindow() {
    if (this.presets) this.choose((this.preset + 1) % this.presets.length);
  }

  invert() {
    this.isInverted = !this.isInverted;
    this.draw();
  }

  turn() {
    this.turns = (this.turns + 1) % 4;
    this.fit();
  }

  fit() {
    if (!this.size) return;
    const { columns, rows } = this.turned();
    this.zoom = Math.min(this.canvas.width / columns, this.canvas.height / rows);
    this.isFit = true;
    this.center = { x: this.size.columns / 2, y: this.size.rows / 2 };
    this.draw();
  }

  // One pixel of the image on one pixel of the screen.
  full() {
    this.isFit = false;
    this.zoom = 1;
    this.draw();
  }

  zoomBy(factor) {
    this.isFit = false;
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(0.02, this.zoom * factor));
    this.draw();
  }

  turned() {
    const { columns, rows } = this.size;
    return this.turns % 2 ? { columns: rows, rows: columns } : { columns, rows };
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.isFit) this.fit();
    else this.draw();
  }

  // Image -> canvas: scaled and turned about the point in the middle, which lies on whole pixels at 1:1.
  transform() {
    const angle = (this.turns * Math.PI) / 2, cos = Math.round(Math.cos(angle)), sin = Math.round(Math.sin(angle));
    const z = this.zoom, { x, y } = this.center;
    let left = this.canvas.width / 2 - z * (cos * x - sin * y), top = this.canvas.height / 2 - z * (sin * x + cos * y);
    if (z === 1) [left, top] = [Math.round(left), Math.round(top)];
    return new DOMMatrix([z * cos, z * sin, -z * sin, z * cos, left, top]);
  }

  draw() {
    if (!this.size || !this.canvas.width) return;
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const matrix = this.transform();
    if (this.levels) this.drawCodes(matrix);
    else if (this.preview) this.drawOver(this.preview, matrix, 1);
    if (this.heat) this.drawOver(this.heat, matrix, this.opacity);
    if (this.line) this.drawLine(matrix);
    this.tell("zoom", this.zoom);
  }

  // The part of the coarsest sufficient level that is seen, through the table, onto the canvas.
  drawCodes(matrix) {
    let number = 0;
    while (number + 1 < this.levels.length && this.zoom <= 0.5 ** (number + 1)) number++;
    const level = this.levels[number], scale = this.size.columns / level.columns;
    const part = this.seen(matrix, level, scale);
    if (part.width <= 0 || part.height <= 0) return;
    const picture = this.colours(level, part);
    const { context } = this;
    if (this.zoom === 1 && this.turns === 0) {
      context.putImageData(picture, matrix.e + part.x, matrix.f + part.y);
      return;
    }
    this.scratch.width = part.width;
    this.scratch.height = part.height;
    this.scratch.getContext("2d", { willReadFrequently: true }).putImageData(picture, 0, 0);
    context.setTransform(matrix.scale(scale, this.size.rows / level.rows).translate(part.x, part.y));
    context.imageSmoothingEnabled = this.zoom < 1;
    context.imageSmoothingQuality = "low";
    context.drawImage(this.scratch, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  seen(matrix, level, scale) {
    const back = matrix.inverse(), { width, height } = this.canvas;
    const corners = [[0, 0], [width, 0], [0, height], [width, height]].map(([x, y]) => back.transformPoint({ x, y }));
    const xs = corners.map((p) => p.x / scale), ys = corners.map((p) => p.y / scale);
    const x = Math.max(0, Math.floor(Math.min(...xs))), y = Math.max(0, Math.floor(Math.min(...ys)));
    return {
      x, y,
      width: Math.min(level.columns, Math.ceil(Math.max(...xs))) - x,
      height: Math.min(level.rows, Math.ceil(Math.max(...ys))) - y,
    };
  }

  colours(level, part) {
    const palette = new Uint32Array(this.table.length);
    for (let code = 0; code < palette.length; code++) {
      const grey = this.isInverted ? 255 - this.table[code] : this.table[code];
      palette[code] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    const picture = new ImageData(part.width, part.height), out = new Uint32Array(picture.data.buffer);
    for (let row = 0, to = 0; row < part.height; row++) {
      const from = (part.y + row) * level.columns + part.x;
      for (let at = from; at < from + part.width; at++) out[to++] = palette[level.codes[at]];
    }
    return picture;
  }

  drawOver(bitmap, matrix, opacity) {
    const { context } = this;
    context.setTransform(matrix);
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = true;
    context.drawImage(bitmap, 0, 0, this.size.columns, this.size.rows);
    context.globalAlpha = 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  drawLine(matrix) {
    const { context } = this, [from, to] = this.line.map((point) => matrix.transformPoint(point));
    context.strokeStyle = "#ffd24a";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  }

  // Pointer -> image.
  at(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    const point = { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
    return this.transform().inverse().transformPoint(point);
  }

  listen() {
    let last = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      last = event;
      this.canvas.setPointerCapture(event.pointerId);
      if (this.isMeasuring && this.size) this.line = [this.at(event), this.at(event)];
    });
    this.canvas.addEventListener("pointerup", () => { last = null; });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.size) return;
      if (last) this.drag(event, event.clientX - last.clientX, event.clientY - last.clientY);
      if (last) last = event;
      this.probe(event);
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (this.size) this.zoomBy(event.deltaY < 0 ? STEP : 1 / STEP);
    }, { passive: false });
  }

  drag(event, dx, dy) {
    if (this.isMeasuring && this.line) {
      this.line[1] = this.at(event);
      this.tell("length", this.measured());
      this.draw();
    } else if (event.shiftKey || event.buttons === 4 || !this.levels) {
      this.pan(dx, dy);
    } else {
      this.windowBy(dx, dy);
    }
  }

  pan(dx, dy) {
    const ratio = window.devicePixelRatio || 1, back = this.transform().inverse();
    const from = back.transformPoint({ x: 0, y: 0 }), to = back.transformPoint({ x: dx * ratio, y: dy * ratio });
    this.isFit = false;
    this.center = { x: this.center.x - (to.x - from.x), y: this.center.y - (to.y - from.y) };
    this.draw();
  }

  windowBy(dx, dy) {
    const [low, high] = tables.modalityRange(this.facts, this.modality), step = Math.max(high - low, 1) / 500;
    const first = this.presets.find((preset) => preset.center !== undefined);
    this.window ??= first ? { center: first.center, width: first.width } : { center: (low + high) / 2, width: high - low };
    this.setWindow(this.window.center + dy * step, Math.max(1, this.window.width + dx * step));
  }

  setWindow(center, width) {
    this.window = { center, width };
    this.table = tables.windowTable(this.facts, this.modality, center, width);
    this.tell("note", `center ${center.toFixed(0)}, width ${width.toFixed(0)}`);
    this.draw();
  }

  probe(event) {
    if (!this.levels) return;
    const point = this.at(event), x = Math.floor(point.x), y = Math.floor(point.y);
    if (x < 0 || y < 0 || x >= this.size.columns || y >= this.size.rows) return this.tell("value", "");
    const code = this.levels[0].codes[y * this.size.columns + x];
    const modality = +this.modality[code].toFixed(3);
    return this.tell("value", `${x}, ${y}: stored ${tables.storedValue(this.facts, code)}, modality ${modality}`);
  }

  measured() {
    const spacing = this.facts?.spacing, [from, to] = this.line;
    if (!spacing) return "";
    const mm = Math.hypot((to.x - from.x) * spacing.column_mm, (to.y - from.y) * spacing.row_mm);
    return `${mm.toFixed(1)} mm${spacing.is_at_detector ? " at the detector" : ""}`;
  }
}
