"use strict";
(() => {
  const cores = JSON.parse(document.getElementById("cores").textContent);
  const root = document.documentElement;
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  // plots are drawn on a canvas, which no style sheet reaches
  function paint() {
    if (typeof Bokeh === "undefined") return;
    const ink = dark() ? "#e6edf3" : "#1b1f24", ground = dark() ? "#0d1117" : "#ffffff", line = dark() ? "#30363d" : "#d8dee4";
    for (const doc of Bokeh.documents) for (const model of doc._all_models.values()) {
      if (model.type === "Figure") model.setv({ background_fill_color: ground, border_fill_color: ground, outline_line_color: line });
      if (/Axis$/.test(model.type)) model.setv({ axis_label_text_color: ink, major_label_text_color: ink, axis_line_color: line, major_tick_line_color: line, minor_tick_line_color: line });
      if (model.type === "Grid") model.setv({ grid_line_color: model.dimension === 0 ? line : null });
    }
  }
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; paint(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
  addEventListener("load", () => { let tries = 0; const wait = setInterval(() => { paint(); if (++tries > 10 || (typeof Bokeh !== "undefined" && Bokeh.documents.length)) clearInterval(wait); }, 150); paint(); });

  function element(name, text, parent) { const made = document.createElement(name); if (text !== undefined) made.textContent = text; if (parent) parent.append(made); return made; }
  const pinned = {};
  function show(key) {
    const run = key.split("-")[0], core = cores[key], panel = document.getElementById("panel-" + run);
    panel.replaceChildren();
    element("h3", "core " + core.core + (pinned[run] === key ? " (kept; click or Enter lets go)" : ""), panel);
    for (const [name, part] of core.stations) {
      element("div", name + ": " + (100 * part).toFixed(1) + " % of the window", panel);
      const meter = element("div", undefined, panel); meter.className = "meter";
      element("span", undefined, meter).style.width = Math.min(100, 100 * part) + "%";
    }
    const list = element("dl", undefined, panel); list.className = "facts";
    for (const [name, value] of core.facts) { element("dt", name, list); element("dd", value, list); }
  }
  function pin(tile) {
    const key = tile.dataset.core, run = key.split("-")[0], same = pinned[run] === key;
    document.querySelectorAll(`[data-core^="${run}-"]`).forEach((e) => e.classList.remove("pinned"));
    pinned[run] = same ? undefined : key;
    if (!same) document.querySelectorAll(`[data-core="${key}"]`).forEach((e) => e.classList.add("pinned"));
    show(key);
  }
  const tiles = [...document.querySelectorAll(".tile")];
  for (const tile of tiles) {
    const look = () => { const run = tile.dataset.core.split("-")[0]; if (!pinned[run]) show(tile.dataset.core); };
    tile.addEventListener("mouseenter", look); tile.addEventListener("focus", look);
    tile.addEventListener("click", () => pin(tile));
    tile.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(tile); return; }
      const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (!way) return;
      event.preventDefault();
      const x = +tile.dataset.x, y = +tile.dataset.y, run = tile.dataset.core.split("-")[0];
      let best = null, least = Infinity;
      for (const other of tiles) {
        if (other === tile || other.dataset.core.split("-")[0] !== run) continue;
        const dx = other.dataset.x - x, dy = other.dataset.y - y, along = dx * way[0] + dy * way[1], across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
        if (along > 0 && along + 3 * across < least) { least = along + 3 * across; best = other; }
      }
      if (best) best.focus();
    });
  }

  const value = (cell) => { const key = cell.dataset.key; return key !== undefined ? +key : (isNaN(parseFloat(cell.textContent)) ? cell.textContent : parseFloat(cell.textContent)); };
  for (const table of document.querySelectorAll("table")) {
    [...table.querySelectorAll(".sort")].forEach((button, column) => button.addEventListener("click", () => {
      const body = table.tBodies[0], down = button.dataset.down !== "1";
      table.querySelectorAll(".sort").forEach((b) => { delete b.dataset.down; b.parentElement.removeAttribute("aria-sort"); });
      if (down) button.dataset.down = "1";
      button.parentElement.setAttribute("aria-sort", down ? "descending" : "ascending");
      [...body.rows].sort((a, b) => { const x = value(a.cells[column]), y = value(b.cells[column]); return (x < y ? 1 : x > y ? -1 : 0) * (down ? 1 : -1); }).forEach((row) => body.append(row));
    }));
    const copy = table.querySelector(".copy");
    copy.addEventListener("click", async () => {
      const text = [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent).join("\t")).join("\n");
      try { await navigator.clipboard.writeText(text); } catch { const area = element("textarea", text, document.body); area.select(); document.execCommand("copy"); area.remove(); }
      copy.textContent = "copied"; setTimeout(() => { copy.textContent = "copy"; }, 1500);
    });
  }
})();
