// The list: counts, filters, sorting, rows drawn as they come into view.

const ROWS_AT_ONCE = 60;

const view = { search: "", verdict: {}, caveats: false, said: false, failed: false, sort: "suspicion", descending: true };
let shown = [];
let drawn = 0;

const ORDERS = {
  suspicion: { label: "Most suspicious first", value: (item) => item.suspicion, descending: true },
  name: { label: "Name", value: (item) => item.sought, descending: false },
  id: { label: "Order of the scan", value: (item) => item.id, descending: false },
  caveats: { label: "Most caveats first", value: (item) => (item.report ? item.caveats.length : -1), descending: true },
};
for (const question of PAGE.questions) {
  ORDERS[`answer:${question}`] = {
    label: `${words(question).column}: highest first`,
    value: (item) => (item.answers[question] ? height(item.answers[question]) : -1),
    descending: true,
  };
}

// Without numbers, verdicts alone tell which answer is higher.
function height(answer) {
  return numbered(answer) ? answer.probability ?? -0.5 : Object.keys(CHIPS).reverse().indexOf(answer.verdict);
}

function matches(item) {
  if (view.search && !item.sought.includes(view.search)) return false;
  if (view.failed) return item.failed !== null;
  if (view.caveats && !item.caveats.length) return false;
  if (view.said && !item.said.length) return false;
  return Object.entries(view.verdict).every(
    ([question, wanted]) => !wanted || (item.answers[question] && item.answers[question].verdict === wanted));
}

function compare(a, b) {
  const { value } = ORDERS[view.sort];
  const x = value(a);
  const y = value(b);
  const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  return (view.descending ? -order : order) || a.id - b.id;
}

function update() {
  shown = items.filter(matches).sort(compare);
  drawn = 0;
  byId("rows").replaceChildren();
  drawMore();
  byId("empty").hidden = shown.length > 0;
  const all = `${items.length} ${items.length === 1 ? "file" : "files"}`;
  byId("shown").textContent = shown.length === items.length ? all : `${shown.length} of ${all}`;
  byId("download").textContent = `Download JSON (${shown.length})`;
  byId("download-table").textContent = "CSV";
  byId("sort").value = view.sort;
  byId("with-caveats").checked = view.caveats;
  byId("with-findings").checked = view.said;
  for (const select of document.querySelectorAll("#question-filters select")) {
    select.value = view.verdict[select.dataset.question] || "";
  }
  for (const head of document.querySelectorAll("#columns th[data-order]")) {
    const sorted = head.dataset.order === view.sort;
    head.setAttribute("aria-sort", sorted ? (view.descending ? "descending" : "ascending") : "none");
  }
  for (const button of document.querySelectorAll("#counts button")) {
    const { failed, question, verdict } = button.dataset;
    const pressed = failed ? view.failed : !view.failed && view.verdict[question] === verdict;
    button.setAttribute("aria-pressed", String(pressed));
  }
}

function drawMore(until = drawn + ROWS_AT_ONCE) {
  const next = shown.slice(drawn, until);
  byId("rows").append(...next.map(row));
  drawn += next.length;
  // Observing afresh asks again whether the end of the list is still in view.
  ends.unobserve(byId("more"));
  if (drawn < shown.length) ends.observe(byId("more"));
}

const ends = new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting)) drawMore();
}, { rootMargin: "800px" });

const thumbnails = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    thumbnails.unobserve(entry.target);
    fillThumbnail(entry.target);
  }
}, { rootMargin: "400px" });

function fillThumbnail(image) {
  image.src = picture(itemOf.get(Number(image.dataset.id))).thumbnail;
}

function row(item) {
  const line = element("tr", { role: "row", "data-id": item.id, class: item.failed !== null ? "failed" : null });
  const thumb = element("td", { role: "cell", class: "thumb" });
  if (item.pictured) {
    const image = element("img", { alt: "", loading: "lazy", decoding: "async", "data-id": item.id });
    thumbnails.observe(image);
    thumb.append(image);
  } else {
    thumb.append(element("span", { class: "blank", "aria-hidden": "true" }, item.failed !== null ? "!" : "–"));
  }
  const cut = item.name.lastIndexOf("/") + 1;
  const label = element("bdi", {}, cut ? element("span", { class: "folder" }, item.name.slice(0, cut)) : null,
    item.name.slice(cut) || item.name);
  const name = element("td", { role: "cell", class: "name" });
  if (item.report) {
    name.append(element("button", { type: "button", class: "open", "data-id": item.id }, label),
      element("span", { class: "size" }, `${item.report.width} × ${item.report.height}`),
      item.said.length ? element("span", { class: "says" }, `File: ${item.said.join(", ")}`) : "",
      item.marked.length ? element("span", { class: "says" }, `Part: ${item.marked.join(", ")}`) : "",
      item.differences.length ? element("span", { class: "differs" }, "Detectors differ") : "");
  } else {
    name.append(element("span", { class: "open", tabindex: "0", "data-id": item.id }, label));
  }
  line.append(thumb, name);
  if (item.failed !== null) {
    line.append(element("td", { role: "cell", class: "reason", colspan: PAGE.questions.length + 1 },
      element("span", { class: "chip broken" }, "Not examined"), " ", printable(item.failed)));
    return line;
  }
  for (const question of PAGE.questions) line.append(answerCell(item, question));
  const caveats = item.caveats.map((caveat) => element("li", {}, printable(caveat)));
  line.append(element("td", { role: "cell", class: "caveats" }, caveats.length ? element("ul", {}, ...caveats) : null));
  return line;
}

function answerCell(item, question) {
  const answer = item.answers[question];
  const cell = element("td", { role: "cell", class: "answer", "data-label": words(question).column });
  if (!answer) {
    cell.append(element("span", { class: "absent", title: "no answer" }, "–"));
    return cell;
  }
  cell.append(chip(answer.verdict, question));
  if (numbered(answer) && judged(answer)) {
    const number = element("span", { class: "number", title: against(answer) }, asHigh(answer) || against(answer));
    cell.append(number, bar(answer));
  }
  return cell;
}

function drawCounts() {
  const reports = items.filter((item) => item.report);
  for (const question of PAGE.questions) {
    const asked = reports.filter((item) => item.answers[question]);
    const group = element("section", { class: "count", "aria-label": words(question).column },
      element("h2", {}, element("span", { class: `swatch ${baseOf(question)}` }), words(question).column));
    const buttons = element("div", { class: "count-buttons" });
    for (const verdict of Object.keys(CHIPS)) {
      const number = asked.filter((item) => item.answers[question].verdict === verdict).length;
      const button = element("button", {
        type: "button", class: `count-button ${styleOf(verdict)}`, "data-question": question, "data-verdict": verdict,
        "aria-pressed": "false", "aria-label": `${words(question).column}: ${chipWord(verdict, question)}, ${number}`,
      }, element("b", {}, String(number)), element("span", {}, chipWord(verdict, question)));
      button.style.setProperty("--share", asked.length ? number / asked.length : 0);
      buttons.append(button);
    }
    group.append(buttons);
    byId("counts").append(group);
  }
  const failed = items.length - reports.length;
  if (failed) {
    const button = element("button", {
      type: "button", class: "count-button broken", "data-failed": "yes", "aria-pressed": "false",
      "aria-label": `Not examined: ${failed}`,
    }, element("b", {}, String(failed)), element("span", {}, "Files"));
    byId("counts").append(element("section", { class: "count small", "aria-label": "Not examined" },
      element("h2", {}, "Not examined"), element("div", { class: "count-buttons" }, button)));
  }
}

function drawControls() {
  const head = (label, order, extra) => {
    const cell = element("th", { role: "columnheader", scope: "col", class: extra, "data-order": order });
    cell.append(order ? element("button", { type: "button", "data-order": order }, label) : label);
    return cell;
  };
  byId("columns").append(element("th", { role: "columnheader", scope: "col", class: "thumb" },
    element("span", { class: "hidden" }, "Preview")), head("Picture", "name", "name"),
    ...PAGE.questions.map((question) => head(words(question).column, `answer:${question}`, "answer")),
    head("Caveats", "caveats", "caveats"));
  for (const [key, order] of Object.entries(ORDERS)) byId("sort").append(element("option", { value: key }, order.label));
  for (const question of PAGE.questions) {
    const select = element("select", { "data-question": question }, element("option", { value: "" }, "any verdict"),
      ...Object.keys(CHIPS).map((verdict) => element("option", { value: verdict }, chipWord(verdict, question))));
    byId("question-filters").append(element("label", {}, element("span", {}, words(question).column), select));
  }
  byId("with-findings").parentElement.hidden = !items.some((item) => item.said.length);
  const bare = items.filter((item) => item.report && !item.pictured).length;
  if (bare) {
    byId("limited").hidden = false;
    byId("limited").textContent = `To keep this file small, only the ${items.filter((item) => item.pictured).length} most ` +
      `suspicious pictures are shown; ${bare} others are listed without a picture.`;
  }
}
