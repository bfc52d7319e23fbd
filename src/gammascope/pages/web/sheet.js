// One picture on one sheet of paper, A4 or Letter: for whoever decides, and for the file. Shared by the page of a scan and
// the page of a server.

// What both sizes leave inside the margins of the style sheet, and a little less.
const SHEET_HEIGHT_MM = 248;
const SHEET_FONTS_PT = [10, 9.5, 9, 8.5, 8, 7.5, 7];

// What may go where even the smallest letters do not fit, the dearest last.
const DISPENSABLE = [".limits", ".bounds", ".explained", ".provenance li", ".weak li", ".strong li"];

function sheetOf(item) {
  const found = picture(item);
  const photo = element("figure", {}, found ? printed(found) : null, element("figcaption", {}, found ? `${PREVIEW_NOTE} ${layersSaid(found)}` : "This scan keeps no preview of this picture."));
  const parts = findings(item);
  const comes = parts.pop();
  return element("section", { id: "sheet" },
    element("header", {}, element("h2", {}, element("bdi", {}, item.name)),
      element("p", {}, `gammascope ${item.version} · ${item.written.slice(0, 16).replace("T", " ")} UTC · ${item.from}`)),
    element("div", { class: "print-side" }, photo, comes), element("div", { class: "print-findings" }, ...parts));
}

// With the maps that are shown now. Its room is known before it is decoded, or the sheet would grow afterwards.
function printed(found) {
  const photo = found.preview ? element("img", { src: found.preview, alt: "" }) : element("p", { class: "no-picture" }, UNSHOWN);
  const box = element("div", { class: "print-box" }, photo, ...visibleLayers(found).map(
    (name) => element("img", { src: sourceOf(found.layers[name]), alt: "", class: `layer ${baseOf(name)}`, "data-layer": name })));
  box.style.aspectRatio = found.width / found.height;
  box.style.width = `min(100%, ${120 * found.width / found.height}mm)`;
  return box;
}

const sourceOf = (layer) => (typeof layer === "string" ? layer : layer.toDataURL());

const visibleLayers = (found) => Object.keys(found.layers).filter((name) => baseOf(name) !== "unexamined" && visible(name));

function layersSaid(found) {
  const said = visibleLayers(found).map((name) => `${words(name).layer}${viewer.quiet.includes(name) ? ` (${ON_REQUEST})` : ""}`);
  return said.length ? `Overlay: ${said.join(", ")}; deeper tint: higher value.` : "";
}

// Smaller letters first; then what can be spared goes, and the sheet says how much.
function fitSheet(sheet, item) {
  const limit = SHEET_HEIGHT_MM * 96 / 25.4;
  const fits = () => sheet.getBoundingClientRect().height <= limit;
  for (const size of SHEET_FONTS_PT) {
    sheet.style.fontSize = `${size}pt`;
    if (fits()) return;
  }
  const note = element("p", { class: "print-left-out" });
  sheet.append(note);
  let gone = 0;
  for (const kind of DISPENSABLE) {
    for (const part of [...sheet.querySelectorAll(kind)].reverse()) {
      part.remove();
      gone += 1;
      note.textContent = `${gone} ${gone === 1 ? "part" : "parts"} left out for want of room: see ${item.whole}.`;
      if (fits()) return;
    }
  }
}

function layOut(item) {
  const sheet = sheetOf(item);
  document.body.append(sheet);
  fitSheet(sheet, item);
}

// The item is what is open now, or null.
function startPrinting(open) {
  byId("print").addEventListener("click", () => print());
  addEventListener("beforeprint", () => {
    const item = open();
    if (item && !byId("sheet")) layOut(item);
  });
  addEventListener("afterprint", () => byId("sheet")?.remove());
}
