// Look-up tables from stored values to display values, by the formulas of the Standard (PS3.3 C.11).

// The stored value that each code means; two's complement where the values are signed (PS3.5 8.1.1).
export function storedValue(facts, code) {
  return facts.is_signed && code >= 2 ** (facts.bits - 1) ? code - 2 ** facts.bits : code;
}

// Modality LUT Sequence, else Rescale Slope and Intercept (C.11.1.1), for every code.
export function modalityValues(facts) {
  const values = new Float64Array(2 ** facts.bits);
  const lut = facts.modality_lut;
  for (let code = 0; code < values.length; code++) {
    const stored = storedValue(facts, code);
    values[code] = lut ? entry(lut, stored) : stored * facts.slope + facts.intercept;
  }
  return values;
}

function entry(lut, value) {
  return lut.data[Math.min(lut.data.length - 1, Math.max(0, Math.round(value) - lut.first))];
}

const SHAPES = {
  LINEAR: (x, c, w) => (w === 1 ? Number(x > c - 0.5) : (x - (c - 0.5)) / (w - 1) + 0.5),
  LINEAR_EXACT: (x, c, w) => (x - c) / w + 0.5,
  SIGMOID: (x, c, w) => 1 / (1 + Math.exp(-4 * (x - c) / w)),
};

function table(facts, modality, shown) {
  const made = new Uint8Array(modality.length);
  for (let code = 0; code < made.length; code++) {
    const value = Math.min(1, Math.max(0, shown(modality[code])));
    made[code] = Math.round(255 * (facts.is_monochrome1 ? 1 - value : value));
  }
  return made;
}

export function windowTable(facts, modality, center, width) {
  const shape = SHAPES[facts.function];
  return table(facts, modality, (x) => shape(x, center, width));
}

export function voiTable(facts, modality, lut) {
  return table(facts, modality, (x) => entry(lut, x) / (2 ** lut.bits - 1));
}

export function rangeTable(facts, modality) {
  const [low, high] = modalityRange(facts, modality);
  return table(facts, modality, (x) => (x - low) / Math.max(high - low, Number.MIN_VALUE));
}

// The smallest and largest modality value between the smallest and largest stored value of the image.
export function modalityRange(facts, modality) {
  const code = (value) => (value < 0 ? value + 2 ** facts.bits : value);
  const ends = facts.range.map((value) => modality[code(value)]);
  return [Math.min(...ends), Math.max(...ends)];
}

export function asSent(facts) {
  return Uint8Array.from(atob(facts.as_sent), (letter) => letter.charCodeAt(0));
}
