// A click on a heading sorts by its column, largest first. A second click reverses the order, and a
// third one restores the first order. A row of differences stays below the row that it belongs to.
// A heading that spans several rows is repeated for each of them.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], headings = [...table.tHead.rows].at(-1).cells, first = body.innerHTML;
  const number = text => parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
  const sort = (column, direction) => {
    body.innerHTML = first;
    for (const heading of headings) heading.removeAttribute("aria-sort");
    if (!direction) return;
    headings[column].setAttribute("aria-sort", direction < 0 ? "descending" : "ascending");
    const units = [];
    for (const row of [...body.rows]) {
      const groups = JSON.parse(row.dataset.groups);
      row.querySelectorAll("th.group").forEach(cell => cell.remove());
      if (!units.length || !("difference" in row.dataset)) {
        const text = [...groups, ...[...row.cells].map(cell => cell.textContent)][column];
        units.push({rows: [], groups, text, number: number(text), missing: !/[\p{L}\d]/u.test(text)});
      }
      units.at(-1).rows.push(row);
    }
    const numeric = units.some(unit => !isNaN(unit.number)) && units.every(unit => unit.missing || !isNaN(unit.number));
    units.sort((a, b) => a.missing - b.missing || direction * (
      numeric ? a.number - b.number || 0 : a.text.localeCompare(b.text, "en", {numeric: true})));
    for (const {rows, groups} of units) {
      rows[0].classList.add("first");
      for (const text of [...groups].reverse()) {
        const cell = document.createElement("th");
        cell.className = "group";
        cell.rowSpan = rows.length;
        cell.textContent = text;
        rows[0].prepend(cell);
      }
      rows.slice(1).forEach(row => row.classList.remove("first"));
      body.append(...rows);
    }
  };
  [...headings].forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const was = heading.getAttribute("aria-sort");
      sort(column, was === null ? -1 : was === "descending" ? 1 : 0);
    });
  });
}
