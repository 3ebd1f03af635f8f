// The side panel: about the whole, a group, a node with its tensors.

/** A new element; text goes in as text, never as markup: names come from files. */
function make(tag, attrs = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (v !== undefined && v !== null) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

const rows = (pairs) => make("dl", {}, ...pairs.filter(([, v]) => v !== "" && v !== null && v !== undefined).flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));

class Panel {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.element = document.getElementById("panel");
  }

  show(item, pane) {
    const { graph } = pane;
    const parts = item <= 0 ? this.whole(pane)
      : graph.isGroup(item) ? this.group(item, pane)
      : graph.isNode(item) ? this.node(graph.node(item), pane)
      : this.port(graph.ports[item - graph.portBase], pane);
    this.element.replaceChildren(...parts.filter(Boolean));
    this.element.scrollTop = 0;
  }

  link(text, item, pane) {
    return make("a", { role: "button", tabindex: 0, onclick: () => this.app.visit(item, pane), onkeydown: (e) => e.key === "Enter" && this.app.visit(item, pane) }, text);
  }

  path(item, pane) {
    const { graph } = pane;
    const nav = make("div", { class: "path" });
    graph.path(item).forEach((g, i) => {
      if (i) nav.append(" › ");
      nav.append(make("button", { onclick: () => this.app.visit(g, pane) }, graph.label(g) || "model"));
    });
    return nav;
  }

  whole(pane) {
    const { graph } = pane;
    return [make("h2", {}, graph.doc.name), rows(graph.doc.facts), ...this.changes(pane), ...this.contents(0, pane)];
  }

  group(g, pane) {
    const { graph } = pane;
    return [this.path(g, pane), make("h2", {}, graph.label(g)), make("div", { class: "sub" }, `${graph.count[g]} nodes`), ...this.contents(g, pane)];
  }

  contents(g, pane) {
    const { graph, colouring } = pane;
    const nodes = graph.nodesIn(g), out = [];
    if (colouring.figures) {
      const unit = colouring.overlay.unit, all = colouring.figures[g];
      const hot = nodes.filter((k) => colouring.figure(graph.g + k) !== null).sort((a, b) => colouring.figures[graph.g + b] - colouring.figures[graph.g + a]).slice(0, 15);
      out.push(make("h3", {}, `${colouring.mode}: ${showNumber(Number.isNaN(all) ? null : all, unit)}${unit === "error" ? " at most" : " in all"}, greatest first`));
      const box = make("div", { class: "hot", id: "hottest" });
      const most = hot.length ? colouring.figures[graph.g + hot[0]] : 1;
      for (const k of hot) {
        const x = colouring.figures[graph.g + k], bar = make("i");
        bar.style.width = `${Math.max(1, 100 * Math.min(1, x / (most || 1)))}%`;
        const share = unit === "error" ? "" : ` · ${((100 * x) / (all || 1)).toFixed(1)} %`;
        box.append(make("span", {}, this.link(graph.op(k), graph.g + k, pane), " ", make("span", { class: "sub" }, graph.short(k))), make("span", {}, showNumber(x, unit) + share), make("div", { class: "bar" }, bar));
      }
      out.push(box);
    }
    const ops = new Map();
    for (const k of nodes) ops.set(graph.op(k), (ops.get(graph.op(k)) ?? 0) + 1);
    const sorted = [...ops].sort((a, b) => b[1] - a[1]);
    const totals = this.app.sums(graph, nodes);
    out.push(make("h3", {}, "Contents"), rows(totals));
    out.push(make("h3", {}, "Operators"), rows(sorted.slice(0, 40).map(([op, n]) => [op, String(n)])));
    return out;
  }

  changes(pane) {
    const { graph } = pane, side = this.app.side(pane);
    if (!side) return [];
    const found = [];
    for (let k = 0; k < graph.n; k++) if (side.change(k)) found.push(k);
    const names = Object.keys(CHANGES);
    const list = make("div", { id: "changes" });
    for (const k of found.slice(0, 200)) list.append(make("div", {}, this.badge(names[side.change(k)]), " ", this.link(`${graph.op(k)} ${graph.short(k)}`, graph.g + k, pane)));
    const rest = found.length > 200 ? make("div", { class: "sub" }, `and ${found.length - 200} more`) : null;
    return [make("h3", {}, found.length ? `${found.length} of ${graph.n} nodes differ from ${side.otherName}` : `No node differs from ${side.otherName}`), list, rest];
  }

  badge(change) {
    const b = make("span", { class: "change" }, change);
    b.style.background = CHANGES[change] + "33";
    b.style.boxShadow = `inset 3px 0 ${CHANGES[change]}`;
    return b;
  }

  node(k, pane) {
    const { graph } = pane, { nodes, overlays } = graph.doc;
    const t = (column) => (column ? graph.text(column[k]) : "");
    const attrs = [];
    for (let i = 0; i < nodes.attrs[k].length; i += 2) attrs.push([graph.text(nodes.attrs[k][i]), make("code", {}, graph.text(nodes.attrs[k][i + 1]))]);
    const derived = ["operations", "bytes moved", "parameters"];
    const at = (name) => showNumber(overlays.find((o) => o.name === name)?.values[k], name === "operations" ? "count" : "bytes");
    const cost = (text, name) => (text ? (/[a-z]/i.test(text) ? `${text}  (${at(name)})` : at(name)) : "unknown");
    const known = overlays.filter((o) => o.values[k] !== null && !derived.includes(o.name)).map((o) => [o.name, o.unit === "name" ? o.names[o.values[k]] : showNumber(o.values[k], o.unit)]);
    const side = this.app.side(pane);
    const out = [this.path(graph.g + k, pane), make("h2", {}, graph.op(k)), make("div", { class: "sub" }, graph.name(k))];
    if (side) {
      const name = Object.keys(CHANGES)[side.change(k)];
      const other = side.counterpart(k);
      out.push(make("h3", {}, "Compared"), make("div", {}, this.badge(name), other >= 0 ? " " : "", other >= 0 ? this.link(`${side.otherPane.graph.op(other)} ${side.otherPane.graph.name(other)}`, side.otherPane.graph.g + other, side.otherPane) : ""));
      if (side.note(k)) out.push(make("pre", { id: "differences" }, side.note(k)));
    }
    if (t(nodes.location) || t(nodes.code)) out.push(make("h3", {}, /\.cfg:/.test(t(nodes.location)) ? "Source" : "Python"), make("pre", { id: "python" }, [t(nodes.location), t(nodes.code)].filter(Boolean).join("\n")));
    if (attrs.length) out.push(make("h3", {}, "Attributes"), rows(attrs));
    const origins = nodes.origins[k].map((o) => graph.text(o)).filter((o) => o !== graph.name(k));
    out.push(make("h3", {}, "Work"), rows([["kernel", t(nodes.kernel)], ["operations", cost(t(nodes.flops), "operations")], ["bytes moved", cost(t(nodes.bytes), "bytes moved")], ["parameters", nodes.parameters[k] ? showNumber(nodes.parameters[k], "count") : ""], ...known, ["does the work of", origins.join("\n")]]));
    out.push(make("h3", {}, "Inputs"), ...nodes.inputs[k].filter((v) => v >= 0).map((v) => this.tensor(v, pane, false)));
    out.push(make("h3", {}, "Outputs"), ...nodes.outputs[k].filter((v) => v >= 0).map((v) => this.tensor(v, pane, true)));
    return out;
  }

  port(p, pane) {
    return [make("h2", {}, pane.graph.valueName(p.value)), make("div", { class: "sub" }, p.out ? "output of the model" : "input of the model"), this.tensor(p.value, pane, !p.out)];
  }

  /** A tensor: type, where it comes from or goes, and its numbers when it is a weight. */
  tensor(v, pane, made) {
    const { graph } = pane;
    const box = make("div", { class: "tensor" }, make("div", {}, graph.valueName(v)), make("div", { class: "type" }, graph.valueType(v)));
    const from = graph.doc.values.producer[v];
    if (!made && from >= 0) box.append(make("div", {}, "from ", this.link(`${graph.op(from)} ${graph.short(from)}`, graph.g + from, pane)));
    if (made) {
      const to = graph.consumers.get(v) ?? [];
      to.slice(0, 6).forEach((k) => box.append(make("div", {}, "to ", this.link(`${graph.op(k)} ${graph.short(k)}`, graph.g + k, pane))));
      if (to.length > 6) box.append(make("div", { class: "sub" }, `and ${to.length - 6} more`));
    }
    const w = graph.weightOf.get(v);
    if (w !== undefined) this.weight(graph, w, box);
    return box;
  }

  async weight(graph, w, box) {
    const row = graph.doc.weights[w];
    if (!row.summary && !this.app.served) {
      box.append(make("div", { class: "sub" }, `${showNumber(row.bytes, "bytes")}; left out of this file for its size`));
      return;
    }
    if (!row.summary) {
      const answer = await fetch(`weight/${graph.index}/${w}${location.search}`).catch(() => null);
      if (!answer?.ok) { box.append(make("div", { class: "sub" }, "the server is gone")); return; }
      row.summary = await answer.json();
    }
    const { values, stats } = row.summary;
    if (stats && stats.sampled > 1) {
      const f = (x) => String(+x.toPrecision(4));
      box.append(rows([["size", showNumber(row.bytes, "bytes")], ["range", `${f(stats.min)} … ${f(stats.max)}`], ["mean ± std", `${f(stats.mean)} ± ${f(stats.std)}`], ["zeros", stats.zeros ? `${(100 * stats.zeros).toFixed(1)} %` : ""], ["not finite", stats.not_finite ? String(stats.not_finite) : ""]]));
      box.append(histogram(stats));
      if (stats.picture.length > 16) box.append(picture(stats));
    }
    const pre = make("pre", { hidden: "" }, values.join(" "));
    if (values.length <= 8) pre.hidden = false;
    else box.append(make("button", { onclick: () => { pre.hidden = !pre.hidden; } }, `first ${values.length} numbers`));
    box.append(pre);
  }
}

function histogram(stats) {
  const c = make("canvas", { class: "histogram", width: 320, height: 64, role: "img", "aria-label": "histogram" });
  const ctx = c.getContext("2d"), most = Math.max(...stats.histogram, 1), n = stats.histogram.length;
  ctx.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  stats.histogram.forEach((x, i) => { if (x) { const h = Math.max(1.5, (62 * x) / most); ctx.fillRect((i * 320) / n, 64 - h, 320 / n - 1, h); } });
  return c;
}

/** Blue is negative, red positive, the page's middle zero. */
function picture(stats) {
  const w = stats.picture_width, h = stats.picture.length / w;
  const c = make("canvas", { class: "picture", width: w, height: h, role: "img", "aria-label": "picture of the weights" });
  const image = new ImageData(w, h);
  stats.picture.forEach((x, i) => {
    const t = Math.abs(x) / 127, end = x < 0 ? [33, 102, 172] : [178, 24, 43];
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = 247 + (end[k] - 247) * Math.sqrt(t);
    image.data[4 * i + 3] = 255;
  });
  c.getContext("2d").putImageData(image, 0, 0);
  return c;
}
