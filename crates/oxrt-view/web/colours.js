// Colours of nodes: by kind of operator, by the figures of an overlay, by what changed.

const KINDS = [
  ["convolution", "#2f6fde", /Conv/],
  ["product", "#7a4fd0", /MatMul|Gemm|Einsum/],
  ["attention", "#c03a8e", /Attention|RotaryEmbedding/],
  ["recurrent", "#a0522d", /LSTM|GRU|RNN/],
  ["normalisation", "#11827d", /Norm/],
  ["activation", "#c2410c", /Relu|Sigmoid|Tanh|Gelu|Softmax|Elu|Selu|Swish|Mish|Softplus|HardSigmoid|Softsign|Erf/i],
  ["pooling, reduction", "#3d7a1f", /Pool|Reduce|Arg|TopK|CumSum/],
  ["quantisation", "#8a6d00", /Quantize|QLinear|^Cast/],
  ["control", "#b3261e", /^(If|Loop|Scan)$|Sequence/],
  ["shape, copy", "#64748b", /Shape|Reshape|Transpose|Concat|Slice|Gather|Split|Squeeze|Expand|Pad|Tile|Flatten|Identity|Constant|Resize|Scatter|Range|Where|Size/],
  ["arithmetic", "#b7791f", /./],
];

const CHANGES = { same: "#8593a5", changed: "#d99a00", added: "#1f9d55", removed: "#d64545" };
/** Ten colours that stay apart for most eyes (Okabe and Ito, and neighbours). */
const NAMES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7a5195", "#8c9a00", "#5f6b7a", "#b3261e"];
const UNKNOWN = "#9aa5b3";

/** From cold to hot, readable on light and dark. */
function heat(t) {
  const stops = [[190, 205, 222], [244, 208, 110], [233, 128, 52], [178, 24, 43]];
  const x = Math.min(0.9999, Math.max(0, t)) * 3, i = Math.floor(x), f = x - i;
  const c = stops[i].map((a, k) => Math.round(a + (stops[i + 1][k] - a) * f));
  return `rgb(${c.join()})`;
}

function showNumber(x, unit) {
  if (x === null || x === undefined) return "–";
  if (unit === "error" && x > 1e300) return "not finite";
  const scaled = (units, base) => {
    let i = 0, y = x;
    while (y >= base && i + 1 < units.length) { y /= base; i++; }
    return `${y >= 100 || Number.isInteger(y) ? y.toFixed(0) : y.toPrecision(3)} ${units[i]}`.trim();
  };
  switch (unit) {
    case "ms": return x >= 1 ? `${x.toPrecision(4)} ms` : `${(x * 1e3).toPrecision(3)} µs`;
    case "bytes": return scaled(["B", "KiB", "MiB", "GiB", "TiB"], 1024);
    case "count": return scaled(["", "k", "M", "G", "T", "P"], 1000);
    case "error": return x === 0 ? "0" : x.toExponential(2);
    default: return String(x);
  }
}

/** A way of colouring: gives each item a colour, and each group the shares of its nodes. */
class Colouring {
  /** @param {Graph} graph @param {string} mode `operator`, `changes`, or the name of an overlay @param {object|null} side counterparts */
  constructor(graph, mode, side) {
    this.graph = graph;
    this.mode = mode;
    this.side = side;
    this.overlay = graph.doc.overlays.find((o) => o.name === mode) ?? null;
    this.kindOf = new Map();
    if (this.overlay && this.overlay.unit !== "name") this.sum();
    else this.share();
  }

  /** Number of a node's class, for ways of colouring with classes. */
  cls(k) {
    if (this.mode === "changes") return this.side.change(k);
    if (this.overlay) { const v = this.overlay.values[k]; return v === null ? -1 : v; }
    const op = this.graph.doc.nodes.op[k];
    if (!this.kindOf.has(op)) this.kindOf.set(op, KINDS.findIndex(([, , test]) => test.test(this.graph.text(op))));
    return this.kindOf.get(op);
  }

  clsColour(c) {
    if (this.mode === "changes") return Object.values(CHANGES)[c];
    if (c < 0) return UNKNOWN;
    return this.overlay ? NAMES[c % NAMES.length] : KINDS[c][1];
  }

  clsName(c) {
    if (this.mode === "changes") return Object.keys(CHANGES)[c];
    if (c < 0) return "none";
    return this.overlay ? this.overlay.names[c] : KINDS[c][0];
  }

  share() {
    const { graph } = this;
    this.shares = Array.from({ length: graph.g }, () => new Map());
    for (let k = 0; k < graph.n; k++) {
      const c = this.cls(k), m = this.shares[graph.parent[graph.g + k]];
      m.set(c, (m.get(c) ?? 0) + 1);
    }
    for (let i = graph.g - 1; i > 0; i--) {
      const up = this.shares[graph.parent[i]];
      for (const [c, n] of this.shares[i]) up.set(c, (up.get(c) ?? 0) + n);
    }
  }

  /** Sums figures over groups; of errors the greatest counts. */
  sum() {
    const { graph, overlay } = this, error = overlay.unit === "error";
    this.figures = new Float64Array(graph.items).fill(NaN);
    for (let k = 0; k < graph.n; k++) if (overlay.values[k] !== null) this.figures[graph.g + k] = overlay.values[k];
    const add = (to, x) => {
      if (Number.isNaN(x)) return;
      const had = this.figures[to];
      this.figures[to] = Number.isNaN(had) ? x : error ? Math.max(had, x) : had + x;
    };
    for (let k = 0; k < graph.n; k++) add(graph.parent[graph.g + k], this.figures[graph.g + k]);
    for (let i = graph.g - 1; i > 0; i--) add(graph.parent[i], this.figures[i]);
    const nodes = [];
    for (let k = 0; k < graph.n; k++) {
      const x = this.figures[graph.g + k];
      if (x > 0 && x < 1e300) nodes.push(x);
    }
    this.least = nodes.reduce((a, b) => Math.min(a, b), Infinity);
    this.most = nodes.reduce((a, b) => Math.max(a, b), 0);
    if (!nodes.length) this.least = 0;
    this.total = this.figures[0];
  }

  figure(item) {
    const x = this.figures?.[item];
    return x === undefined || Number.isNaN(x) ? null : x;
  }

  /** Of a group: its share of the greatest group beside it; of a node: of the greatest node. */
  level(item) {
    const x = this.figure(item);
    if (x <= 0) return 0;
    if (this.overlay.unit === "error") {
      if (this.most <= this.least) return 1;
      return Math.log(Math.min(x, this.most * 2) / this.least) / Math.log(this.most / this.least);
    }
    if (this.graph.isGroup(item) && item > 0) {
      const parent = this.graph.parent[item];
      this.greatest ??= new Map();
      if (!this.greatest.has(parent)) {
        const groups = this.graph.children[parent].filter((c) => this.graph.isGroup(c));
        this.greatest.set(parent, groups.reduce((m, c) => Math.max(m, this.figure(c) ?? 0), 0));
      }
      return x / this.greatest.get(parent);
    }
    return Math.sqrt(x / this.most);
  }

  colour(item) {
    const { graph } = this;
    if (graph.isPort(item)) return "#5f6b7a";
    if (this.figures) {
      return this.figure(item) === null ? UNKNOWN : heat(this.level(item));
    }
    if (graph.isNode(item)) return this.clsColour(this.cls(graph.node(item)));
    const shares = this.shares[item];
    if (this.mode === "changes") {
      if (shares.size === 1) return this.clsColour([...shares.keys()][0]);
      return CHANGES.changed;
    }
    let best = -1, most = 0;
    for (const [c, n] of shares) if (n > most) { most = n; best = c; }
    return this.clsColour(best);
  }

  /** [colour, share] of a group, greatest first. */
  parts(group) {
    if (this.figures) return null;
    const all = this.graph.count[group] || 1;
    return [...this.shares[group]].sort((a, b) => b[1] - a[1]).map(([c, n]) => [this.clsColour(c), n / all]);
  }

  legend(box) {
    box.replaceChildren();
    const add = (colour, text) => {
      const span = document.createElement("span"), i = document.createElement("i");
      i.style.background = colour;
      span.append(i, text);
      box.append(span);
    };
    if (this.figures) {
      const { unit, name } = this.overlay;
      const scale = document.createElement("span");
      scale.className = "scale";
      scale.style.background = `linear-gradient(90deg, ${[0, 0.33, 0.67, 1].map(heat).join()})`;
      box.append(`${name} per node: ${showNumber(unit === "error" ? this.least : 0, unit)}`, scale, showNumber(this.most, unit));
      if (unit !== "error") box.append(` · total ${showNumber(this.total, unit)}`);
      return;
    }
    const seen = [...this.shares[0]].sort((a, b) => b[1] - a[1]);
    seen.slice(0, 12).forEach(([c, n]) => add(this.clsColour(c), `${this.clsName(c)} ${n}`));
    if (seen.length > 12) box.append(`and ${seen.length - 12} more`);
  }
}
