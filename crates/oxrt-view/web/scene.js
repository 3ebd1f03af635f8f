// What is open, where everything lies, what lies under a point.

const NODE_HEIGHT = 42, GROUP_HEIGHT = 58, PORT_HEIGHT = 28;

/** Rough width of a text at 12 px; exact enough to choose a card's width before anything is drawn. */
function textWidth(text, size = 12) {
  let w = 0;
  for (const c of text) w += "ijl.,:;|'!()[] ".includes(c) ? 0.34 : c >= "A" && c <= "Z" ? 0.7 : c === "m" || c === "w" ? 0.85 : 0.57;
  return w * size;
}

class Scene {
  /** @param {Graph} graph @param {Worker} worker */
  constructor(graph, worker) {
    this.graph = graph;
    this.worker = worker;
    this.open = new Set([0]);
    this.levels = new Map();
    this.request = 0;
    this.waiting = new Map();
    this.measure();
    const plain = graph.edges.map((list) => list.map(({ a, b }) => ({ a, b })));
    worker.postMessage({ index: graph.index, world: { children: graph.children, edges: plain, widths: this.widths, heights: this.heights } });
  }

  measure() {
    const { graph } = this;
    this.widths = new Float32Array(graph.items);
    this.heights = new Float32Array(graph.items);
    const byText = new Map();
    const width = (text, size) => {
      const key = size + text;
      if (!byText.has(key)) byText.set(key, textWidth(text, size));
      return byText.get(key);
    };
    for (let i = 0; i < graph.items; i++) {
      if (graph.isGroup(i)) {
        this.widths[i] = Math.min(250, Math.max(150, width(graph.label(i), 13) * 1.1 + 52));
        this.heights[i] = GROUP_HEIGHT;
      } else if (graph.isNode(i)) {
        const k = graph.node(i);
        const name = graph.short(k);
        this.widths[i] = Math.min(230, Math.max(104, width(graph.op(k), 13) * 1.12 + 30, width(name, 11) + 26));
        this.heights[i] = NODE_HEIGHT;
      } else {
        this.widths[i] = Math.min(230, Math.max(70, width(graph.valueName(graph.ports[i - graph.portBase].value), 12) + 32));
        this.heights[i] = PORT_HEIGHT;
      }
    }
  }

  /** The groups that are open at first: from the whole model down while little enough is seen. */
  first() {
    const open = new Set([0]);
    let seen = this.graph.children[0].length, level = [0];
    while (level.length) {
      const next = level.flatMap((g) => this.graph.children[g].filter((c) => this.graph.isGroup(c)));
      const more = next.reduce((sum, g) => sum + this.graph.children[g].length, 0);
      if (!next.length || seen + more > 70) break;
      next.forEach((g) => open.add(g));
      seen += more;
      level = next;
    }
    return open;
  }

  /** Lays out what is open. @returns {Promise<void>} when it can be drawn; an older request that was overtaken never is. */
  layout(open = this.open) {
    this.open = open;
    const request = ++this.request;
    const done = new Promise((resolve) => this.waiting.set(request, resolve));
    this.worker.postMessage({ index: this.graph.index, request, open: [...open] });
    return done;
  }

  /** Takes the worker's answer. */
  take({ request, levels, ms }) {
    const resolve = this.waiting.get(request);
    this.waiting.delete(request);
    if (request === this.request) {
      this.levels = levels;
      this.slots = new Map();
      this.layoutMs = ms;
    }
    resolve?.();
  }

  get size() {
    const root = this.levels.get(0);
    return root ? { w: root.w, h: root.h } : { w: 1, h: 1 };
  }

  /** Place of a child in its level. */
  slot(group, child) {
    let slots = this.slots.get(group);
    if (!slots) {
      slots = new Map(this.graph.children[group].map((c, i) => [c, i]));
      this.slots.set(group, slots);
    }
    return slots.get(child);
  }

  /** The box of an item in the drawing; of one that is hidden, that of the closed group around it. */
  box(item) {
    if (item === 0) return { x: 0, y: 0, ...this.size };
    let x = 0, y = 0, box = { x: 0, y: 0, ...this.size };
    for (const step of [...this.graph.path(item), item].slice(1)) {
      const group = this.graph.parent[step];
      const level = this.levels.get(group);
      if (!level) break;
      const i = this.slot(group, step);
      const w = level.sizes[2 * i], h = level.sizes[2 * i + 1];
      x += level.xy[2 * i] - w / 2;
      y += level.xy[2 * i + 1] - h / 2;
      box = { x, y, w, h };
    }
    return box;
  }

  /** The innermost item under a point of the drawing, or −1. */
  hit(px, py) {
    let group = 0, x = 0, y = 0, found = -1;
    const root = this.size;
    if (px < 0 || py < 0 || px > root.w || py > root.h) return -1;
    for (let level = this.levels.get(0); level;) {
      const children = this.graph.children[group];
      let next = -1;
      for (let i = 0; i < children.length; i++) {
        const w = level.sizes[2 * i], h = level.sizes[2 * i + 1];
        const left = x + level.xy[2 * i] - w / 2, top = y + level.xy[2 * i + 1] - h / 2;
        if (px >= left && px <= left + w && py >= top && py <= top + h) { next = children[i]; x = left; y = top; break; }
      }
      if (next < 0) return found;
      found = next;
      if (!this.levels.has(next)) return found;
      group = next;
      level = this.levels.get(next);
    }
    return found;
  }
}
