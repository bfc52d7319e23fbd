"use strict";
// The visit: pictures in the order they came, one of them shown in full. Kept in this tab only.

const PREVIEW_NOTE = "Your own file, as this browser shows it.";

const STATES = {
  waiting: "Waiting", sending: "Sending", examining: "Examining", busy: "Server busy", failed: "Not examined", done: "",
};

const visit = { entries: [], current: null, number: 0 };

// What the viewer asks for.
const picture = (entry) => ({
  width: entry.report.width, height: entry.report.height, preview: entry.unshown ? null : entry.url, layers: entry.layers,
});

// What each detector says, from the one row that the server sends.
function opinionsIn({ second_opinions: further = [], ...first }) {
  return [first, ...further].map((one) =>
    opinion(one.detector || "", one, { method: one.method, weights_sha256: one.weights_sha256 }, further.length > 0));
}

function add(files) {
  const fresh = [...files].map((file) => {
    visit.number += 1;
    const name = printable(file.name || `Pasted picture ${visit.number}`);
    return {
      id: visit.number, file, name, url: URL.createObjectURL(file), state: "waiting", details: {}, report: null, layers: {}, answers: {},
      get profile() { return server.bounds ? server.bounds.profile : ""; },
    };
  });
  if (!fresh.length) return;
  byId("visit").hidden = false;
  document.body.classList.add("visited");
  for (const entry of fresh) {
    visit.entries.push(entry);
    entry.tell = (state, details) => tell(entry, state, details || {});
    entry.node = drawEntry(entry);
    byId("history").append(entry.node);
  }
  say(fresh.length === 1 ? `${fresh[0].name} was added.` : `${fresh.length} pictures were added.`);
  if (!visit.current) select(fresh[0]);
  for (const entry of fresh) enqueue(entry);
}

async function tell(entry, state, details) {
  if (entry.dropped) return;
  if (state === "done") {
    const { report, version } = details;
    const opinions = opinionsIn(report);
    const layers = await overlays(report, opinions);
    if (entry.dropped) return;
    Object.assign(entry, {
      report, opinions, layers, version, answers: answersOf(opinions), differences: differences(opinions),
      written: new Date().toISOString(), from: `Server ${location.host}`, whole: "the report",
    });
    say(`${entry.name}: ${spoken(entry)}.`);
  }
  if (state === "failed") {
    say(`${entry.name} was not examined. ${details.detail}`);
    if (details.status === 401) askForKey();
  }
  Object.assign(entry, { state, details });
  fillEntry(entry);
  if (visit.current === entry) draw();
}

function spoken(entry) {
  return Object.entries(entry.answers).map(([question, answer]) =>
    `${words(question).column}: ${[chipWord(answer.verdict, question), against(answer)].filter(Boolean).join(", ")}`).join("; ");
}

function drawEntry(entry) {
  const image = element("img", { alt: "", src: entry.url, decoding: "async" });
  image.addEventListener("error", () => image.replaceWith(element("span", { class: "blank", "aria-hidden": "true" }, "–")));
  const button = element("button", { type: "button", class: "entry", "data-id": entry.id }, image,
    element("span", { class: "entry-words" }, element("bdi", { class: "entry-name" }, entry.name), element("span", { class: "entry-state" })));
  button.addEventListener("click", () => select(entry, true));
  const node = element("li", {}, button);
  entry.node = node;
  fillEntry(entry);
  return node;
}

function fillEntry(entry) {
  const state = entry.node.querySelector(".entry-state");
  entry.node.dataset.state = entry.state;
  if (entry.state === "done") {
    state.replaceChildren(...entry.opinions.map((one) => entryOpinion(one, entry.opinions.length > 1)));
    if (entry.differences.length) state.append(element("span", { class: "differs" }, "Detectors differ"));
    return;
  }
  if (entry.state === "failed") {
    state.replaceChildren(element("span", { class: "chip broken" }, STATES.failed));
    return;
  }
  state.replaceChildren(element("span", {}, entry.state === "busy" ? entry.details.detail : STATES[entry.state]), progress(entry));
}

function entryOpinion({ detector, answers }, several) {
  return element("span", { class: "entry-opinion" }, several ? element("bdi", {}, printable(detector)) : null,
    ...Object.entries(answers).map(([question, answer]) =>
      element("span", { class: "entry-answer" }, element("span", { class: `swatch ${baseOf(question)}` }),
        element("span", { class: "hidden" }, `${words(question).column}: `), chip(answer.verdict, question))));
}

function progress(entry) {
  const label = `${STATES[entry.state]}: ${entry.name}`;
  return entry.state === "sending"
    ? element("progress", { max: 1, value: entry.details.share || 0, "aria-label": label })
    : element("progress", { "aria-label": label });
}

function select(entry, asked) {
  visit.current = entry;
  for (const other of visit.entries) {
    other.node.firstElementChild.setAttribute("aria-current", String(other === entry));
  }
  draw();
  // On a phone the result lies below the list.
  if (asked && matchMedia("(max-width: 68rem)").matches) byId("result").scrollIntoView({ block: "start" });
}

function draw() {
  const entry = visit.current;
  byId("result-name").replaceChildren(entry ? element("bdi", {}, entry.name) : "No picture yet");
  const done = Boolean(entry && entry.state === "done");
  byId("download").disabled = byId("print").disabled = !done;
  byId("download-all").disabled = !visit.entries.some((other) => other.report);
  byId("wait").hidden = done;
  byId("body").hidden = !done;
  if (done) {
    if (byId("panel").dataset.id === String(entry.id)) return;
    byId("panel").dataset.id = entry.id;
    showPicture(entry);
    watchPhoto(entry);
    byId("panel").replaceChildren(...findings(entry));
    byId("panel").scrollTop = 0;
    return;
  }
  byId("panel").dataset.id = "";
  byId("wait").replaceChildren(...(entry ? waiting(entry) : []));
}

function waiting(entry) {
  if (entry.state === "failed") {
    const said = [element("p", { class: "wait-title" }, "This picture was not examined."), element("p", { id: "problem" }, entry.details.detail)];
    // What is wrong with the file itself would be wrong again.
    if ([413, 415, 422].includes(entry.details.status)) return said;
    const again = element("button", { type: "button" }, "Try again");
    again.addEventListener("click", () => {
      enqueue(entry); // takes the button away
      byId("result-name").focus({ preventScroll: true });
    });
    return [...said, again];
  }
  return [element("p", { class: "wait-title" }, entry.state === "busy" ? entry.details.detail : `${STATES[entry.state]} …`), progress(entry)];
}

// HEIC and TIFF are examined, but few browsers can show them.
function watchPhoto(entry) {
  for (const image of document.querySelectorAll("#stage .photo")) {
    image.addEventListener("error", () => {
      entry.unshown = true;
      image.replaceWith(element("p", { class: "no-picture" }, UNSHOWN));
    });
  }
}

function say(text) {
  byId("said").textContent = text;
}

function askForKey() {
  if (!byId("key-form").hidden) return; // several pictures may be refused while the key is being typed
  byId("key-form").hidden = false;
  byId("key").focus();
}

async function useKey(event) {
  event.preventDefault();
  const key = byId("key").value.trim();
  server.key = key;
  const status = await askForBounds();
  if (server.key !== key || byId("key-form").hidden) return; // another one was tried meanwhile, or this one twice
  showBounds();
  if (status !== 200) {
    say("This key is not known here.");
    byId("key").setAttribute("aria-invalid", "true");
    if (byId("key").value.trim() === key) byId("key").select(); // the next one may be half typed
    return;
  }
  byId("key").removeAttribute("aria-invalid");
  byId("key-form").hidden = true;
  byId("choose-button").focus();
  for (const entry of visit.entries) if (entry.details.status === 401) enqueue(entry);
}

function showBounds() {
  if (!server.bounds) return;
  byId("bounds").textContent = `JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF, BMP; up to ${megabytes(server.bounds.file_bytes)} and ` +
    `${Math.floor(server.bounds.pixels / 1e6)} megapixels each. Examined on this server in memory, and not stored.`;
}

function plainReport(entry) {
  const unmasked = (one) => ({ ...one, evidence: one.evidence.map(({ mask, ...rest }) => rest) });
  const { second_opinions: further, ...first } = entry.report;
  const beside = further ? { second_opinions: further.map(unmasked) } : {};
  return { ...unmasked(first), ...beside, version: entry.version, examined: entry.written };
}

function save(name, content) {
  const link = element("a", { download: name });
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function clear() {
  for (const entry of visit.entries) {
    entry.dropped = true;
    URL.revokeObjectURL(entry.url);
  }
  line.length = 0;
  Object.assign(visit, { entries: [], current: null });
  byId("history").replaceChildren();
  byId("visit").hidden = true;
  document.body.classList.remove("visited");
  draw();
  say("The list is empty.");
  byId("choose-button").focus();
}

function stepInList(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const entry = visit.entries[visit.entries.indexOf(visit.current) + by];
  if (!by || !entry) return;
  event.preventDefault();
  select(entry);
  entry.node.firstElementChild.focus();
}

function viewKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=password]")) return;
  if (byId("body").hidden || byId("visit").hidden) return;
  const action = {
    o: toggleOverlay, "+": () => zoomBy("in"), "=": () => zoomBy("in"), "-": () => zoomBy("out"), 0: () => zoomBy("fit"),
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function startDropping() {
  const drop = byId("drop");
  let depth = 0;
  const mark = (by) => {
    depth = Math.max(0, depth + by);
    drop.classList.toggle("over", depth > 0);
  };
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => { if (holdsFiles(event)) mark(1); });
  addEventListener("dragleave", (event) => { if (holdsFiles(event)) mark(-1); });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(-depth);
    add(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData && event.clipboardData.files.length) add(event.clipboardData.files);
  });
}

async function start() {
  startViewer();
  startDropping();
  startPrinting(() => (visit.current && visit.current.state === "done" ? visit.current : null));
  byId("choose-button").addEventListener("click", () => byId("choose").click());
  byId("choose").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  byId("history").addEventListener("keydown", stepInList);
  document.addEventListener("keydown", viewKey);
  byId("download").addEventListener("click", () => save(`${visit.current.name}.report.json`, plainReport(visit.current)));
  byId("download-all").addEventListener("click", () => save("reports.json",
    visit.entries.map((entry) => (entry.report ? plainReport(entry) : { image: entry.name, problem: entry.details.detail || entry.state }))));
  byId("clear").addEventListener("click", clear);
  byId("key-form").addEventListener("submit", useKey);
  if (await askForBounds() === 401) askForKey();
  showBounds();
}

start();
