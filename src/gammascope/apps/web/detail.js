// One picture in full: findings beside the viewer, and the way through the list.

let current = null;

const openable = () => shown.filter((item) => item.report);

function openDetail(id) {
  if (!itemOf.get(id).report) return;
  current = itemOf.get(id);
  const list = openable();
  const place = list.indexOf(current);
  const dialog = byId("detail");
  if (!dialog.open) dialog.showModal();
  byId("detail-name").replaceChildren(element("bdi", {}, current.name));
  byId("position").textContent = `${place + 1} of ${list.length}`;
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place >= list.length - 1;
  showPicture(current);
  byId("panel").replaceChildren(...findings(current));
  byId("panel").scrollTop = 0;
  byId("detail-name").focus({ preventScroll: true });
}

function step(by) {
  const list = openable();
  const target = list[list.indexOf(current) + by];
  if (target) openDetail(target.id);
}

function closeDetail() {
  const place = shown.indexOf(current);
  if (place >= drawn) drawMore(place + 1);
  const target = current && document.querySelector(`#rows .open[data-id="${current.id}"]`);
  current = null;
  if (target) {
    target.focus({ preventScroll: true });
    target.scrollIntoView({ block: "nearest" });
  }
}

function detailKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const slides = event.target.matches("input[type=range]");
  const actions = {
    ArrowLeft: slides ? null : () => step(-1),
    ArrowRight: slides ? null : () => step(1),
    o: toggleOverlay,
    "+": () => zoomBy("in"),
    "=": () => zoomBy("in"),
    "-": () => zoomBy("out"),
    0: () => zoomBy("fit"),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function startDetail() {
  const dialog = byId("detail");
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", closeDetail);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", detailKey);
}
