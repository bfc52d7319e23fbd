// Wiring. The content security policy forbids handlers in the markup, so all are attached here.

function sortBy(order, flip) {
  view.descending = flip && view.sort === order ? !view.descending : ORDERS[order].descending;
  view.sort = order;
  update();
}

function reset() {
  Object.assign(view, { search: "", verdict: {}, caveats: false, said: false, failed: false });
  byId("search").value = "";
  sortBy("suspicion", false);
}

function countPressed(button) {
  const { question, verdict, failed } = button.dataset;
  if (failed) {
    Object.assign(view, { failed: !view.failed, verdict: {}, caveats: false, said: false });
  } else {
    view.failed = false;
    view.verdict[question] = view.verdict[question] === verdict ? "" : verdict;
  }
  update();
}

function download(name, type, text) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function listKey(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const from = event.target.closest("tr");
  if (!by || !from) return;
  event.preventDefault();
  if (by > 0 && !from.nextElementSibling) drawMore();
  const to = by > 0 ? from.nextElementSibling : from.previousElementSibling;
  if (to) {
    to.querySelector(".open").focus();
    to.scrollIntoView({ block: "nearest" });
  }
}

function startList() {
  byId("list").classList.toggle("many", PAGE.questions.length > 1);
  byId("list").classList.toggle("crowded", PAGE.questions.length > 3);
  drawCounts();
  drawControls();
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("search").addEventListener("input", (event) => {
    view.search = event.target.value.trim().toLowerCase();
    update();
  });
  byId("question-filters").addEventListener("change", (event) => {
    view.failed = false;
    view.verdict[event.target.dataset.question] = event.target.value;
    update();
  });
  byId("with-caveats").addEventListener("change", (event) => {
    Object.assign(view, { caveats: event.target.checked, failed: false });
    update();
  });
  byId("with-findings").addEventListener("change", (event) => {
    Object.assign(view, { said: event.target.checked, failed: false });
    update();
  });
  byId("sort").addEventListener("change", (event) => sortBy(event.target.value, false));
  byId("columns").addEventListener("click", (event) => {
    if (event.target.dataset.order && event.target.matches("button")) sortBy(event.target.dataset.order, true);
  });
  byId("counts").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) countPressed(button);
  });
  byId("reset").addEventListener("click", reset);
  byId("download").addEventListener("click", () =>
    download("report.json", "application/json", JSON.stringify(exported(shown), null, 2)));
  // The mark at the beginning tells spreadsheets that the text is UTF-8.
  byId("download-table").addEventListener("click", () => download("report.csv", "text/csv", `\ufeff${table(shown)}`));
  byId("rows").addEventListener("click", (event) => {
    const line = event.target.closest("tr");
    // Selecting text in a row is not a click on it; a key on its button is, whatever is selected elsewhere.
    const selecting = event.detail > 0 && String(getSelection());
    if (line && !selecting) openDetail(Number(line.dataset.id));
  });
  byId("rows").addEventListener("keydown", listKey);
  addEventListener("beforeprint", () => {
    drawMore(shown.length);
    for (const image of document.querySelectorAll("#rows img:not([src])")) fillThumbnail(image);
  });
}

function startAbout() {
  byId("about-numbers").hidden = !PAGE.numbers;
  byId("limits").append(...LIMITS.map((limit) => element("li", {}, limit)));
  for (const [name, [label, meaning]] of Object.entries(STRENGTHS)) {
    byId("strengths").append(element("dt", {}, element("span", { class: `strength ${name}` }, label)), element("dd", {}, meaning));
  }
  byId("strengths").append(element("dt", {}, element("span", { class: "strength decides" }, DECIDES[0])), element("dd", {}, DECIDES[1]));
  for (const spoke of PAGE.weights) {
    byId("weights").append(element("dt", {}, `Method ${printable(spoke.method)}, weights SHA-256`),
      element("dd", {}, element("code", {}, printable(spoke.weights_sha256))));
  }
}

startList();
startAbout();
startViewer();
startDetail();
startPrinting(() => current);
update();
