"use strict";
// Draws the plots from the JSON in the page, in the colours of the style sheet, and sorts the tables.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 600px)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  // Plotly reads labels as HTML of a kind: what comes from the user must not be read so.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const shorten = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
  const wrap = (text, width = 48) => plain(text).replace(new RegExp(`(.{1,${width}})(\\s+|$)`, "g"), "$1<br>").replace(/<br>$/, "");
  const thousands = (value) => value.toLocaleString("en-US");
  const LIGHT = ["#1d5fbf", "#b35c00", "#0b7a4b", "#a02c8e", "#6d5bd0", "#00808a", "#8a6d00", "#c2385a", "#4b5a70", "#5f8a00"];
  const DARK = ["#7db1ff", "#f0a04b", "#4fce95", "#f08be0", "#b3a6ff", "#4ed0dc", "#e3c44a", "#ff8fa8", "#a9b6cb", "#a8d84e"];
  const palette = (index) => (dark.matches ? DARK : LIGHT)[index % LIGHT.length];
  const withAlpha = (hex, alpha) => hex + Math.round(alpha * 255).toString(16).padStart(2, "0");

  const axis = (title, percent, more = {}) => ({
    title: { text: plain(title), standoff: 8, font: { size: 13 } },
    gridcolor: colour("grid"), zeroline: false, linecolor: colour("line"), automargin: true,
    tickformat: percent ? "~%" : undefined, ...more,
  });
  // Decades alone, or 1, 2 and 5 of each.
  const logarithmic = (values) => {
    const known = values.filter((value) => value > 0);
    const ratio = Math.max(...known) / Math.min(...known);
    return known.length < values.length || !known.length ? {} : { type: "log", dtick: ratio > 60 ? 1 : ratio > 3 ? "D2" : undefined };
  };
  const base = (more = {}) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    margin: { l: 56, r: 14, t: 12, b: 48 }, hovermode: "closest",
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" },
    showlegend: false,
    // On a phone a finger on a plot scrolls the page.
    dragmode: narrow.matches ? false : "zoom",
    legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0, xanchor: "left", font: { size: 12 } }, ...more,
  });
  const number = (value, percent) => (percent ? `${(value * 100).toFixed(2)} %` : `${Number(value.toPrecision(4))}`);
  // Bounds that leave the markers whole.
  const sizeOf = (points, least, most) => {
    const sizes = points.map((point) => point.parameters);
    const low = Math.min(...sizes), high = Math.max(...sizes);
    return points.map((point) => (high > low ? least + ((most - least) * (point.parameters - low)) / (high - low) : (least + most) / 2));
  };
  const about = (point, percent) =>
    `${wrap(point.name)}<br>${number(point.y, percent)} · ${number(point.x)} ms a step · ${thousands(point.parameters)} parameters`;

  const drawings = {
    pareto({ points, percent, measure }) {
      const sizes = sizeOf(points, 22, 34);
      const traces = points.map((point, index) => ({
        type: "scatter", mode: "markers+text", x: [point.x], y: [point.y], text: [String(point.place)],
        name: `${point.place} ${plain(shorten(point.name, 42))}`, hovertext: [about(point, percent)], hoverinfo: "text",
        textfont: { size: 12, color: point.front ? colour("card") : colour(point.role) },
        marker: {
          size: [sizes[index]], color: point.front ? colour(point.role) : colour("card"), opacity: 1,
          line: { width: point.recommended ? 4 : 2, color: point.recommended ? colour("good") : colour(point.role) },
        },
        error_y: point.low === null ? undefined : {
          type: "data", symmetric: false, array: [point.high - point.y], arrayminus: [point.y - point.low],
          color: withAlpha(colour(point.role), 0.6), thickness: 1.4, width: 4,
        },
      }));
      return [traces, base({
        xaxis: axis("train step, ms"), yaxis: axis(measure, percent), showlegend: true,
        legend: { ...base().legend, itemsizing: "constant", y: narrow.matches ? -0.2 : -0.16 },
        height: narrow.matches ? 360 + 24 * points.length : 480,
      })];
    },
    pareto_trials({ points, score }) {
      const sizes = sizeOf(points, 20, 28);
      const order = points.map((_, index) => index).sort((a, b) => points[a].front - points[b].front);
      let others = false;
      const traces = order.map((index) => {
        const point = points[index];
        const named = point.front || !others;
        others = others || !point.front;
        return {
          type: "scatter", mode: "markers+text", x: [point.x], y: [point.y], text: [String(point.trial)],
          name: point.front ? `${point.trial} ${plain(shorten(point.name, narrow.matches ? 38 : 60))}` : "beaten by another trial",
          showlegend: named, legendgroup: point.front ? `front ${point.trial}` : "others",
          hoverinfo: "text", hovertext: [`trial ${point.trial}: ${about(point, score.percent)}`],
          textfont: { size: 11, color: point.front ? colour("card") : colour("faint") },
          marker: {
            size: [sizes[index]], color: point.front ? colour("candidate") : colour("card"),
            line: { width: 1.5, color: colour(point.front ? "candidate" : "ghost") },
          },
        };
      });
      const front = points.filter((point) => point.front).length;
      return [traces, base({
        xaxis: axis("train step, ms"), yaxis: axis(`${score.name} (validation)`, score.percent), showlegend: true,
        legend: { ...base().legend, itemsizing: "constant", y: narrow.matches ? -0.2 : -0.16 },
        height: 400 + 24 * Math.min(12, front),
      })];
    },
    curves_arms({ arms, metric, percent, log }) {
      const traces = arms.flatMap((arm, index) => [
        ...arm.seeds.map((line) => ({
          type: "scatter", mode: "lines", x: line.x, y: line.y, legendgroup: String(index), showlegend: false,
          hoverinfo: "skip", line: { width: 0.8, color: withAlpha(palette(index), 0.35) },
        })),
        {
          type: "scatter", mode: arm.mean.x.length > 1 ? "lines" : "markers", x: arm.mean.x, y: arm.mean.y, legendgroup: String(index),
          name: plain(shorten(arm.name, 42)), line: { width: 2.4, color: palette(index), dash: arm.role === "baseline" ? "dot" : "solid" },
          hovertext: arm.mean.y.map((y, i) => `${wrap(arm.name)}<br>epoch ${arm.mean.x[i]}: ${number(y, percent)}`), hoverinfo: "text",
        },
      ]);
      return [traces, base({
        xaxis: axis("epoch"), yaxis: axis(metric, percent, log ? logarithmic(arms.flatMap((arm) => arm.mean.y)) : {}), showlegend: true,
        height: narrow.matches ? 360 + 22 * arms.length : 470,
      })];
    },
    curves_trials({ lines, metric, percent, log }) {
      const kinds = { completed: colour("candidate"), stopped: colour("baseline"), failed: colour("bad") };
      const seen = new Set();
      // What did not complete comes last, over the others, and ends in a cross.
      const order = (line) => Object.keys(kinds).indexOf(line.status);
      const drawn = lines.filter((line) => line.x.length).sort((a, b) => order(a) - order(b));
      const traces = drawn.map((line) => {
        const first = !seen.has(line.status);
        seen.add(line.status);
        return {
          type: "scatter", mode: "lines+markers", x: line.x, y: line.y, name: line.status, legendgroup: line.status, showlegend: first,
          line: { width: 1.4, color: withAlpha(kinds[line.status], 0.65) },
          marker: {
            color: kinds[line.status], symbol: line.status === "completed" ? "circle" : "x",
            size: line.x.map((_, i) => (i + 1 < line.x.length ? 0 : line.status === "completed" ? 4 : 8)),
          },
          hovertext: line.y.map((y, i) => `trial ${line.trial}: ${wrap(line.name)}<br>epoch ${line.x[i]}: ${number(y, percent)}`), hoverinfo: "text",
        };
      });
      return [traces, base({ xaxis: axis("epoch"), yaxis: axis(metric, percent, log ? logarithmic(lines.flatMap((line) => line.y)) : {}), showlegend: true })];
    },
    parallel({ axes, scores, score }, place) {
      const numbers = (values, log) => {
        const known = values.filter((value) => value !== null).map((v) => (log ? Math.log10(v) : v));
        const low = Math.min(...known), high = Math.max(...known);
        return { known, low, high, span: high - low || 1 };
      };
      const dimensions = axes.map((one) => {
        const label = plain(shorten(one.name, 30));
        if (one.ticks) {
          return { label, values: one.at, tickvals: one.ticks.map((_, i) => i), ticktext: one.ticks.map((t) => shorten(t, 16)), range: [0, Math.max(1, one.ticks.length - 1)] };
        }
        const { low, high, span } = numbers(one.at, one.log);
        const below = low - 0.15 * span;
        const values = one.at.map((v) => (v === null ? below : one.log ? Math.log10(v) : v));
        const tickvals = Array.from({ length: 5 }, (_, i) => low + (span * i) / 4);
        const ticktext = tickvals.map((v) => `${Number((one.log ? 10 ** v : v).toPrecision(2))}`);
        return one.missing
          ? { label, values, tickvals: [below, ...tickvals], ticktext: ["not used", ...ticktext], range: [below, high] }
          : { label, values, tickvals, ticktext, range: [low, low + span] };
      });
      dimensions.push({ label: plain(score.name), values: scores, tickformat: score.percent ? "~%" : undefined });
      const long = axes.some((one) => one.name.length > 16);
      place.style.minWidth = `${Math.max(560, (long ? 140 : 118) * dimensions.length)}px`;
      return [[{
        type: "parcoords", dimensions, labelangle: long ? -16 : 0, labelfont: { size: 12, color: colour("ink") }, tickfont: { size: 11, color: colour("ink") },
        rangefont: { size: 1, color: "rgba(0,0,0,0)" }, unselected: { line: { color: colour("ghost"), opacity: 0.12 } },
        // By rank: one bad trial would take all of the colours.
        line: { color: scores.map((one) => scores.filter((other) => (score.direction === "min" ? other < one : other > one)).length), colorscale: "Viridis", reversescale: dark.matches, showscale: false },
      }], base({ margin: { l: 96, r: long ? 110 : 60, t: long ? 92 : 50, b: 24 } })];
    },
    importance({ names, shares }) {
      const height = 70 + 30 * names.length;
      return [[{
        type: "bar", orientation: "h", y: names.map((n) => plain(shorten(n, 30))), x: shares, marker: { color: colour("candidate") },
        text: shares.map((s) => `${Math.round(s * 100)} %`), textposition: "outside", cliponaxis: false, hoverinfo: "y+text",
      }], base({ height, xaxis: axis("share of the importance", true, { range: [0, Math.max(...shares) * 1.18] }), yaxis: axis("", false, { autorange: "reversed", gridcolor: "rgba(0,0,0,0)" }), margin: { l: 20, r: 30, t: 6, b: 44 } })];
    },
    ablation({ points, percent, measure }) {
      const scale = percent ? 100 : 1;
      const shade = { better: colour("good"), worse: colour("bad") };
      const colours = points.map((p) => shade[p.verdict] || colour("ghost"));
      const traces = points.map((p, i) => ({
        type: "scatter", mode: "markers", x: [p.difference * scale], y: [plain(shorten(p.name, 30))], marker: { size: 11, color: colours[i] },
        error_x: p.low === null ? undefined : { type: "data", symmetric: false, array: [(p.high - p.difference) * scale], arrayminus: [(p.difference - p.low) * scale], color: colours[i], thickness: 2, width: 5 },
        hovertext: [`${wrap(p.name)}<br>${p.difference >= 0 ? "+" : ""}${number(p.difference * scale)}${percent ? " points" : ""}: ${p.verdict}`], hoverinfo: "text",
      }));
      return [traces, base({
        height: 84 + 40 * points.length, margin: { l: 20, r: 20, t: 6, b: 44 },
        xaxis: axis(`change of the ${measure}${percent ? ", points" : ""}`, false, { zeroline: true, zerolinecolor: colour("faint"), zerolinewidth: 1.5 }),
        yaxis: axis("", false, { autorange: "reversed" }),
      })];
    },
  };

  const slice = (panel, score, of, range) => {
    const jitter = (index) => (panel.ticks ? (((index * 0.618034) % 1) - 0.5) * 0.34 : 0);
    const horizontal = panel.ticks
      ? { tickmode: "array", tickvals: panel.ticks.map((_, i) => i), ticktext: panel.ticks.map((t) => plain(shorten(t, 14))), range: [-0.6, panel.ticks.length - 0.4], tickangle: panel.ticks.join("").length > 22 ? -40 : 0 }
      : { nticks: 6, tickangle: 0, tickformat: "~g", ...(panel.log ? logarithmic(panel.at) : {}) };
    return [[{
      type: "scatter", mode: "markers", x: panel.at.map((v, i) => v + jitter(i)), y: panel.scores, hovertext: panel.words.map((w, i) => `${wrap(w)}<br>${number(panel.scores[i], score.percent)}`), hoverinfo: "text",
      marker: {
        size: 8, symbol: panel.stopped.map((s) => (s ? "x-thin" : "circle")), color: panel.trials, cmin: 0, cmax: of,
        colorscale: dark.matches ? [[0, "#33507d"], [1, "#a9ccff"]] : [[0, "#b9cdea"], [1, "#0b3f8a"]],
        line: { width: panel.stopped.map((s) => (s ? 1.6 : 0)), color: panel.trials, cmin: 0, cmax: of, colorscale: dark.matches ? [[0, "#33507d"], [1, "#a9ccff"]] : [[0, "#b9cdea"], [1, "#0b3f8a"]] },
      },
    }], base({
      margin: { l: 50, r: 8, t: 26, b: 40 }, title: { text: plain(shorten(panel.name, 36)), font: { size: 13 }, x: 0.02, xanchor: "left", y: 0.97 },
      xaxis: axis("", false, horizontal), yaxis: axis(score.name, score.percent, { range }),
    })];
  };

  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  const draw = () => {
    for (const [name, drawing] of Object.entries(drawings)) {
      const place = document.getElementById(`plot-${name}`);
      if (!place || !data[name]) continue;
      const [traces, layout] = drawing(data[name], place);
      if (layout.height) place.style.height = `${layout.height}px`;
      Plotly.react(place, traces, layout, config);
    }
    const grid = document.getElementById("plot-slices");
    if (!grid || !data.slices) return;
    // One range for all, so that they can be compared.
    const every = data.slices.panels.flatMap((panel) => panel.scores);
    const [low, high] = [Math.min(...every), Math.max(...every)];
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    data.slices.panels.forEach((panel, index) => {
      const place = grid.children[index] || grid.appendChild(document.createElement("div"));
      const [traces, layout] = slice(panel, data.slices.score, data.slices.of, [low - room, high + room]);
      Plotly.react(place, traces, layout, config);
    });
  };
  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);

  // Open parts and the place on the page outlive a reload.
  const reload = document.querySelector("[data-reload]");
  const folds = [...document.querySelectorAll("details[id]")];
  try {
    const kept = JSON.parse(sessionStorage.getItem("kerasnorm-report") || "null");
    sessionStorage.removeItem("kerasnorm-report");
    if (kept) {
      folds.forEach((fold) => { fold.open = kept.open.includes(fold.id); });
      window.scrollTo({ top: kept.top, behavior: "instant" });
    }
  } catch { /* without storage the page starts at its top */ }
  if (reload) {
    setTimeout(() => {
      try {
        const open = folds.filter((fold) => fold.open).map((fold) => fold.id);
        sessionStorage.setItem("kerasnorm-report", JSON.stringify({ top: window.scrollY, open }));
      } catch { /* as above */ }
      location.reload();
    }, 1000 * Number(reload.dataset.reload));
  }

  const copy = document.getElementById("copy");
  if (copy) {
    copy.addEventListener("click", async () => {
      const code = document.getElementById("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        // A page from disk may not write to the clipboard by itself everywhere.
        getSelection().selectAllChildren(code);
        document.execCommand("copy");
      }
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
  }

  // Long tables are cut, and a button shows the rest.
  const MOST = 60;
  for (const table of document.querySelectorAll("table")) {
    const count = table.tBodies[0].rows.length;
    if (count <= MOST) continue;
    table.classList.add("cut");
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    more.textContent = `Show all ${thousands(count)} rows`;
    more.addEventListener("click", () => { table.classList.remove("cut"); more.remove(); });
    table.parentElement.after(more);
  }

  const key = (cell) => (cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort));
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => {
        const [x, y] = [key(a.cells[column]), key(b.cells[column])];
        // Empty cells stay last, whichever way.
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        const least = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
        return up ? least : -least;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    }));
  }
})();
