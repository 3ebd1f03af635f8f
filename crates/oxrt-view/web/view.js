// One pane: a canvas, its camera, pointer and keys.

class Pane {
  /** @param {Scene} scene @param {(item: number, pane: Pane) => void} onSelect */
  constructor(scene, title, onSelect) {
    this.scene = scene;
    this.graph = scene.graph;
    this.onSelect = onSelect;
    this.selected = -1;
    this.camera = { x: 0, y: 0, scale: 1 };
    this.frames = 0;
    this.element = document.createElement("section");
    this.element.className = "pane";
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", `Graph of ${title}: arrow keys follow edges, Enter opens`);
    this.element.append(this.canvas);
    this.ctx = this.canvas.getContext("2d");
    this.pen = new CanvasPen(this.ctx);
    this.listen();
  }

  resize() {
    const r = this.element.getBoundingClientRect(), ratio = devicePixelRatio || 1;
    this.width = r.width;
    this.height = r.height;
    this.canvas.width = Math.round(r.width * ratio);
    this.canvas.height = Math.round(r.height * ratio);
    this.redraw();
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame((now) => { this.pending = false; this.step(now); this.draw(); });
  }

  draw() {
    const ratio = devicePixelRatio || 1, { x, y, scale } = this.camera;
    const theme = document.documentElement.dataset.theme;
    this.ctx.setTransform(1, 0, 0, 1, 0, 0);
    this.ctx.fillStyle = PALETTE[theme].page;
    this.ctx.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.ctx.setTransform(ratio * scale, 0, 0, ratio * scale, 0, 0);
    const seen = { x0: x, y0: y, x1: x + this.width / scale, y1: y + this.height / scale };
    drawScene(this.pen, { scene: this.scene, colouring: this.colouring, theme, selected: this.selected, near: this.near, window: seen, scale });
    this.frames++;
  }

  /** Moves the camera towards its target. */
  step(now) {
    if (!this.target) return;
    const { from, to, since, over } = this.target;
    const t = Math.min(1, (now - since) / over), k = 1 - (1 - t) ** 3;
    // Scales change by factors, so that zooming looks even.
    const scale = from.scale * (to.scale / from.scale) ** k;
    const mix = (a, b) => a + (b - a) * k;
    this.camera = { scale, x: mix(from.x + this.width / 2 / from.scale, to.x + this.width / 2 / to.scale) - this.width / 2 / scale, y: mix(from.y + this.height / 2 / from.scale, to.y + this.height / 2 / to.scale) - this.height / 2 / scale };
    if (t < 1) this.redraw(); else { this.camera = to; this.target = null; }
  }

  go(to, smooth = true) {
    if (!smooth || matchMedia("(prefers-reduced-motion: reduce)").matches) { this.camera = to; this.target = null; }
    else this.target = { from: { ...this.camera }, to, since: performance.now(), over: 260 };
    this.redraw();
  }

  /** Shows all; a drawing much taller than the pane is shown from its top, at a scale that can be read. */
  fit(smooth = true, whole = true) {
    const { w, h } = this.scene.size;
    // The legend lies over the lowest part.
    const room = this.height - 56;
    const both = Math.min((this.width - 40) / w, (room - 20) / h, 1.2);
    const scale = whole ? both : Math.max(both, Math.min((this.width - 40) / w, 0.75));
    const top = h * scale > room ? -24 / scale : (h - room / scale) / 2;
    this.go({ scale, x: (w - this.width / scale) / 2, y: top }, smooth);
  }

  centre(item, smooth = true) {
    const b = this.scene.box(item);
    const fits = Math.min((this.width - 60) / b.w, (this.height - 60) / b.h);
    const scale = Math.min(fits, Math.max(this.camera.scale, 0.8), 1.6);
    this.go({ scale, x: b.x + b.w / 2 - this.width / 2 / scale, y: b.y + b.h / 2 - this.height / 2 / scale }, smooth);
  }

  /** Moves as little as needed for an item to be seen. */
  keepSeen(item) {
    const b = this.scene.box(item), { x, y, scale } = this.target?.to ?? this.camera, m = 30 / scale;
    const inside = b.x > x + m && b.y > y + m && b.x + b.w < x + this.width / scale - m && b.y + b.h < y + this.height / scale - m;
    if (!inside || b.h * scale < 12) this.centre(item);
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const c = this.camera, least = Math.min(0.05, (0.5 * this.height) / this.scene.size.h), scale = Math.min(4, Math.max(least, c.scale * factor));
    this.target = null;
    this.camera = { scale, x: c.x + px / c.scale - px / scale, y: c.y + py / c.scale - py / scale };
    this.redraw();
  }

  pan(dx, dy) {
    this.target = null;
    this.camera.x += dx / this.camera.scale;
    this.camera.y += dy / this.camera.scale;
    this.redraw();
  }

  select(item, tell = true) {
    this.selected = item;
    this.near = item < 0 || item === 0 ? new Set() : new Set([...this.graph.neighbours(item, true), ...this.graph.neighbours(item, false)]);
    this.redraw();
    if (tell) this.onSelect(item, this);
  }

  /** Lays out with other groups open; `keep` stays where it is on the screen. */
  async setOpen(open, keep = -1) {
    const before = keep >= 0 ? this.scene.box(keep) : null;
    const { x, y, scale } = this.camera;
    await this.scene.layout(open);
    if (before) {
      const after = this.scene.box(keep);
      const px = before.x + before.w / 2 - x, top = before.y - y;
      this.go({ scale, x: after.x + after.w / 2 - px, y: after.y - top }, false);
    }
    this.redraw();
  }

  async toggle(group) {
    const open = new Set(this.scene.open);
    if (open.has(group)) {
      if (group === 0) return;
      open.delete(group);
    } else {
      open.add(group);
      // A group that holds one group only is opened through.
      for (let g = group; this.graph.children[g].length === 1 && this.graph.isGroup(this.graph.children[g][0]);) open.add((g = this.graph.children[g][0]));
    }
    await this.setOpen(open, group);
    this.keepSeen(group);
  }

  /** Opens one level more, everywhere or in the selected group. */
  async expand() {
    const open = new Set(this.scene.open);
    const within = this.graph.isGroup(this.selected) ? this.selected : 0;
    const under = (g) => { for (let p = g; p >= 0; p = this.graph.parent[p]) if (p === within) return true; return false; };
    for (const g of [...this.scene.open, within].filter(under)) for (const c of this.graph.children[g]) if (this.graph.isGroup(c)) open.add(c);
    if (within && !this.scene.open.has(within)) { open.clear(); this.scene.open.forEach((g) => open.add(g)); open.add(within); }
    await this.setOpen(open, this.selected);
    if (this.selected < 0) this.fit(true, false);
  }

  async expandAll() {
    const open = new Set();
    for (let g = 0; g < this.graph.g; g++) open.add(g);
    await this.setOpen(open);
    this.fit(false);
  }

  /** Opens what hides an item, and shows it. */
  async reveal(item, smooth = true) {
    const hidden = this.graph.path(item).filter((g) => !this.scene.open.has(g));
    if (hidden.length) await this.setOpen(new Set([...this.scene.open, ...hidden]));
    this.centre(item, smooth);
  }

  at(event) {
    const r = this.canvas.getBoundingClientRect();
    const px = event.clientX - r.left, py = event.clientY - r.top;
    return { px, py, x: this.camera.x + px / this.camera.scale, y: this.camera.y + py / this.camera.scale };
  }

  listen() {
    const c = this.canvas;
    const held = new Map();
    let moved = 0, spread = 0;
    c.addEventListener("pointerdown", (e) => {
      c.setPointerCapture(e.pointerId);
      held.set(e.pointerId, e);
      moved = 0;
      spread = 0;
      c.style.cursor = "grabbing";
    });
    c.addEventListener("pointermove", (e) => {
      const last = held.get(e.pointerId);
      if (!last) {
        const at = this.at(e);
        c.style.cursor = this.scene.levels.has(0) && this.scene.hit(at.x, at.y) >= 0 ? "pointer" : "grab";
        return;
      }
      held.set(e.pointerId, e);
      moved += Math.abs(e.clientX - last.clientX) + Math.abs(e.clientY - last.clientY);
      if (held.size === 2) {
        const [a, b] = [...held.values()];
        const now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread) this.zoom(now / spread, this.at(a).px / 2 + this.at(b).px / 2, this.at(a).py / 2 + this.at(b).py / 2);
        spread = now;
      } else if (moved > 3) this.pan(last.clientX - e.clientX, last.clientY - e.clientY);
    });
    const release = (e) => {
      const was = held.delete(e.pointerId);
      c.style.cursor = "grab";
      if (!was || moved > 3 || e.type === "pointercancel") return;
      const { x, y } = this.at(e);
      const item = this.scene.hit(x, y);
      if (item >= 0 && this.graph.isGroup(item) && this.onSign(item, x, y)) this.toggle(item);
      this.select(item);
    };
    c.addEventListener("pointerup", release);
    c.addEventListener("pointercancel", release);
    c.addEventListener("dblclick", (e) => {
      const { x, y } = this.at(e);
      const item = this.scene.hit(x, y);
      if (item >= 0 && this.graph.isGroup(item) && !this.onSign(item, x, y)) this.toggle(item);
    });
    c.addEventListener("wheel", (e) => {
      e.preventDefault();
      const { px, py } = this.at(e);
      const unit = e.deltaMode === 1 ? 30 : 1;
      if (e.shiftKey) this.pan(e.deltaY * unit, 0);
      else this.zoom(Math.exp(-e.deltaY * unit * (e.ctrlKey ? 0.01 : 0.0016)), px, py);
    }, { passive: false });
    c.addEventListener("keydown", (e) => this.key(e));
  }

  /** Whether a point lies on a group's sign that opens or closes it. */
  onSign(group, x, y) {
    const b = this.scene.box(group);
    return x > b.x + b.w - 34 && y < b.y + 32;
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const all = this.graph, item = this.selected;
    const choose = (next) => { if (next !== undefined && next >= 0) { this.select(next); this.keepSeen(next); } };
    const first = () => all.children[0].find((c) => !all.isPort(c)) ?? all.children[0][0];
    const beside = (step) => {
      if (item <= 0) return first();
      const list = all.children[all.parent[item]];
      return list[(list.indexOf(item) + step + list.length) % list.length];
    };
    const actions = {
      ArrowDown: () => choose(item <= 0 ? first() : all.neighbours(item, true)[0] ?? beside(1)),
      ArrowUp: () => choose(item <= 0 ? first() : all.neighbours(item, false)[0] ?? beside(-1)),
      ArrowRight: () => choose(beside(1)),
      ArrowLeft: () => choose(beside(-1)),
      Enter: () => {
        if (!all.isGroup(item)) return;
        if (this.scene.open.has(item)) choose(all.children[item][0]); else this.toggle(item);
      },
      " ": () => all.isGroup(item) && this.toggle(item),
      Backspace: () => item > 0 && all.parent[item] > 0 && choose(all.parent[item]),
      "+": () => this.zoom(1.25), "=": () => this.zoom(1.25), "-": () => this.zoom(0.8),
      h: () => this.pan(-80, 0), l: () => this.pan(80, 0), j: () => this.pan(0, 80), k: () => this.pan(0, -80),
      PageDown: () => this.pan(0, this.height * 0.8), PageUp: () => this.pan(0, -this.height * 0.8),
    };
    if (actions[e.key]) { e.preventDefault(); actions[e.key](); }
  }
}
