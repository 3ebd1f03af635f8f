// Puts it together: panes, toolbar, search, keys, export.

class App {
  /** @param {{documents: object[], comparison?: object}} data */
  constructor(data) {
    this.served = !document.getElementById("data").textContent.trim();
    this.comparison = data.comparison ?? null;
    const code = document.getElementById("layout").textContent;
    this.worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    this.panel = new Panel(this);
    this.panes = data.documents.map((doc, i) => {
      const graph = new Graph(doc, i);
      return new Pane(new Scene(graph, this.worker), doc.name, (item, pane) => this.selected(item, pane));
    });
    this.worker.onmessage = ({ data: answer }) => this.panes[answer.index].scene.take(answer);
    this.active = this.panes[0];
  }

  async start() {
    const box = document.getElementById("panes");
    if (this.comparison) document.getElementById("title").textContent = this.panes.map((p) => p.graph.doc.name).join("  ↔  ");
    this.panes.forEach((p) => {
      if (this.panes.length > 1) p.element.append(make("div", { class: "name" }, p.graph.doc.name));
      box.append(p.element);
      p.canvas.addEventListener("focus", () => { this.active = p; });
    });
    this.modes();
    this.colour(this.comparison ? "changes" : "operator");
    this.panes.forEach((p) => p.resize());
    await Promise.all(this.panes.map(async (p) => { await p.scene.layout(p.scene.first()); p.fit(false, false); }));
    document.getElementById("loading").remove();
    new ResizeObserver(() => this.panes.forEach((p) => p.resize())).observe(box);
    this.toolbar();
    this.finder();
    this.panel.show(0, this.active);
    await new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)));
    performance.mark("first-picture");
    document.documentElement.dataset.ready = "1";
  }

  /** Sums of figures that every document has. */
  sums(graph, nodes) {
    return graph.doc.overlays.filter((o) => o.unit === "count" || o.unit === "bytes" || o.unit === "ms")
      .map((o) => [o.name, showNumber(nodes.reduce((s, k) => s + (o.values[k] ?? 0), 0), o.unit)]);
  }

  modes() {
    const select = document.getElementById("colour");
    const names = ["operator", ...(this.comparison ? ["changes"] : []), ...new Set(this.panes.flatMap((p) => p.graph.doc.overlays.map((o) => o.name)))];
    select.replaceChildren(...names.map((n) => make("option", { value: n }, n)));
    select.addEventListener("change", () => this.colour(select.value));
  }

  colour(mode) {
    document.getElementById("colour").value = mode;
    this.panes.forEach((p) => {
      const has = mode === "operator" || mode === "changes" || p.graph.doc.overlays.some((o) => o.name === mode);
      p.colouring = new Colouring(p.graph, has ? mode : "operator", this.side(p));
      p.redraw();
    });
    const pane = this.panes.find((p) => p.colouring.mode === mode) ?? this.active;
    pane.colouring.legend(document.getElementById("legend"));
    this.panel.show(this.active.selected, this.active);
  }

  /** How a pane's nodes compare with those of the other. */
  side(pane) {
    if (!this.comparison) return null;
    const left = pane === this.panes[0], { notes } = this.comparison;
    const map = left ? this.comparison.left : this.comparison.right;
    const note = (k) => (left ? notes[k] : map[k] < 0 ? "" : notes[map[k]]);
    const otherPane = this.panes[left ? 1 : 0];
    return {
      otherPane, otherName: otherPane.graph.doc.name, note, counterpart: (k) => map[k],
      /** Index into CHANGES. */
      change: (k) => (map[k] < 0 ? (left ? 3 : 2) : note(k) ? 1 : 0),
    };
  }

  selected(item, pane) {
    this.active = pane;
    this.panel.show(item, pane);
    const { graph } = pane;
    if (item >= 0) this.say(`${graph.title(item)}${graph.isNode(item) ? " " + graph.name(graph.node(item)) : graph.isGroup(item) ? `, ${graph.count[item]} nodes` : ""}`);
    const side = this.side(pane);
    if (!side) return;
    const other = item >= 0 && graph.isNode(item) ? side.counterpart(graph.node(item)) : -1;
    side.otherPane.select(other >= 0 ? side.otherPane.graph.g + other : -1, false);
    if (other >= 0) side.otherPane.reveal(side.otherPane.graph.g + other);
  }

  /** Opens the way to an item, shows and selects it. */
  async visit(item, pane) {
    await pane.reveal(item);
    pane.select(item);
  }

  say(text) { document.getElementById("live").textContent = text; }

  finder() {
    const input = document.getElementById("search"), list = document.getElementById("results");
    let hits = [], at = -1, timer = 0;
    const mark = () => [...list.querySelectorAll(".hit")].forEach((h, i) => { h.setAttribute("aria-selected", String(i === at)); if (i === at) h.scrollIntoView({ block: "nearest" }); });
    const go = async (i) => { at = i; mark(); const { k, pane } = hits[i]; await this.visit(pane.graph.g + k, pane); };
    const look = () => {
      at = -1;
      hits = this.panes.flatMap((pane) => pane.graph.search(input.value).map((k) => ({ k, pane })));
      list.hidden = !input.value.trim();
      list.replaceChildren(make("div", { class: "count" }, hits.length ? `${hits.length} node${hits.length > 1 ? "s" : ""}; Enter goes to the next` : "No node. Words can be limited: op:conv name:layer1 tensor:logits py:model.py:12"));
      hits.slice(0, 100).forEach(({ k, pane }, i) => {
        const { graph } = pane;
        const where = graph.text(graph.doc.nodes.location[k]);
        list.append(make("button", { class: "hit", role: "option", "aria-selected": "false", onclick: () => go(i) }, make("b", {}, graph.op(k)), " ", make("span", {}, graph.name(k) + (where ? ` · ${where}` : ""))));
      });
    };
    input.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 60); });
    input.addEventListener("keydown", (e) => {
      const step = { Enter: e.shiftKey ? -1 : 1, ArrowDown: 1, ArrowUp: -1 }[e.key];
      if (step) {
        e.preventDefault();
        clearTimeout(timer);
        if (list.hidden || e.key === "Enter" && at < 0) look();
        const n = Math.min(hits.length, 100);
        if (n) go((at + step + n) % n);
      } else if (e.key === "Escape") { input.value = ""; list.hidden = true; this.active.canvas.focus(); }
    });
    input.addEventListener("focus", () => { list.hidden = !input.value.trim(); });
    document.addEventListener("pointerdown", (e) => { if (!e.target.closest(".search")) list.hidden = true; });
  }

  toolbar() {
    const on = (id, f) => document.getElementById(id).addEventListener("click", f);
    const dialog = document.getElementById("keys");
    const keys = [["/", "search"], ["↑ ↓", "follow edges to what gives, what takes"], ["← →", "neighbours of the same level"], ["Enter, Space", "open a group, close it"], ["Backspace", "to the group around"], ["E, Shift+E", "open one level more, open all"], ["C", "back to the first view"], ["F", "fit"], ["+ −", "zoom; h j k l and Page keys move"], ["T", "light, dark"], ["Esc", "select nothing"]];
    dialog.querySelector("form").append(make("table", {}, ...keys.map(([k, text]) => make("tr", {}, make("td", {}, make("kbd", {}, k)), make("td", {}, text)))), make("button", {}, "Close"));
    const reset = async () => { for (const p of this.panes) { await p.setOpen(p.scene.first()); p.fit(true, false); } };
    const actions = {
      e: () => this.active.expand(), E: () => this.active.expandAll(), c: reset, f: () => this.panes.forEach((p) => p.fit()),
      t: () => this.theme(), "?": () => dialog.showModal(), "/": () => document.getElementById("search").select() ?? document.getElementById("search").focus(),
      Escape: () => this.active.select(-1),
    };
    on("expand", () => actions.e());
    on("collapse", reset);
    on("fit", actions.f);
    on("theme", actions.t);
    on("help", actions["?"]);
    on("svg", () => this.save("svg"));
    on("png", () => this.save("png"));
    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select, dialog *")) return;
      if (actions[e.key]) { e.preventDefault(); actions[e.key](); }
    });
  }

  theme(name) {
    const root = document.documentElement;
    root.dataset.theme = name ?? (root.dataset.theme === "dark" ? "light" : "dark");
    this.panes.forEach((p) => p.redraw());
    this.panel.show(this.active.selected, this.active);
  }

  /** What is open in the active pane, as text of an SVG. */
  svg() {
    const p = this.active, { w, h } = p.scene.size, theme = document.documentElement.dataset.theme;
    const pen = new SvgPen();
    pen.rect(0, 0, w, h, 0, PALETTE[theme].page);
    drawScene(pen, { scene: p.scene, colouring: p.colouring, theme, selected: -1, window: { x0: 0, y0: 0, x1: w, y1: h }, scale: 1 });
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w.toFixed(0)} ${h.toFixed(0)}" width="${w.toFixed(0)}" height="${h.toFixed(0)}" font-family="system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif">${pen.parts.join("\n")}</svg>`;
  }

  /** The same as a picture, twice as fine as the screen where a canvas can be as large. */
  png() {
    const p = this.active, { w, h } = p.scene.size, theme = document.documentElement.dataset.theme;
    const scale = Math.min(2, 16000 / w, 16000 / h, Math.sqrt(1.2e8 / (w * h)));
    const canvas = make("canvas", { width: Math.ceil(w * scale), height: Math.ceil(h * scale) });
    const ctx = canvas.getContext("2d");
    ctx.scale(scale, scale);
    ctx.fillStyle = PALETTE[theme].page;
    ctx.fillRect(0, 0, w, h);
    drawScene(new CanvasPen(ctx), { scene: p.scene, colouring: p.colouring, theme, selected: -1, window: { x0: 0, y0: 0, x1: w, y1: h }, scale });
    return new Promise((r) => canvas.toBlob(r, "image/png"));
  }

  async save(kind) {
    const blob = kind === "svg" ? new Blob([this.svg()], { type: "image/svg+xml" }) : await this.png();
    if (!blob) { this.say("The picture is too large for this browser; save it as SVG"); return; }
    const link = make("a", { href: URL.createObjectURL(blob), download: `${this.active.graph.doc.name}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    this.say(`Saved ${link.download}`);
  }
}

document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
/** For tests and the curious. */
let app;
loadData().then((data) => { app = new App(data); return app.start(); }).catch((e) => {
  const box = document.getElementById("loading");
  (box ?? document.getElementById("panel")).textContent = `This page cannot be shown: ${e.message}`;
  throw e;
});
