"use strict";
// Shows the numbers under the pointer; without it the page is complete too.
(() => {
  const tip = document.getElementById("tip");
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const time = (seconds) => {
    const [unit, name] = units.find(([size]) => seconds >= 2 * size) ?? [1, "s"];
    return `${(seconds / unit).toFixed(1)} ${name}`;
  };
  const shown = (value, unit) => {
    if (value === null) return "–";
    if (unit === "share") return `${(100 * value).toFixed(1)} %`;
    return value.toLocaleString("en", { maximumFractionDigits: 1 });
  };
  for (const chart of document.querySelectorAll("svg[data-chart]")) {
    const data = JSON.parse(chart.dataset.chart);
    const cursor = chart.querySelector(".cursor");
    chart.addEventListener("pointermove", (event) => {
      const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
      const share = (point.x - data.left) / (data.right - data.left);
      const bin = Math.floor((share * data.end) / data.bin);
      if (share < 0 || share > 1 || !(bin < data.lines[0].values.length)) return hide();
      const lines = data.lines.map((line) => `${line.name}: ${shown(line.values[bin] ?? null, data.unit)}`);
      tip.textContent = [`after ${time(share * data.end)}`, ...lines].join("\n");
      tip.hidden = false;
      const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
      tip.style.left = `${left}px`;
      tip.style.top = `${event.clientY + 14}px`;
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, point.x);
      cursor.setAttribute("visibility", "visible");
    });
    const hide = () => {
      tip.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    };
    chart.addEventListener("pointerleave", hide);
  }
})();
