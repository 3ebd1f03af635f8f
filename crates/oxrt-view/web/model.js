// The document as the page uses it: hierarchy, edges, search. Nothing here draws.

/** One graph: columns as they come from the file, and what follows from them. */
class Graph {
  /** @param {object} doc a document as `oxrt view` writes it @param {number} index its place on the page */
  constructor(doc, index) {
    this.doc = doc;
    this.index = index;
    this.strings = doc.strings;
    this.n = doc.nodes.op.length;
    this.g = doc.groups.parent.length;
    /** Items: groups are 0 … g−1, nodes g … g+n−1, then inputs and outputs of the graph. */
    this.portBase = this.g + this.n;
    const shown = (list) => (list.length <= 64 ? list : []);
    this.ports = [...shown(doc.inputs).map((v) => ({ value: v, out: false })), ...shown(doc.outputs).map((v) => ({ value: v, out: true }))];
    this.items = this.portBase + this.ports.length;
    this.buildTree();
    this.buildEdges();
    this.weightOf = new Map(doc.weights.map((w, i) => [w.value, i]));
    this.values = new Map();
  }

  text(i) { return this.strings[i]; }
  isGroup(item) { return item < this.g; }
  isNode(item) { return item >= this.g && item < this.portBase; }
  isPort(item) { return item >= this.portBase; }
  node(item) { return item - this.g; }
  op(n) { return this.text(this.doc.nodes.op[n]); }
  name(n) { return this.text(this.doc.nodes.name[n]); }

  /** The last part of a node's name that says more than its operator and its group: `features.0/Conv` is `features.0`. */
  short(k) {
    const parts = this.name(k).split("/").filter(Boolean);
    const group = this.label(this.parent[this.g + k]);
    if (parts.length > 1 && parts.at(-1) === this.op(k) && parts.at(-2) !== group) parts.pop();
    return parts.at(-1) ?? "";
  }

  label(g) { return this.text(this.doc.groups.label[g]); }
  valueName(v) { return this.text(this.doc.values.name[v]); }
  valueType(v) { return this.text(this.doc.values.type[v]); }

  /** Title of any item, for announcements and headings. */
  title(item) {
    if (this.isGroup(item)) return this.label(item);
    if (this.isNode(item)) return this.op(this.node(item));
    const p = this.ports[item - this.portBase];
    return (p.out ? "output " : "input ") + this.valueName(p.value);
  }

  buildTree() {
    const { g, n, doc } = this;
    this.parent = new Int32Array(this.items);
    this.depth = new Int32Array(g);
    this.children = Array.from({ length: g }, () => []);
    this.count = new Int32Array(g);
    this.parent[0] = -1;
    for (let i = 1; i < g; i++) {
      const p = doc.groups.parent[i];
      this.parent[i] = p;
      this.depth[i] = this.depth[p] + 1;
    }
    // Children in order of execution: a group stands where its first node stands.
    const placed = new Uint8Array(g);
    placed[0] = 1;
    this.ports.forEach((p, i) => { this.parent[this.portBase + i] = 0; if (!p.out) this.children[0].push(this.portBase + i); });
    for (let k = 0; k < n; k++) {
      const at = doc.nodes.group[k];
      this.parent[g + k] = at;
      const chain = [];
      for (let c = at; !placed[c]; c = this.parent[c]) { placed[c] = 1; chain.push(c); }
      while (chain.length) { const c = chain.pop(); this.children[this.parent[c]].push(c); }
      this.children[at].push(g + k);
      this.count[at]++;
    }
    this.ports.forEach((p, i) => { if (p.out) this.children[0].push(this.portBase + i); });
    for (let i = g - 1; i > 0; i--) this.count[this.parent[i]] += this.count[i];
  }

  /** Lifts each edge to the group where both ends have different children; ends inside are joined to the group's border. */
  buildEdges() {
    const { doc, g } = this;
    const producer = doc.values.producer;
    /** Per group: keys a * items + b of edges between its children, with the value of one. −1 and −2 as ends are the border. */
    this.edges = Array.from({ length: g }, () => new Map());
    this.consumers = new Map();
    const items = this.items;
    const put = (group, a, b, value) => {
      const key = (a + 2) * (items + 2) + (b + 2);
      const had = this.edges[group].get(key);
      if (had) had.count++;
      else this.edges[group].set(key, { a, b, value, count: 1 });
    };
    const join = (from, to, value) => {
      let a = from, b = to;
      let pa = this.parent[a], pb = this.parent[b];
      while (pa !== pb) {
        if (this.depth[pa] >= this.depth[pb]) { put(pa, a, -2, value); a = pa; pa = this.parent[a]; }
        else { put(pb, -1, b, value); b = pb; pb = this.parent[b]; }
      }
      if (a !== b) put(pa, a, b, value);
    };
    const portOf = new Map();
    this.ports.forEach((p, i) => { if (!p.out) portOf.set(p.value, this.portBase + i); });
    doc.nodes.inputs.forEach((inputs, k) => {
      for (const v of inputs) {
        if (v < 0) continue;
        const from = producer[v] >= 0 ? g + producer[v] : portOf.get(v);
        if (from === undefined) continue;
        join(from, g + k, v);
        if (this.consumers.has(v)) this.consumers.get(v).push(k); else this.consumers.set(v, [k]);
      }
    });
    this.ports.forEach((p, i) => {
      if (!p.out) return;
      const from = producer[p.value] >= 0 ? g + producer[p.value] : portOf.get(p.value);
      if (from !== undefined) join(from, this.portBase + i, p.value);
    });
    this.edges = this.edges.map((m) => [...m.values()]);
  }

  /** Ancestors of an item, the whole model first. */
  path(item) {
    const path = [];
    for (let p = this.parent[item]; p >= 0; p = this.parent[p]) path.push(p);
    return path.reverse();
  }

  /** Nodes below a group, in order. */
  nodesIn(group) {
    const out = [], stack = [group];
    while (stack.length) {
      const c = stack.pop();
      if (this.isGroup(c)) stack.push(...this.children[c]);
      else if (this.isNode(c)) out.push(this.node(c));
    }
    return out;
  }

  /** Items that give to or take from one, over one edge of the drawn level. */
  neighbours(item, forward) {
    const found = [];
    for (const e of this.edges[Math.max(0, this.parent[item])]) {
      const [from, to] = forward ? [e.a, e.b] : [e.b, e.a];
      if (from === item && to >= 0) found.push(to);
    }
    return found;
  }

  /**
   * Nodes of which operator, name, tensors, module or Python line hold every word.
   * @param {string} query words; `op:`, `name:`, `tensor:` and `py:` look at one of them only
   */
  search(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean).map((w) => {
      const m = /^(op|name|tensor|py):(.*)$/.exec(w);
      return m ? { where: m[1], text: m[2] } : { where: "", text: w };
    }).filter((w) => w.text);
    if (!words.length) return [];
    this.lower ??= this.strings.map((s) => s.toLowerCase());
    const { nodes, values } = this.doc;
    const tests = words.map(({ where, text }) => {
      const has = Uint8Array.from(this.lower, (s) => (s.includes(text) ? 1 : 0));
      const tensor = (k) => nodes.outputs[k].some((v) => v >= 0 && has[values.name[v]]) || nodes.inputs[k].some((v) => v >= 0 && has[values.name[v]]);
      const py = (k) => has[nodes.location[k]] || has[nodes.code[k]] || has[nodes.module[k]];
      switch (where) {
        case "op": return (k) => has[nodes.op[k]];
        case "name": return (k) => has[nodes.name[k]];
        case "tensor": return tensor;
        case "py": return py;
        default: return (k) => has[nodes.op[k]] || has[nodes.name[k]] || py(k) || tensor(k);
      }
    });
    const found = [];
    for (let k = 0; k < this.n; k++) if (tests.every((t) => t(k))) found.push(k);
    // An exact name or operator stands first.
    const whole = query.trim().toLowerCase();
    const rank = (k) => (this.lower[nodes.name[k]] === whole ? 0 : this.lower[nodes.op[k]] === whole ? 1 : 2);
    return found.sort((a, b) => rank(a) - rank(b) || a - b);
  }
}

/** Reads the page's data: inside of the page, or from its server. */
async function loadData() {
  const inside = document.getElementById("data").textContent.trim();
  let bytes;
  if (inside) {
    bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(inside) : Uint8Array.from(atob(inside), (c) => c.charCodeAt(0));
  } else {
    const answer = await fetch("data" + location.search);
    if (!answer.ok) throw new Error(await answer.text());
    bytes = new Uint8Array(await answer.arrayBuffer());
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
