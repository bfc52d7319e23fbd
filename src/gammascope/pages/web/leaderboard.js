"use strict";
// Titles become buttons that sort; without this script the table stands as it was written, the best first.

for (const board of document.querySelectorAll(".board")) prepare(board);

function prepare(board) {
  const table = board.querySelector("table");
  const controls = board.querySelector(".controls");
  const select = controls.querySelector("select");
  const titles = [...table.querySelectorAll("thead th[aria-sort]")];
  const state = { key: "auroc", down: true };

  for (const title of titles) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title.textContent;
    title.replaceChildren(button);
    button.addEventListener("click", () => {
      const again = state.key === title.dataset.key;
      state.down = again ? !state.down : title.dataset.first === "down";
      state.key = title.dataset.key;
      show();
      board.querySelector("[role=status]").textContent =
        `Sorted by ${button.textContent}, ${state.down ? "falling" : "rising"}.`;
    });
  }
  select.addEventListener("change", show);
  controls.hidden = select.options.length < 2;
  show();

  function show() {
    for (const title of titles) {
      const sorts = title.dataset.key === state.key;
      title.setAttribute("aria-sort", sorts ? (state.down ? "descending" : "ascending") : "none");
    }
    const bodies = [...table.tBodies];
    const values = new Map(bodies.map((body) => [body, valueIn(body, select.value, state.key)]));
    bodies.sort((one, other) => compared(values.get(one), values.get(other), state.down));
    table.append(...bodies);
    for (const row of table.querySelectorAll("tbody tr"))
      row.classList.toggle("sorted-by", select.options.length > 1 && row.dataset.column === select.value);
  }
}

function valueIn(body, column, key) {
  const own = body.querySelector(`tr[data-column="${column}"] [data-key="${key}"]`);
  // Name, images, time and size stand once for all lines of a detector.
  const cell = own ?? body.querySelector(`[data-key="${key}"][rowspan]`);
  const text = cell?.dataset.value;
  if (text === undefined) return undefined;
  return key === "name" ? text : Number(text);
}

function compared(one, other, down) {
  if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
  const order = typeof one === "string" ? one.localeCompare(other) : one - other;
  return down ? -order : order;
}
