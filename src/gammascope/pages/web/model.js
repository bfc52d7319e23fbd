// What the page of a scan knows: its rows, and the pictures of some.

const PAGE = JSON.parse(byId("page-data").textContent);

const PREVIEW_NOTE = "Preview, reduced and recompressed: judge fine detail in the original file.";

// What the file says that is more than a hint, by short names.
function said(report) {
  const loud = report.evidence.filter((one) => one.strength === "strong" || one.strength === "moderate");
  return [...new Set(loud.map((one) => FINDINGS[one.name]).filter(Boolean))];
}

// What each detector says of a picture; the first one speaks for the scan.
const opinionsOf = (row) => [row, ...row.further].map((one) =>
  opinion(one.detector, one.report, PAGE.weights[one.weights], row.further.length > 0));

const items = [
  ...PAGE.rows.map((row) => {
    const opinions = opinionsOf(row);
    return {
      id: row.id, name: printable(row.report.image), report: row.report, opinions, answers: answersOf(opinions),
      caveats: caveatsOf(opinions), differences: differences(opinions), suspicion: row.suspicion, said: said(row.report), marked: marked(row.report),
      pictured: row.pictured, failed: null, written: PAGE.written, version: PAGE.version, profile: PAGE.profile,
      from: PAGE.title, whole: "the page of the scan",
    };
  }),
  ...PAGE.failed.map((row) => ({
    id: row.id, name: printable(row.image), image: row.image, report: null, answers: {}, suspicion: -1, said: [], caveats: [], pictured: false,
    failed: row.reason,
  })),
].sort((a, b) => a.id - b.id);

for (const item of items) item.sought = item.name.toLowerCase();

// Methods to which a part of the picture stands out, by short names.
function marked(report) {
  return report.evidence.filter((one) => aboutParts(one) && one.marked_share !== undefined)
    .map((one) => words(one.name).layer.toLowerCase());
}

const itemOf = new Map(items.map((item) => [item.id, item]));

// Pictures stay text until they are looked at; parsed ones are not kept, the browser caches what it shows.
function picture(item) {
  if (!item.pictured) return null;
  return JSON.parse(document.getElementById(`picture-${item.id}`).textContent);
}

function exported(shown) {
  const reports = shown.filter((item) => item.report);
  return {
    format: PAGE.format,
    title: PAGE.title,
    written: PAGE.written,
    rows: reports.map(({ opinions: [first, ...further], differences: differ }) => ({
      ...first.report, ...first.spoke, ...(further.length ? {
        detector: first.detector, differences: differ,
        second_opinions: further.map(({ detector, report, spoke }) => ({ detector, ...report, ...spoke })),
      } : {}),
    })),
    failed: shown.filter((item) => item.failed !== null).map((item) => ({ image: item.image, reason: item.failed })),
  };
}

// Programs that open tables take a cell that begins like this for a formula.
function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table(shown) {
  const figures = PAGE.numbers ? ["verdict", "probability"] : ["verdict"];
  const each = PAGE.questions.flatMap((question) => figures.map((figure) => `${question} ${figure}`));
  const head = ["image", "width", "height", ...each, "calibrated", "caveats", "findings", "holds", "method", "weights_sha256", "error"];
  const lines = shown.map(({ report, answers: given, opinions, caveats, image, failed }) => {
    if (!report) return [image, ...head.slice(2).map(() => null), failed];
    const verdicts = PAGE.questions.flatMap((question) => figures.map((figure) => given[question]?.[figure]));
    const findings = report.evidence.filter(aboutFile).map((one) => `${one.strength}: ${one.statement}`);
    const holds = report.stability ? report.stability.every((check) => check.holds) : null;
    return [report.image, report.width, report.height, ...verdicts, report.calibrated, caveats.join(" "),
      findings.join(" "), holds, ...["method", "weights_sha256"].map((fact) => opinions.map(({ spoke }) => spoke[fact]).join(" ")), null];
  });
  return [head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}
