// Pictures of the same scan that score alike: where many do, a score says little about this one.

const ALIKE = 0.05;
const ALIKE_SHOWN = 6;

// The largest difference over all questions; Infinity where one of them was not asked of both.
function distance(one, other) {
  const gaps = PAGE.questions.filter((question) => one.answers[question] || other.answers[question]).map((question) => {
    const [here, there] = [one.answers[question]?.probability, other.answers[question]?.probability];
    return Number.isFinite(here) && Number.isFinite(there) ? Math.abs(here - there) : Infinity;
  });
  return gaps.length ? Math.max(...gaps) : Infinity;
}

function similar(item) {
  const others = items.filter((other) => other !== item && other.report)
    .map((other) => ({ other, gap: distance(item, other) })).filter(({ gap }) => gap <= ALIKE)
    .sort((a, b) => a.gap - b.gap || a.other.id - b.other.id);
  const total = items.filter((other) => other.report).length - 1;
  if (!total || !PAGE.numbers) return null;
  const heading = element("h3", {}, "Similar scores in this scan");
  const number = others.length === 0 ? "none scores" : others.length === 1 ? "1 scores" : `${others.length} score`;
  const said = `Of ${total} other ${total === 1 ? "picture" : "pictures"}, ${number} within ${ALIKE.toFixed(2)} of this one on every question.`;
  const hint = others.length > ALIKE_SHOWN ? ` The closest ${ALIKE_SHOWN}:` : "";
  return element("section", { class: "similar" }, heading, element("p", { class: "explained" }, said + hint),
    others.length ? element("ul", {}, ...others.slice(0, ALIKE_SHOWN).map(({ other }) => similarRow(other))) : null);
}

function similarRow(item) {
  const found = picture(item);
  const image = found ? element("img", { alt: "", src: found.thumbnail }) : element("span", { class: "blank", "aria-hidden": "true" }, "–");
  const scores = Object.entries(item.answers).map(([question, answer]) => element("span", { class: "similar-score" },
    element("span", { class: `swatch ${baseOf(question)}` }), element("span", { class: "hidden" }, `${words(question).column}: `),
    chip(answer.verdict, question), shortNumber(answer.probability)));
  return element("li", {}, element("button", { type: "button", "data-id": item.id }, image,
    element("span", { class: "similar-words" }, element("bdi", {}, item.name), element("span", { class: "similar-scores" }, ...scores))));
}

// A filter may hide the other picture from the list: it then has no place there to step on from.
function openSimilar(id) {
  if (!shown.includes(itemOf.get(id))) reset();
  openDetail(id);
}
