"use strict";
for (const place of document.querySelectorAll("[data-chart]")) {
  const { data, layout } = JSON.parse(place.dataset.chart);
  Plotly.newPlot(place, data, layout, { responsive: true, displayModeBar: false });
}
const search = document.getElementById("search");
const rows = Array.from(document.querySelectorAll(".row"));
const texts = rows.map(row => row.textContent.toLowerCase());
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/);
  rows.forEach((row, i) => { row.hidden = !words.every(word => texts[i].includes(word)); });
  document.getElementById("shown").textContent = rows.filter(row => !row.hidden).length;
});
