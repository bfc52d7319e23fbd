"use strict";
// Several detectors on one picture: each for itself, and where they differ. Shared by the page of a scan and the page of
// a server.

// What one of them says; where there are several, its name goes with each answer.
function opinion(detector, report, spoke, several) {
  const named = ([question, answer]) => [several ? `${question}@${detector}` : question, answer];
  return { detector, report, spoke, answers: Object.fromEntries(Object.entries(report.answers).map(named)) };
}

const answersOf = (opinions) => Object.assign({}, ...opinions.map((one) => one.answers));

// What weakens the verdicts; of one detector only, with its name.
function caveatsOf(opinions) {
  const [first, ...further] = opinions.map(({ report }) => report.caveats);
  const common = first.filter((caveat) => further.every((other) => other.includes(caveat)));
  const own = opinions.flatMap(({ detector, report }) =>
    report.caveats.filter((caveat) => !common.includes(caveat)).map((caveat) => `${detector}: ${caveat}`));
  return [...common, ...own];
}

// On which questions detectors do not say the same, in words.
function differences(opinions) {
  const every = answersOf(opinions);
  const asked = [...new Set(Object.keys(every).map(baseOf))];
  return asked.flatMap((question) => {
    const said = Object.entries(every).filter(([key]) => baseOf(key) === question);
    if (new Set(said.map(([, answer]) => answer.verdict)).size < 2) return [];
    const each = said.map(([key, answer]) => `${detectorOf(key)} says “${chipWord(answer.verdict, key)}”`);
    return [`The detectors differ on “${words(question).column}”: ${each.join(", ")}.`];
  });
}
