"use strict";
// The words for questions and verdicts, and small parts that say them. Shared by the page of a scan and the page of a
// server. Text from files is only ever set as text, never as markup.

const WORDS = {
  generated: {
    column: "AI-generated pixels",
    layer: "Generated",
    fake: "Likely contains AI-generated pixels.",
    uncertain: "Uncertain whether it contains AI-generated pixels.",
    "no sign": "No sign of AI-generated pixels.",
  },
  edited: {
    column: "Was edited",
    layer: "Edited",
    fake: "Likely edited: a part has another history than the rest. It was pasted, painted or processed by itself.",
    uncertain: "Uncertain whether it was edited.",
    "no sign": "No sign of editing.",
  },
  fake: {
    column: "Generated or edited",
    layer: "Fake",
    fake: "Looks generated or edited.",
    uncertain: "Uncertain whether it is generated or edited.",
    "no sign": "No sign of generation or editing.",
  },
};

// Overlays of what forensic methods found.
const FORENSIC_LAYERS = {
  "forensics:quantisation": "Not compressed before",
  "forensics:consistency": "Other traces",
  "forensics:variance": "Less detail",
  "forensics:shifted": "Another file's grid",
  "forensics:grids": "Other JPEG grid",
  "forensics:cloning": "There twice",
  "forensics:collage": "Does not belong",
  "forensics:noise": "Other noise",
};

// As in the table of a scan and in JSON: what is said of every question, and of a whole picture.
const CHIPS = { fake: "Fake", uncertain: "Uncertain", "no sign": "No sign" };

// An edited photo is no fake, so a yes to that question has a word of its own.
const chipWord = (verdict, question) => (verdict === "fake" && baseOf(question) === "edited" ? "Edited" : CHIPS[verdict] || verdict);

const styleOf = (verdict) => verdict.replace(" ", "-");

// Where the number lies, and what that means if it was calibrated.
const EXPLAINED = {
  fake: ["At or above the upper threshold.", "Real photographs seldom score this high, but some do."],
  uncertain: ["Between the two thresholds.", "Real and fake pictures alike score like this one. The method does not " +
    "decide, and neither should you on this number."],
  "no sign": ["Below the lower threshold.", "Nothing was found. That is not evidence that the picture is genuine."],
};

const LIMITS = [
  "Whether the scene is true. A staged or wrongly captioned photograph passes every test of its pixels.",
  "Who changed a picture, when, with which program or with what intent. Much editing is harmless.",
  "How generators and tricks it never saw look. Newer ones can pass unnoticed.",
  "Much about small, blurred, filtered or often re-saved pictures, such as screenshots: traces are gone, or imitated.",
  "How rare fakes are in your collection. Where nearly all pictures are real, many alarms are false.",
  "Exact borders. Overlays show where the method looked and found something, not an object's outline.",
];

// Files that name a generator in so many words.
const DECLARATIONS = ["provenance:generator", "provenance:ai_software", "provenance:aigc_label", "provenance:source_type"];
const declaresGenerator = (report) => report.evidence.some((one) => DECLARATIONS.includes(one.name) && one.strength === "moderate");

const byId = (id) => document.getElementById(id);

const STRENGTHS = {
  strong: ["Strong", "Checked by cryptography."],
  moderate: ["Moderate", "Said plainly, by something anyone can write, remove or break."],
  weak: ["Weak", "A hint that has ordinary explanations."],
  neutral: ["Neutral", "A fact that speaks neither way."],
};
const DECIDES = ["Decides", "The answer rests on it."]; // and so has a probability in place of a strength

// What a finding about a file is called in the list.
const FINDINGS = {
  "provenance:c2pa": "Content Credentials",
  "provenance:source_type": "Declared source type",
  "provenance:generator": "Generation settings",
  "provenance:ai_software": "AI program named",
  "provenance:thumbnail": "Thumbnail differs",
};

const aboutFile = (evidence) => evidence.name.startsWith("provenance:");
const aboutParts = (evidence) => evidence.name.startsWith("forensics:");

// Where several detectors look, "generated@clip" is what one of them says on a question.
const baseOf = (key) => key.split("@")[0];
const detectorOf = (key) => (key.includes("@") ? key.slice(key.indexOf("@") + 1) : "");

function words(key) {
  const question = baseOf(key);
  const said = WORDS[question] || {
    column: question, layer: FORENSIC_LAYERS[question] || question, fake: `Fake: ${question}.`, uncertain: `Uncertain: ${question}.`,
    "no sign": `No sign: ${question}.`,
  };
  const detector = printable(detectorOf(key));
  return detector ? { ...said, column: `${said.column} · ${detector}`, layer: `${said.layer} · ${detector}` } : said;
}

// Labels may stand alone: then there is no number anywhere.
const numbered = (answer) => answer.probability !== undefined;

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Control and direction-changing characters can make a name look like another one: show them as codes.
function printable(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function shortNumber(value) {
  if (value === null) return "unknown";
  if (value > 0 && value < 0.005) return "<0.01";
  if (value < 1 && value > 0.995) return ">0.99";
  return value.toFixed(2);
}

// Whether the number led to the verdict: of a picture with too little to judge it did not, and says nothing.
function judged({ verdict, probability, thresholds: [low, high] = [] }) {
  if (verdict !== "uncertain" || probability === undefined || probability === null) return true;
  return low <= probability && probability <= high;
}

// "0.93 ≥ 0.80": a probability never stands without the threshold that gives it meaning.
function against(answer) {
  if (!numbered(answer) || !judged(answer)) return "";
  const near = answer.thresholds.some((threshold) => answer.probability !== null && Math.abs(answer.probability - threshold) < 0.01);
  // "0.71 < 0.71" would be wrong.
  const shown = near ? answer.probability.toFixed(4) : shortNumber(answer.probability);
  const [low, high] = answer.thresholds.map((value) => value.toFixed(near ? 4 : 2));
  if (answer.verdict === "fake") return `${shown} ≥ ${high}`;
  if (answer.verdict === "no sign") return `${shown} < ${low}`;
  return `${low} ≤ ${shown} < ${high}`;
}

// "2.6 % of photos as high": unlike a probability it assumes no share of fakes, and nobody takes it for one.
function asHigh(answer) {
  if (!answer.as_high) return "";
  const { photos } = answer.as_high;
  return `${photos < 0.001 ? "<0.1" : (100 * photos).toFixed(1)} % of photos as high`;
}

function chip(verdict, question) {
  return element("span", { class: `chip ${styleOf(verdict)}` }, chipWord(verdict, question));
}

// A bar from 0 to 1 with both thresholds drawn in.
function bar(answer) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", `bar ${styleOf(answer.verdict)}`);
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const part = (name, x, width, y = 0, height = 10) => {
    const rect = document.createElementNS(ns, "rect");
    for (const [key, value] of Object.entries({ class: name, x, y, width, height })) rect.setAttribute(key, value);
    svg.append(rect);
  };
  part("track", 0, 100, 2, 6);
  const [low, high] = answer.thresholds;
  part("between", 100 * low, Math.max(0, 100 * (high - low)), 2, 6);
  if (answer.probability !== null) part("value", 0, Math.max(0.8, 100 * answer.probability), 3, 4);
  for (const threshold of answer.thresholds) part("threshold", Math.min(99.2, 100 * threshold), 0.8);
  return svg;
}
