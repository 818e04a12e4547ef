// The viewer: one image on a canvas that is drawn by the processor, at the depth of the file.

import { drawCodes, drawLine, drawNothing, drawOver } from "/static/drawing.js";
import { fetchCodes, fetchFacts, fetchPicture, halve } from "/static/pixels.js";
import * as tables from "/static/tables.js";

const LARGEST_ZOOM = 16, STEP = 1.25;

// How far an arrow key moves the picture, and how far a pointer moves in a click.
const ARROW_PX = 60, CLICK_PX = 4;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

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
    this.isLineOpen = false;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  // Show an image: first its half-size picture, then the whole depth. The one before it is gone at once: if this one
  // cannot be shown, no other picture stands under its name.
  async open(digest) {
    this.digest = digest;
    Object.assign(this, { levels: null, facts: null, size: null, heat: null, preview: null, line: null, isLineOpen: false });
    drawNothing(this);
    this.tell("value", "");
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

  // What the header offers: as sent, every window, every VOI LUT, the full range. A drag begins at a preset's window,
  // where it has none at the full range.
  offered() {
    const { facts, modality } = this, first = facts.voi_luts.length ? undefined : facts.windows[0];
    return [
      { label: "as sent", center: first?.center, width: first?.width, table: () => tables.asSent(facts) },
      ...facts.windows.map((w) => ({
        label: `${w.label} (${w.center}/${w.width})`, center: w.center, width: w.width,
        table: () => tables.windowTable(facts, modality, w.center, w.width),
      })),
      ...facts.voi_luts.map((lut) => ({ label: lut.label, table: () => tables.voiTable(facts, modality, lut) })),
      { label: "full range", table: () => tables.rangeTable(facts, modality) },
    ];
  }

  reset() {
    Object.assign(this, { turns: 0, isInverted: false, line: null, isLineOpen: false });
    if (this.presets && this.facts) this.choose(0, false);
    this.tell("reset");
    this.fit();
  }

  choose(index, draw = true) {
    this.preset = index;
    this.table = this.presets[index].table();
    this.window = null;
    this.tell("window", index);
    this.tell("note", "");
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

  // The point of the image that is named stays where it is.
  zoomBy(factor, point = this.center) {
    if (!this.size) return;
    const before = this.zoom;
    this.isFit = false;
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(0.02, before * factor));
    const left = before / this.zoom;
    this.center = { x: point.x + (this.center.x - point.x) * left, y: point.y + (this.center.y - point.y) * left };
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
    drawNothing(this);
    const matrix = this.transform();
    if (this.levels) drawCodes(this, matrix);
    else if (this.preview) drawOver(this, this.preview, matrix, 1);
    if (this.heat) drawOver(this, this.heat, matrix, this.opacity);
    if (this.line) drawLine(this.context, matrix, this.line);
    this.tell("zoom", this.zoom);
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
      if (this.isMeasuring && this.levels) this.measure(event);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      last = null;
      if (this.isLineOpen && this.stretch(event) > CLICK_PX) this.isLineOpen = false;
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.size) return;
      if (this.isLineOpen) this.stretch(event);
      else if (last && !this.isMeasuring) this.drag(event, event.clientX - last.clientX, event.clientY - last.clientY);
      if (last) last = event;
      this.probe(event);
    });
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (this.size) this.zoomBy(event.deltaY < 0 ? STEP : 1 / STEP, this.at(event));
    }, { passive: false });
    this.canvas.addEventListener("keydown", (event) => {
      const move = ARROWS[event.key];
      if (!move || !this.size || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      if (!event.shiftKey) this.pan(...move.map((part) => -part * ARROW_PX));
      else if (this.levels) this.windowBy(...move.map((part) => part * ARROW_PX / 4));
    });
  }

  // A line by a drag, or by two clicks.
  measure(event) {
    if (!this.isLineOpen) this.line = [this.at(event), this.at(event)];
    this.isLineOpen = !this.isLineOpen;
    this.stretch(event);
  }

  // The line up to here; its length on the screen.
  stretch(event) {
    this.line[1] = this.at(event);
    this.tell("note", this.measured());
    this.draw();
    return Math.hypot(this.line[1].x - this.line[0].x, this.line[1].y - this.line[0].y) * this.zoom;
  }

  drag(event, dx, dy) {
    if (event.shiftKey || event.buttons === 4 || !this.levels) {
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
    const { center = (low + high) / 2, width = high - low } = this.presets[this.preset];
    this.window ??= { center, width };
    this.setWindow(this.window.center + dy * step, Math.max(1, this.window.width + dx * step));
  }

  setWindow(center, width) {
    this.window = { center, width };
    this.table = tables.windowTable(this.facts, this.modality, center, width);
    this.tell("window", this.presets.length);
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
