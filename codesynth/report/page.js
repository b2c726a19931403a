"use strict";
const search = document.getElementById("search");
const rows = Array.from(document.querySelectorAll("details"), row => [row, row.textContent.toLowerCase()]);
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/);
  for (const [row, text] of rows) row.hidden = !words.every(word => text.includes(word));
  document.getElementById("shown").textContent = rows.filter(([row]) => !row.hidden).length;
});
