// What the page of a scan knows: its rows, and the pictures of some.

const PAGE = JSON.parse(byId("page-data").textContent);

const PREVIEW_NOTE = "Preview, reduced and recompressed: judge fine detail in the original file.";

// What the file says that is more than a hint, by short names.
function said(report) {
  const loud = report.evidence.filter((one) => one.strength === "strong" || one.strength === "moderate");
  return [...new Set(loud.map((one) => FINDINGS[one.name]).filter(Boolean))];
}

const items = [
  ...PAGE.rows.map((row) => ({
    id: row.id, name: printable(row.report.image), report: row.report, answers: row.report.answers,
    suspicion: row.suspicion, said: said(row.report), spoke: PAGE.weights[row.weights], pictured: row.pictured, failed: null,
    written: PAGE.written,
  })),
  ...PAGE.failed.map((row) => ({
    id: row.id, name: printable(row.image), image: row.image, report: null, answers: {}, suspicion: -1, said: [], spoke: null, pictured: false,
    failed: row.reason,
  })),
].sort((a, b) => a.id - b.id);

for (const item of items) item.sought = item.name.toLowerCase();

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
    rows: reports.map((item) => ({ ...item.report, ...item.spoke })),
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
  const each = PAGE.questions.flatMap((question) => [`${question} verdict`, `${question} probability`]);
  const head = ["image", "width", "height", ...each, "calibrated", "caveats", "findings", "holds", "method", "weights_sha256", "error"];
  const lines = shown.map(({ report, answers: given, spoke, image, failed }) => {
    if (!report) return [image, ...head.slice(2).map(() => null), failed];
    const verdicts = PAGE.questions.flatMap((question) => [given[question]?.verdict, given[question]?.probability]);
    const findings = report.evidence.filter(aboutFile).map((one) => `${one.strength}: ${one.statement}`);
    const holds = report.stability ? report.stability.every((check) => check.holds) : null;
    return [report.image, report.width, report.height, ...verdicts, report.calibrated, report.caveats.join(" "),
      findings.join(" "), holds, spoke.method, spoke.weights_sha256, null];
  });
  return [head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}
