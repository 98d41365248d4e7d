// The interactive loss curves: one network, batch and number of samples at a time.
(function () {
  const data = JSON.parse(document.getElementById("curves-data").textContent);
  const plot = document.getElementById("curves-plot");
  const controls = document.getElementById("curves-controls");
  if (!window.Plotly || !data.curves.length) return;
  const left = document.getElementById("curves-left");
  if (data.left_out) left.textContent = data.left_out + " more studies are not drawn.";
  const values = (key, curves) => [...new Set(curves.map((c) => c[key]))];
  const selects = {};

  function select(key, label, options, words) {
    const element = document.createElement("select");
    options.forEach((value, i) => element.add(new Option(words(value), i)));
    element.addEventListener("change", draw);
    element.setAttribute("aria-label", label);
    const tag = document.createElement("label");
    tag.append(label + " ", element);
    if (options.length < 2) tag.hidden = true;
    controls.append(tag);
    selects[key] = { element, options };
  }
  const chosen = (key) => selects[key].options[selects[key].element.value || 0];

  const counts = values("samples", data.curves).filter((n) => n !== null).sort((a, b) => a - b);
  select("setting", "setting", values("setting", data.curves), (v) => v || "all");
  select("seed", "network (seed)", values("seed", data.curves), String);
  select("batch", "batch", values("batch", data.curves), String);
  select("samples", "samples N", counts.length ? ["all", ...counts] : ["all"], String);
  if (counts.length) selects.samples.element.value = 1;

  function draw() {
    const text = getComputedStyle(document.body).color;
    const grid = "rgba(128,128,128,.25)";
    const here = data.curves.filter((c) =>
      c.setting === chosen("setting") && c.seed === chosen("seed") && c.batch === chosen("batch") &&
      (c.samples === null || chosen("samples") === "all" || c.samples === chosen("samples")));
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const seen = (colour) => (dark && colour === "#000000" ? "#ffffff" : colour);
    const traces = [];
    for (const c of here) {
      const name = c.series + (c.samples === null ? "" : " N=" + c.samples);
      const line = { color: seen(c.colour), width: 1.6, dash: c.dash };
      traces.push({ x: c.lr, y: c.loss, mode: "lines", name, line, legendgroup: name,
        hovertemplate: "lr %{x:.5g}<br>loss %{y:.6g}<extra>" + name + "</extra>" });
      if (c.exact) traces.push({ x: [c.exact[0]], y: [c.exact[1]], mode: "markers", name: name + ": minimum",
        legendgroup: name, showlegend: false, marker: { color: seen(c.colour), size: 9, symbol: "diamond" },
        hovertemplate: "exact minimum<br>lr %{x:.8g}<br>loss %{y:.8g}<extra>" + name + "</extra>" });
      c.descent.forEach((span) => traces.push({ x: span, y: [c.pre_loss, c.pre_loss], mode: "lines",
        legendgroup: name, showlegend: false, line: { color: seen(c.colour), width: 5 }, opacity: 0.35,
        hovertemplate: "lowers the loss from %{x:.5g}<extra>" + name + "</extra>" }));
    }
    const words = ["setting", "seed", "batch"].filter((key) => key !== "setting" || chosen(key))
      .map((key) => ({ setting: "", seed: "network ", batch: "batch " })[key] + chosen(key));
    const axis = (title) => ({ title: { text: title }, gridcolor: grid, zeroline: false, automargin: true });
    Plotly.react(plot, traces, {
      title: { text: words.join(", "), font: { size: 13 }, x: 0, xref: "paper" },
      xaxis: axis("learning rate"), yaxis: axis(plot.dataset.loss), font: { color: text, size: 13 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      legend: { orientation: "h", y: -0.2 }, margin: { t: 34, r: 10 }, height: 460,
    }, { responsive: true, displaylogo: false });
  }
  draw();
  // A page is narrower than a screen, and the figure as wide as it was drawn.
  addEventListener("beforeprint", () => Plotly.relayout(plot, { width: 640, autosize: false }));
  addEventListener("afterprint", () => Plotly.relayout(plot, { width: undefined, autosize: true }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
// On paper nothing can be unfolded. The longest table is in verdicts.csv too, and stays out.
addEventListener("beforeprint", () =>
  document.querySelectorAll("details:not(.long)").forEach((d) => { d.open = true; }));
