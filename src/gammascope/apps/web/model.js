// What the page of a scan knows: its rows, and the pictures of some.

const PAGE = JSON.parse(byId("page-data").textContent);

const PREVIEW_NOTE = "Preview, reduced and recompressed: judge fine detail in the original file.";

const items = [
  ...PAGE.rows.map((row) => ({
    id: row.id, name: printable(row.report.image), report: row.report, answers: answers(row.report),
    suspicion: row.suspicion, spoke: PAGE.weights[row.weights], pictured: row.pictured, failed: null,
    written: PAGE.written,
  })),
  ...PAGE.failed.map((row) => ({
    id: row.id, name: printable(row.image), image: row.image, report: null, answers: {}, suspicion: -1, spoke: null, pictured: false,
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
    title: PAGE.title,
    written: PAGE.written,
    rows: reports.map((item) => ({ ...item.report, ...item.spoke })),
    failed: shown.filter((item) => item.failed !== null).map((item) => ({ image: item.image, reason: item.failed })),
  };
}
