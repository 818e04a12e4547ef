// Stored values of an image: fetched packed, unpacked, and halved for small zooms.

// Row differences in one or two byte planes -> codes (see worker/web/packing.py).
export function unpack(planes, facts) {
  const n = facts.rows * facts.columns, columns = facts.columns;
  const codes = facts.bytes_per_value === 1 ? planes.slice(0, n) : new Uint16Array(n);
  if (facts.bytes_per_value === 2) for (let i = 0; i < n; i++) codes[i] = planes[i] | (planes[i + n] << 8);
  for (let i = columns; i < n; i++) codes[i] += codes[i - columns];
  return codes;
}

// The same picture at half its size: means of 2 x 2 stored values. Signed codes are compared by their value.
export function halve(level, facts) {
  const columns = level.columns >> 1, rows = level.rows >> 1;
  const codes = new level.codes.constructor(columns * rows);
  const flip = facts.is_signed ? 1 << (facts.bits - 1) : 0;
  for (let y = 0, to = 0; y < rows; y++) {
    for (let x = 0, at = 2 * y * level.columns; x < columns; x++, at += 2, to++) {
      const below = at + level.columns, from = level.codes;
      const sum = (from[at] ^ flip) + (from[at + 1] ^ flip) + (from[below] ^ flip) + (from[below + 1] ^ flip);
      codes[to] = ((sum + 2) >> 2) ^ flip;
    }
  }
  return { codes, columns, rows };
}

export async function fetchFacts(digest) {
  const answer = await fetch(`/picture/${digest}/facts`);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

export async function fetchCodes(digest, facts) {
  const answer = await fetch(`/picture/${digest}/pixels`);
  if (!answer.ok) throw new Error(await answer.text());
  return unpack(new Uint8Array(await answer.arrayBuffer()), await facts);
}

export async function fetchPicture(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return createImageBitmap(await answer.blob());
}
