// What was found in one picture: verdicts, what weakens them, what they rest on, where all that comes from.

function findings(item) {
  const { report } = item;
  const parts = Object.entries(item.answers).map(([question, answer]) => finding(question, answer, report.calibrated));
  if (!report.calibrated) {
    parts.push(element("p", { class: "notice" }, "Not calibrated: these numbers were not fitted on held-out photographs. " +
      "They rank pictures; they are no probabilities, and the thresholds promise no rate of false alarms."));
  }
  if (report.caveats.length) {
    parts.push(listOf("What weakens these verdicts", report.caveats.map((caveat) => element("li", {}, printable(caveat))), "weak"));
  }
  if (report.evidence.length) parts.push(listOf("What they rest on", report.evidence.map(evidenceItem), "strong"));
  parts.push(listOf("What this cannot tell you", LIMITS.map((limit) => element("li", {}, limit)), "limits"));
  parts.push(element("section", {}, element("h3", {}, "Where this comes from"), origin(item)));
  return parts;
}

function finding(question, answer, calibrated) {
  const lines = words(question);
  const scale = element("div", { class: "scale" }, bar(answer));
  const marks = element("div", { class: "marks", "aria-hidden": "true" });
  for (const [index, threshold] of (answer.thresholds || []).entries()) {
    const mark = element("span", { class: index ? "upper" : "lower" }, threshold.toFixed(2));
    mark.style.setProperty("--at", threshold);
    marks.append(mark);
  }
  scale.append(marks);
  const number = element("p", { class: "number" },
    element("span", {}, calibrated ? "Probability " : "Score ", element("b", {}, shortNumber(answer.probability)), ";"), " ",
    element("span", {}, answer.thresholds
      ? `uncertain from ${answer.thresholds[0].toFixed(2)}, likely from ${answer.thresholds[1].toFixed(2)}`
      : "no thresholds are known"));
  return element("section", { class: `finding ${answer.verdict}` },
    element("h3", {}, element("span", { class: `swatch ${question}` }), lines.column, chip(answer.verdict)),
    element("p", { class: "plainly" }, lines[answer.verdict]), scale, number,
    answer.thresholds
      ? element("p", { class: "explained" }, EXPLAINED[answer.verdict].slice(0, calibrated ? 2 : 1).join(" ")) : null);
}

function evidenceItem(evidence) {
  const line = element("li", {}, printable(evidence.statement));
  if (evidence.marked_share !== undefined) {
    const examined = evidence.examined_share < 1 ? `${share(evidence.examined_share)} of the picture was examined; ` : "";
    line.append(element("span", { class: "shares" }, ` (${examined}marked above one half: ${share(evidence.marked_share)}${examined ? " of that" : " of the picture"})`));
  }
  return line;
}

function share(value) {
  if (value > 0 && value < 0.01) return "under 1 %";
  if (value < 1 && value > 0.99) return "over 99 %";
  return `${Math.round(100 * value)} %`;
}

function listOf(heading, lines, kind) {
  return element("section", { class: kind }, element("h3", {}, heading), element("ul", {}, ...lines));
}

function origin(item) {
  const facts = [["File", item.name], ["Size", `${item.report.width} × ${item.report.height} pixels`],
    ["Method", item.spoke.method], ["Weights, SHA-256", item.spoke.weights_sha256], ["Report written", item.written]];
  return element("dl", { class: "origin" }, ...facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, printable(value))))));
}
