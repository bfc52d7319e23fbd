// What was found in one picture: verdicts, what to bear in mind, what they rest on, where all that comes from.

const DECLARED = "The file itself declares a generator, though nothing was found in its pixels: see “What the file says about its " +
  "origin”. Anyone can write that, and fakes are missed: weigh both.";

function findings(item, further = null) {
  const { report, opinions } = item;
  const parts = opinions.length > 1 ? sideBySide(item) : pixels(opinions[0]);
  if (declaresGenerator(report) && report.verdict === "no sign") parts.unshift(element("p", { class: "notice declared" }, DECLARED));
  const file = report.evidence.filter(aboutFile);
  if (file.length) parts.push(provenance(file));
  if (further) parts.push(further);
  parts.push(listOf("What this cannot tell you", LIMITS.map((limit) => element("li", {}, limit)), "limits"));
  parts.push(element("section", {}, element("h3", {}, "Where this comes from"), origin(item)));
  return parts;
}

// What one detector says of the pixels, and what weakens and supports that.
function pixels({ report, answers: given }) {
  const parts = Object.entries(given).map(([question, answer]) => finding(question, answer, report.calibrated));
  if (!report.calibrated && Object.values(given).every(judged)) {
    parts.push(element("p", { class: "notice" }, "Not calibrated: these numbers were not fitted on held-out photographs. " +
      "They rank pictures; they are no probabilities, and the thresholds promise no rate of false alarms."));
  }
  if (report.caveats.length) {
    parts.push(listOf("What to bear in mind", report.caveats.map((caveat) => element("li", {}, printable(caveat))), "weak"));
  }
  const seen = report.evidence.filter((one) => !aboutFile(one) && !aboutParts(one));
  if (seen.length) parts.push(listOf("What they rest on", seen.map(evidenceItem), "strong"));
  if (report.stability) parts.push(stability(report));
  const inside = report.evidence.filter(aboutParts);
  if (inside.length) parts.push(forensics(inside));
  return parts;
}

// Each detector for itself: nothing is made of their answers together but the statement that they differ.
function sideBySide(item) {
  const differ = item.differences.length ? item.differences : ["The detectors say the same wherever they are asked the same."];
  const each = item.opinions.map((opinion) => element("article", { class: "opinion", "aria-label": opinion.detector },
    element("h3", {}, "Detector ", element("bdi", {}, printable(opinion.detector))), ...pixels(opinion)));
  return [element("section", { class: item.differences.length ? "differing" : "agreeing" },
    ...differ.map((sentence) => element("p", { class: "plainly" }, printable(sentence)))), ...each];
}

function finding(question, answer, calibrated) {
  const lines = words(question);
  if (!numbered(answer) || !judged(answer)) return label(question, answer);
  const scale = element("div", { class: "scale" }, bar(answer));
  const marks = element("div", { class: "marks", "aria-hidden": "true" });
  for (const [index, threshold] of answer.thresholds.entries()) {
    const mark = element("span", { class: index ? "upper" : "lower" }, threshold.toFixed(2));
    mark.style.setProperty("--at", threshold);
    marks.append(mark);
  }
  scale.append(marks);
  const number = element("p", { class: "number" },
    element("span", {}, calibrated ? "Probability " : "Score ", element("b", {}, shortNumber(answer.probability)), ";"), " ",
    element("span", {},
      `uncertain from ${answer.thresholds[0].toFixed(2)}, ${chipWord("fake", question).toLowerCase()} from ${answer.thresholds[1].toFixed(2)}`));
  return element("section", { class: `finding ${styleOf(answer.verdict)}` },
    headed(question, answer), element("p", { class: "plainly" }, lines[answer.verdict]), scale, number,
    element("p", { class: "explained" }, EXPLAINED[answer.verdict].slice(0, calibrated ? 2 : 1).join(" ")));
}

function headed(question, answer) {
  return element("h3", {}, element("span", { class: `swatch ${baseOf(question)}` }), words(baseOf(question)).column, chip(answer.verdict, question));
}

function label(question, answer) {
  return element("section", { class: `finding ${styleOf(answer.verdict)}` },
    headed(question, answer), element("p", { class: "plainly" }, words(question)[answer.verdict]));
}

function evidenceItem(evidence) {
  const line = element("li", {}, printable(evidence.statement));
  if (evidence.marked_share !== undefined) {
    const examined = evidence.examined_share < 1 ? `${share(evidence.examined_share)} of the picture was examined; ` : "";
    line.append(element("span", { class: "shares" }, ` (${examined}marked above one half: ${share(evidence.marked_share)}${examined ? " of that" : " of the picture"})`));
  }
  return line;
}

// Beside the verdicts, not part of them: each finding with its strength, what it says, and what it cannot say.
function provenance(findings) {
  return besides("What the file says about its origin",
    "Read from the file itself. It stands beside the verdicts, which look at pixels only, and changes none of them.", findings);
}

// Parts with another history than the rest, or why a method cannot tell.
function forensics(findings) {
  return besides("Parts with another history",
    "Computed from the pixels and the compression, by formulas and two small networks. What decides answers whether the picture was edited; the rest are hints.", findings);
}

function besides(heading, explained, findings) {
  const lines = findings.map((one) => {
    const style = one.strength || "decides";
    const [label, meaning] = one.strength ? STRENGTHS[style] || [style, ""] : DECIDES;
    return element("li", { class: style },
      element("span", { class: `strength ${style}`, title: meaning }, label),
      element("p", {}, element("bdi", {}, printable(one.statement))),
      element("p", { class: "bounds" }, printable(one.limits || "")));
  });
  return element("section", { class: "provenance" }, element("h3", {}, heading), element("p", { class: "explained" }, explained),
    element("ul", {}, ...lines));
}

function stability(report) {
  const holds = report.stability.every((check) => check.holds);
  const lines = report.stability.map((check) => {
    if (check.holds) return element("li", {}, `They hold when the picture is ${printable(check.change)}.`);
    const moved = Object.entries(check.answers)
      .filter(([question, answer]) => report.answers[question] && report.answers[question].verdict !== answer.verdict)
      .map(([question, answer]) => `${words(question).column} becomes “${chipWord(answer.verdict, question)}”${numbered(answer) ? ` (${against(answer)})` : ""}`);
    return element("li", {}, `Not when it is ${printable(check.change)}: ${moved.join("; ")}.`);
  });
  return element("section", { class: "stability" },
    element("h3", {}, "Do the verdicts hold under ordinary processing?",
      element("span", { class: `strength ${holds ? "strong" : "weak"}` }, holds ? "Yes" : "No")),
    element("ul", {}, ...lines));
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
  const spoke = item.opinions.flatMap(({ detector, spoke: { method, weights_sha256: weights } }) => {
    const which = item.opinions.length > 1 ? ` · ${detector}` : "";
    return [[`Method${which}`, method], [`Weights, SHA-256${which}`, weights]];
  });
  const facts = [["File", item.name], ["Size", `${item.report.width} × ${item.report.height} pixels`], ...spoke,
    ...(item.profile ? [["Profile", item.profile]] : []), ["gammascope", item.version], ["Report written", item.written]];
  return element("dl", { class: "origin" }, ...facts.map(([name, value]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, element("bdi", {}, printable(value))))));
}
