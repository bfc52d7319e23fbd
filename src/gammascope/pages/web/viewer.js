// The picture with its overlays: compare modes, opacity, zoom, pan.

const MAX_ZOOM = 12;

const ON_REQUEST = "shown on request; nothing stood out";
const UNSHOWN = "This browser cannot show this format. The overlay lies where it would be.";

const viewer = { zoom: 1, x: 0, y: 0, layers: {}, quiet: [], overlay: true, tiles: "", size: [1, 1], drag: null };

function showPicture(item) {
  const found = picture(item);
  const stage = byId("stage");
  stage.replaceChildren();
  byId("tools").hidden = !found;
  byId("map-key").hidden = !found;
  if (!found) {
    stage.append(element("p", { class: "no-picture" }, "Pictures are kept only for the most suspicious rows of this scan. Open the original file to look at this one."));
    return;
  }
  viewer.size = [found.width, found.height];
  stage.style.setProperty("--aspect", found.width / found.height);
  const names = Object.keys(found.layers).filter((name) => baseOf(name) !== "unexamined");
  // A localiser paints a little on every picture. Where the verdict is "no sign" its map stays off until asked for.
  viewer.quiet = names.filter((name) => item.answers[name] && item.answers[name].verdict === "no sign");
  // What the answer rests on lies on the picture; its single reasons, and hints, wait for a click unless they are all there is.
  const loud = names.filter((name) => !viewer.quiet.includes(name));
  const first = loud.some((name) => !forensicLayer(name)) ? loud.filter((name) => !forensicLayer(name)) : loud;
  viewer.layers = Object.fromEntries(names.map((name) => [name, first.includes(name)]));
  viewer.overlay = names.some((name) => viewer.layers[name]);
  if (!viewer.overlay) for (const name of names) viewer.layers[name] = true;
  const photo = () => element("img", { class: "photo", src: found.preview, alt: `Preview of ${item.name}`, draggable: "false" });
  const layers = element("div", { class: "layers", "aria-hidden": "true" });
  for (const [name, source] of Object.entries(found.layers)) layers.append(layer(name, source));
  if (found.repeats && found.repeats.length) layers.append(copyMarks(found));
  viewer.tiles = "";
  const tiled = [found.tiles, ...(found.further_tiles || [])].filter((tiles) => tiles && tiles.scores);
  for (const tiles of tiled) {
    for (const question of Object.keys(tiles.scores)) layers.append(tileLayer({ ...found, tiles }, question));
  }
  const questions = tiled.flatMap((tiles) => Object.keys(tiles.scores));
  stage.append(
    element("div", { class: "pane plain" }, element("div", { class: "box" }, photo())),
    element("div", { class: "pane marked" }, element("div", { class: "box" }, photo(), layers)),
    element("div", { class: "divider", "aria-hidden": "true" }));
  drawToggles(item, names, Object.keys(found.layers).length > names.length, questions);
  setZoom(1);
  fit();
}

// The page of a scan holds its overlays as image files, the page of a server paints them itself.
function layer(name, source) {
  const node = typeof source === "string" ? element("img", { src: source, alt: "", draggable: "false" }) : source;
  node.className = `layer ${baseOf(name)}`;
  node.dataset.layer = name;
  return node;
}

const forensicLayer = (name) => name.startsWith("forensics:");

function drawing(parent, tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

// All places that show one piece bear one number, and lines join them.
function copyMarks({ width, height, repeats }) {
  const svg = drawing(document.createDocumentFragment(), "svg", { class: "copies", viewBox: `0 0 ${width} ${height}` });
  const radius = 0.025 * Math.max(width, height);
  repeats.forEach((shares, group) => {
    const [[x1, y1], ...others] = shares.map(([x, y]) => [x * width, y * height]);
    for (const [x2, y2] of others) drawing(svg, "line", { x1, y1, x2, y2 });
    for (const [x, y] of [[x1, y1], ...others]) {
      drawing(svg, "circle", { cx: x, cy: y, r: radius });
      drawing(svg, "text", { x, y, "font-size": 1.3 * radius }, `${group + 1}`);
    }
  });
  return svg;
}

// Neighbouring tiles overlap; drawn, they meet halfway.
function apart(boxes) {
  const meet = (spans) => {
    const sorted = [...new Map(spans.map((span) => [span.join(), span])).values()].sort((a, b) => a[0] - b[0]);
    return new Map(sorted.map(([from, to], index) => {
      const before = sorted[index - 1];
      const after = sorted[index + 1];
      return [`${from},${to}`, [before && before[1] > from ? (before[1] + from) / 2 : from, after && after[0] < to ? (after[0] + to) / 2 : to]];
    }));
  };
  const rows = meet(boxes.map(([, top, , bottom]) => [top, bottom]));
  const columns = new Map();
  for (const [left, top, right] of boxes) columns.set(top, [...(columns.get(top) || []), [left, right]]);
  for (const [top, spans] of columns) columns.set(top, meet(spans));
  return boxes.map(([left, top, right, bottom]) => {
    const [from, to] = columns.get(top).get(`${left},${right}`);
    const [above, below] = rows.get(`${top},${bottom}`);
    return [from, above, to, below];
  });
}

// Every tile with its score: what the detector said of each part alone, before the parts were pooled.
function tileLayer(found, question) {
  const { width, height, tiles } = found;
  const edges = apart(tiles.boxes);
  const svg = drawing(document.createDocumentFragment(), "svg",
    { class: `tiles ${baseOf(question)}`, viewBox: `0 0 ${width} ${height}`, "data-tiles": question });
  const scores = tiles.scores[question];
  for (const [number, [left, top, right, bottom]] of edges.entries()) {
    const [x, y, w, h] = [left * width, top * height, (right - left) * width, (bottom - top) * height];
    const score = scores[number];
    drawing(svg, "rect", { x, y, width: w, height: h, "fill-opacity": (0.5 * (score ?? 0)).toFixed(3) });
    const size = Math.min(w / 3, h / 2, 18);
    if (size < 7) continue;
    drawing(svg, "text", { x: x + w / 2, y: y + h / 2, "font-size": size.toFixed(1) }, shortNumber(score));
  }
  return svg;
}

function drawToggles(item, names, hatched, tiled) {
  const toggles = names.map((name) => element("button", { type: "button", "data-layer": name },
    element("span", { class: `swatch ${baseOf(name)}` }), 
    element("span", {}, words(name).layer, viewer.quiet.includes(name) ? element("small", {}, ON_REQUEST) : null)));
  if (names.length) toggles.push(element("button", { type: "button", "data-layer": "" }, "None"));
  byId("layer-toggles").hidden = !toggles.length;
  byId("tile-toggles").hidden = !tiled.length;
  byId("tile-toggles").replaceChildren(...tiled.map((question) =>
    element("button", { type: "button", "data-tiles": question }, `Tiles: ${words(question).layer.toLowerCase()}`)));
  byId("layer-toggles").replaceChildren(...toggles);
  byId("opacity").parentElement.hidden = !names.length;
  byId("modes").hidden = !names.length && !tiled.length;
  if (byId("modes").hidden) setMode("overlay");
  const key = byId("map-key");
  key.replaceChildren();
  if (!names.length) {
    const draws = item.report.evidence.some((evidence) => evidence.name.startsWith("mask:"));
    key.append(draws ? "No map: nothing stood out." : "This method draws no map of the picture.");
  } else {
    for (const name of names) key.append(element("span", {}, element("span", { class: `ramp ${baseOf(name)}` }),
      viewer.quiet.includes(name) ? `${words(name).layer}: ${ON_REQUEST}` : words(name).layer));
    key.append(element("span", {}, "deeper tint: higher value; line: one half"));
    if (names.some(forensicLayer)) key.append(element("span", {}, "gaps inside a mark: too dark, bright or smooth to measure"));
    if (document.querySelector("#stage .copies")) key.append(element("span", {}, "1 – 1: the same piece again"));
  }
  if (hatched) key.append(element("span", {}, element("span", { class: "swatch hatched" }), "not examined"));
  key.append(element("span", {}, PREVIEW_NOTE));
  applyLayers();
}

const visible = (name) => viewer.overlay && viewer.layers[name];

// What was not looked at is always shown; of several detectors, with their own maps only.
function marksUnseen(detector) {
  return !detector || Object.keys(viewer.layers).some((name) => detectorOf(name) === detector && visible(name));
}

function applyLayers() {
  for (const image of document.querySelectorAll("#stage .layer")) {
    const name = image.dataset.layer;
    image.hidden = baseOf(name) === "unexamined" ? !marksUnseen(detectorOf(name)) : !visible(name);
  }
  for (const tiles of document.querySelectorAll("#stage .tiles")) {
    tiles.classList.toggle("absent", tiles.dataset.tiles !== viewer.tiles);
  }
  // Of several detectors, the first alone has forensic findings.
  const copied = Object.keys(viewer.layers).some((name) => ["edited", "forensics:cloning"].includes(baseOf(name)) && visible(name));
  for (const marks of document.querySelectorAll("#stage .copies")) marks.classList.toggle("absent", !copied);
  for (const button of document.querySelectorAll("#tile-toggles button")) {
    button.setAttribute("aria-pressed", String(button.dataset.tiles === viewer.tiles));
  }
  for (const button of document.querySelectorAll("#layer-toggles button")) {
    const name = button.dataset.layer;
    const pressed = name ? viewer.overlay && viewer.layers[name] : !viewer.overlay;
    button.setAttribute("aria-pressed", String(pressed));
  }
}

function toggleTiles(question) {
  viewer.tiles = viewer.tiles === question ? "" : question;
  applyLayers();
}

function toggleLayer(name) {
  if (!name) {
    viewer.overlay = false;
  } else if (!viewer.overlay) {
    for (const key of Object.keys(viewer.layers)) viewer.layers[key] = key === name;
    viewer.overlay = true;
  } else {
    viewer.layers[name] = !viewer.layers[name];
    if (!Object.values(viewer.layers).some(Boolean)) {
      viewer.layers[name] = true;
      viewer.overlay = false;
    }
  }
  applyLayers();
}

function toggleOverlay() {
  viewer.overlay = !viewer.overlay;
  applyLayers();
}

function setMode(mode) {
  byId("stage").dataset.mode = mode;
  byId("swipe-control").hidden = mode !== "swipe";
  for (const button of document.querySelectorAll("#modes button")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  fit();
}

function setOpacity(percent) {
  byId("stage").style.setProperty("--overlay-opacity", percent / 100);
}

function setSwipe(percent) {
  byId("stage").style.setProperty("--swipe", `${percent}%`);
}

// Small pictures are enlarged a little at most, so that their pixels are not mistaken for detail.
function fit() {
  for (const pane of document.querySelectorAll("#stage .pane")) {
    const [width, height] = viewer.size;
    const scale = Math.min(pane.clientWidth / width, pane.clientHeight / height, 2);
    const box = pane.firstElementChild;
    box.style.width = `${Math.max(1, width * scale)}px`;
    box.style.height = `${Math.max(1, height * scale)}px`;
  }
  move();
}

function setZoom(zoom) {
  viewer.zoom = Math.min(MAX_ZOOM, Math.max(1, zoom));
  if (viewer.zoom === 1) viewer.x = viewer.y = 0;
  byId("zoom-level").textContent = `${viewer.zoom.toFixed(viewer.zoom < 10 && viewer.zoom % 1 ? 1 : 0)}×`;
  byId("stage").classList.toggle("zoomed", viewer.zoom > 1);
  byId("stage").classList.toggle("pixels", viewer.zoom >= 4);
  move();
}

function move() {
  const box = [...document.querySelectorAll("#stage .box")].find((candidate) => candidate.offsetWidth);
  if (!box) return;
  const reach = (viewer.zoom - 1) / 2;
  viewer.x = Math.min(reach * box.offsetWidth, Math.max(-reach * box.offsetWidth, viewer.x));
  viewer.y = Math.min(reach * box.offsetHeight, Math.max(-reach * box.offsetHeight, viewer.y));
  const style = byId("stage").style;
  style.setProperty("--x", `${viewer.x}px`);
  style.setProperty("--y", `${viewer.y}px`);
  style.setProperty("--zoom", viewer.zoom);
}

function zoomBy(name) {
  setZoom(name === "fit" ? 1 : viewer.zoom * (name === "in" ? 1.5 : 1 / 1.5));
}

// What a button opens or closes moves the focus; a key held down a little long would press the button that has it then.
function pressOnce(event) {
  if (event.repeat && event.key === "Enter" && event.target.matches("button")) event.preventDefault();
}

function startViewer() {
  const stage = byId("stage");
  addEventListener("keydown", pressOnce, true);
  byId("layer-toggles").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) toggleLayer(button.dataset.layer);
  });
  byId("tile-toggles").addEventListener("click", (event) => {
    if (event.target.dataset.tiles) toggleTiles(event.target.dataset.tiles);
  });
  byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value));
  byId("swipe").addEventListener("input", (event) => setSwipe(event.target.value));
  byId("modes").addEventListener("click", (event) => {
    if (event.target.dataset.mode) setMode(event.target.dataset.mode);
  });
  byId("zooms").addEventListener("click", (event) => {
    if (event.target.dataset.zoom) zoomBy(event.target.dataset.zoom);
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    setZoom(viewer.zoom * 1.0015 ** -event.deltaY);
  }, { passive: false });
  stage.addEventListener("dblclick", () => setZoom(viewer.zoom > 1 ? 1 : 3));
  stage.addEventListener("pointerdown", (event) => {
    viewer.drag = [event.clientX - viewer.x, event.clientY - viewer.y];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!viewer.drag) return;
    if (viewer.zoom === 1 && stage.dataset.mode === "swipe") {
      const area = stage.getBoundingClientRect();
      const percent = Math.round(Math.min(100, Math.max(0, 100 * (event.clientX - area.left) / area.width)));
      byId("swipe").value = percent;
      setSwipe(percent);
      return;
    }
    [viewer.x, viewer.y] = [event.clientX - viewer.drag[0], event.clientY - viewer.drag[1]];
    move();
  });
  for (const ending of ["pointerup", "pointercancel"]) stage.addEventListener(ending, () => { viewer.drag = null; });
  new ResizeObserver(fit).observe(stage);
  setMode("overlay");
  setOpacity(byId("opacity").value);
  setSwipe(byId("swipe").value);
}
