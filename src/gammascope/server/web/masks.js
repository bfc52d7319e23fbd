"use strict";
// From the grey masks of a report to painted overlays; the same look as the page of a scan.

const COLOURS = {
  generated: [255, 133, 0], edited: [30, 136, 255], "forensics:quantisation": [224, 33, 138], "forensics:consistency": [0, 158, 96],
  "forensics:variance": [142, 92, 255], "forensics:shifted": [178, 84, 40], "forensics:grids": [0, 170, 200],
  "forensics:cloning": [232, 190, 0], "forensics:noise": [128, 140, 0],
};
// A mark is its outline: what lies inside is the evidence, and several reasons may lie on it.
const FULL_TINT = 0.4;
const REASON_TINT = 0.15;
const FAINTEST = 0.1; // below this a map is noise and is not drawn
const LAYER_SIDE = 1000;
const HATCH_PERIOD = 12;

// All overlays of a picture by name; of several detectors, each has its own.
async function overlays({ width, height }, opinions) {
  const found = {};
  for (const { detector, report } of opinions) {
    const keyOf = (name) => (opinions.length > 1 ? `${name}@${detector}` : name);
    let hatching = null;
    for (const one of report.evidence) {
      const name = one.name.replace("mask:", "");
      const colour = COLOURS[name];
      if (!one.mask || !colour) continue;
      const values = await valuesOf(one.mask, width, height);
      found[keyOf(name)] = tinted(values, colour, aboutParts(one) ? REASON_TINT : FULL_TINT);
      if (!aboutParts(one) && values.seen.includes(0)) hatching = hatched(values);
    }
    if (hatching) found[keyOf("unexamined")] = hatching;
  }
  return found;
}

// Read the PNG and enlarge it smoothly to what a screen shows: values 0..255, and where the method looked.
async function valuesOf(mask, fullWidth, fullHeight) {
  const bytes = Uint8Array.from(atob(mask.png), (sign) => sign.charCodeAt(0));
  const raw = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const small = await createImageBitmap(new Blob([bytes], { type: "image/png" }), raw);
  const scale = Math.min(1, LAYER_SIDE / Math.max(fullWidth, fullHeight));
  const width = Math.max(1, Math.round(fullWidth * scale));
  const height = Math.max(1, Math.round(fullHeight * scale));
  const context = canvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(small, 0, 0, width, height);
  small.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  const value = new Uint8Array(width * height);
  const seen = new Uint8Array(width * height);
  for (let index = 0; index < value.length; index += 1) {
    value[index] = pixels[4 * index];
    seen[index] = pixels[4 * index + 3] >= 128 ? 1 : 0;
  }
  return { width, height, value, seen };
}

function tinted({ width, height, value, seen }, [red, green, blue], tint) {
  const inside = (x, y) => value[y * width + x] > 127 && seen[y * width + x] === 1;
  return painted(width, height, (x, y) => {
    const share = seen[y * width + x] ? value[y * width + x] / 255 : 0;
    const edge = inside(x, y) && !surrounded(inside, x, y, width, height);
    return [red, green, blue, edge ? 255 : share < FAINTEST ? 0 : Math.round(255 * tint * share)];
  });
}

// Whether all pixels two steps away are inside, too; beyond the picture counts as inside.
function surrounded(inside, x, y, width, height) {
  return [[-2, 0], [2, 0], [0, -2], [0, 2]].every(([right, down]) => {
    const [column, row] = [x + right, y + down];
    return column < 0 || row < 0 || column >= width || row >= height || inside(column, row);
  });
}

function hatched({ width, height, seen }) {
  return painted(width, height, (x, y) => {
    if (seen[y * width + x]) return [0, 0, 0, 0];
    return (x + y) % HATCH_PERIOD < HATCH_PERIOD / 4 ? [235, 238, 242, 130] : [70, 74, 80, 120];
  });
}

function painted(width, height, colourAt) {
  const drawn = canvas(width, height);
  const context = drawn.getContext("2d");
  const picture = context.createImageData(width, height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) picture.data.set(colourAt(x, y), 4 * (y * width + x));
  }
  context.putImageData(picture, 0, 0);
  return drawn;
}

function canvas(width, height) {
  const made = document.createElement("canvas");
  made.width = width;
  made.height = height;
  return made;
}
