// One picture in full: findings beside the viewer, and the way through the list.

let current = null;

const openable = () => shown.filter((item) => item.report);

function openDetail(id) {
  if (!itemOf.get(id).report) return;
  current = itemOf.get(id);
  const list = openable();
  const place = list.indexOf(current);
  const dialog = byId("detail");
  const pressed = dialog.open ? document.activeElement : null;
  if (!dialog.open) dialog.showModal();
  byId("detail-name").replaceChildren(element("bdi", {}, current.name));
  byId("position").replaceChildren(`${place + 1} of ${list.length}`, element("span", { class: "hidden" }, `: ${current.name}`));
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place >= list.length - 1;
  showPicture(current);
  byId("panel").replaceChildren(...findings(current, similar(current)));
  byId("panel").scrollTop = 0;
  // Whoever steps by a button wants to press it again.
  if (!pressed || !dialog.contains(pressed) || pressed.disabled) byId("detail-name").focus({ preventScroll: true });
}

function step(by) {
  const list = openable();
  const target = list[list.indexOf(current) + by];
  if (target) openDetail(target.id);
}

// A browser tells a task later that a dialog was closed. A key pressed in between would find the focus where the dialog
// was opened from, or lose the picture it has opened meanwhile: so everything is put in order at once.
function closeDetail() {
  if (!current) return;
  byId("detail").close();
  const place = shown.indexOf(current);
  if (place >= drawn) drawMore(place + 1);
  const target = document.querySelector(`#rows .open[data-id="${current.id}"]`);
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
    Escape: closeDetail,
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
  byId("close").addEventListener("click", closeDetail);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    closeDetail();
  });
  // Some gestures close it without asking.
  dialog.addEventListener("close", () => { if (!dialog.open) closeDetail(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) closeDetail(); });
  byId("panel").addEventListener("click", (event) => {
    const button = event.target.closest(".similar button");
    if (button) openSimilar(Number(button.dataset.id));
  });
  dialog.addEventListener("keydown", detailKey);
}
