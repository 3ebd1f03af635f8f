// Draws a scene with a pen: onto a canvas, or as SVG. The same code makes both.

const PALETTE = {
  light: { page: "#f6f7f9", card: "#ffffff", ink: "#17202b", soft: "#556170", line: "#c9d1db", edge: "#8d99a8", inside: ["#eef1f5", "#f8f9fb"], accent: "#1558c0" },
  dark: { page: "#10141a", card: "#1d2430", ink: "#e7ecf3", soft: "#a3afbf", line: "#3a4656", edge: "#6d7b8d", inside: ["#171d26", "#131820"], accent: "#7db3ff" },
};
const FONT = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

/** Draws on a canvas whose transform is that of the drawing. */
class CanvasPen {
  constructor(ctx) { this.ctx = ctx; this.cut = new Map(); }

  rect(x, y, w, h, r, fill, line, width = 1) {
    const c = this.ctx;
    c.beginPath();
    if (r) c.roundRect(x, y, w, h, r); else c.rect(x, y, w, h);
    if (fill) { c.fillStyle = fill; c.fill(); }
    if (line) { c.strokeStyle = line; c.lineWidth = width; c.stroke(); }
  }

  text(s, x, y, size, fill, { bold = false, room = Infinity, middle = false } = {}) {
    const c = this.ctx;
    c.font = `${bold ? 600 : 400} ${size}px ${FONT}`;
    c.fillStyle = fill;
    c.textAlign = middle ? "center" : "left";
    c.fillText(this.shorten(s, room, c.font), x, y);
  }

  shorten(s, room, font) {
    if (room === Infinity) return s;
    const key = font + room.toFixed(0) + s;
    let out = this.cut.get(key);
    if (out === undefined) {
      out = s;
      if (this.ctx.measureText(s).width > room) {
        let low = 0, high = s.length;
        while (low < high) {
          const mid = (low + high + 1) >> 1;
          if (this.ctx.measureText(s.slice(0, mid) + "…").width <= room) low = mid; else high = mid - 1;
        }
        out = s.slice(0, low) + "…";
      }
      if (this.cut.size > 50000) this.cut.clear();
      this.cut.set(key, out);
    }
    return out;
  }

  curve(points, line, width, arrow) {
    const c = this.ctx;
    c.beginPath();
    trace(points, (x, y) => c.moveTo(x, y), (x, y) => c.lineTo(x, y), (a, b, x, y) => c.quadraticCurveTo(a, b, x, y));
    c.strokeStyle = line;
    c.lineWidth = width;
    c.stroke();
    if (arrow) {
      const [x, y] = points.at(-1);
      c.beginPath();
      c.moveTo(x, y);
      c.lineTo(x - 3.6, y - 7);
      c.lineTo(x + 3.6, y - 7);
      c.closePath();
      c.fillStyle = line;
      c.fill();
    }
  }
}

/** The same calls as text of an SVG. */
class SvgPen {
  constructor() { this.parts = []; }
  esc(s) { return String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;").replace(/[^\t\n\r\u0020-\ufffd]/g, ""); }
  rect(x, y, w, h, r, fill, line, width = 1) {
    this.parts.push(`<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${w.toFixed(1)}" height="${h.toFixed(1)}" rx="${r}" fill="${fill ?? "none"}"${line ? ` stroke="${line}" stroke-width="${width}"` : ""}/>`);
  }
  text(s, x, y, size, fill, { bold = false, room = Infinity, middle = false } = {}) {
    const most = Math.floor(room / (size * 0.56));
    const cut = s.length > most ? s.slice(0, Math.max(1, most - 1)) + "…" : s;
    this.parts.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" fill="${fill}"${bold ? ' font-weight="600"' : ""}${middle ? ' text-anchor="middle"' : ""}>${this.esc(cut)}</text>`);
  }
  curve(points, line, width, arrow) {
    const d = [], f = (v) => v.toFixed(1);
    trace(points, (x, y) => d.push(`M${f(x)} ${f(y)}`), (x, y) => d.push(`L${f(x)} ${f(y)}`), (a, b, x, y) => d.push(`Q${f(a)} ${f(b)} ${f(x)} ${f(y)}`));
    this.parts.push(`<path d="${d.join("")}" fill="none" stroke="${line}" stroke-width="${width}"/>`);
    if (arrow) {
      const [x, y] = points.at(-1);
      this.parts.push(`<path d="M${f(x)} ${f(y)}l-3.6 -7h7.2z" fill="${line}"/>`);
    }
  }
}

/** A smooth line through the middles between points. */
function trace(points, move, line, quad) {
  move(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [ax, ay] = points[i], [bx, by] = points[i + 1];
    const last = i === points.length - 2;
    quad(ax, ay, last ? bx : (ax + bx) / 2, last ? by : (ay + by) / 2);
  }
  if (points.length === 2) line(...points[1]);
}

/**
 * Draws everything of a scene that is seen.
 * @param {object} o scene, colouring, theme, selected item, `window` (the part that is seen), `scale` (pixels per unit)
 */
function drawScene(pen, o) {
  const { scene, colouring, selected, window: seen, scale } = o;
  const { graph } = scene;
  const p = PALETTE[o.theme];
  const near = o.near ?? new Set();
  const outside = (x, y, w, h) => x > seen.x1 - seen.x0 || y > seen.y1 - seen.y0 || x + w < 0 || y + h < 0;

  const group = (g, x, y, depth) => {
    const level = scene.levels.get(g);
    const children = graph.children[g];
    if (g !== 0) {
      const line = g === selected ? p.accent : p.line;
      pen.rect(x, y, level.w, level.h, 12, p.inside[depth % 2], line, g === selected ? 2.5 : 1);
    }
    // Too small to tell children apart: shapes only where they are more than a few pixels.
    if (g !== 0 && level.w * scale < 26) return;
    if (scale > 0.1) edges(g, level, x, y);
    if (g !== 0 && scale * 13 > 4.5) {
      const count = `${graph.count[g]} node${graph.count[g] === 1 ? "" : "s"}`, after = Math.min(level.w - 100, 14 + textWidth(graph.label(g), 14.5) + 12);
      // Edges that enter from above end below the title.
      pen.rect(x + 10, y + 8, Math.min(level.w - 40, after + textWidth(count, 11)), 19, 0, p.inside[depth % 2]);
      pen.text(graph.label(g), x + 14, y + 22, 13, p.ink, { bold: true, room: level.w - 118 });
      pen.text(count, x + after, y + 22, 11, p.soft);
      sign(x + level.w - 20, y + 18, false);
    }
    for (let i = 0; i < children.length; i++) {
      const c = children[i];
      const w = level.sizes[2 * i], h = level.sizes[2 * i + 1];
      const cx = x + level.xy[2 * i] - w / 2, cy = y + level.xy[2 * i + 1] - h / 2;
      if (outside(cx, cy, w, h)) continue;
      if (scene.levels.has(c)) group(c, cx, cy, depth + 1);
      else card(c, cx, cy, w, h);
    }
  };

  const edges = (g, level, x, y) => {
    const list = graph.edges[g];
    for (let e = 0; e < list.length; e++) {
      const from = level.starts[e], to = level.starts[e + 1];
      if (to - from < 2) continue;
      const points = [];
      let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
      for (let k = from; k < to; k++) {
        const px = x + level.points[2 * k], py = y + level.points[2 * k + 1];
        points.push([px, py]);
        x0 = Math.min(x0, px); x1 = Math.max(x1, px); y0 = Math.min(y0, py); y1 = Math.max(y1, py);
      }
      if (outside(x0, y0, x1 - x0, y1 - y0)) continue;
      const { a, b, count, value } = list[e];
      const touched = selected >= 0 && (a === selected || b === selected);
      pen.curve(points, touched ? p.accent : p.edge, (touched ? 2 : 1.2) + Math.min(2, Math.log2(count) * 0.5), b >= 0);
      if (scale > 0.75 && a >= 0 && b >= 0 && to - from <= 4 && list.length < 80) {
        const mid = points[points.length >> 1], other = points[(points.length >> 1) - 1];
        const text = count > 1 ? `${count} tensors` : shapeOf(graph.valueType(value));
        if (text) pen.text(text, (mid[0] + other[0]) / 2 + 6, (mid[1] + other[1]) / 2 + 3, 10, p.soft);
      }
    }
  };

  const card = (c, x, y, w, h) => {
    const colour = colouring.colour(c);
    if (w * scale < 16) { pen.rect(x, y, w, h, 0, colour); return; }
    const chosen = c === selected;
    const line = chosen ? p.accent : near.has(c) ? p.accent : p.line;
    const isGroup = graph.isGroup(c), isPort = graph.isPort(c);
    if (isGroup) pen.rect(x + 5, y + 5, w - 2, h - 2, 10, p.inside[0], p.line);
    pen.rect(x, y, w, h, isPort ? h / 2 : 9, p.card, line, chosen ? 2.5 : 1);
    if (isPort) {
      pen.text(graph.valueName(graph.ports[c - graph.portBase].value), x + w / 2, y + h / 2 + 4, 12, p.ink, { middle: true, bold: true, room: w - 16 });
      return;
    }
    pen.rect(x + 1, y + 6, 5, h - 12, 2.5, colour);
    if (scale * 12 < 4.5) return;
    const figure = colouring.figure(c);
    const right = figure === null ? "" : showNumber(figure, colouring.overlay.unit);
    if (isGroup) {
      pen.text(graph.label(c), x + 14, y + 20, 13, p.ink, { bold: true, room: w - 46 });
      const count = `${graph.count[c]} node${graph.count[c] === 1 ? "" : "s"}`;
      pen.text(right ? `${count} · ${right}` : count, x + 14, y + 36, 11, p.soft, { room: w - 24 });
      sign(x + w - 18, y + 16, true);
      let at = x + 14;
      const room = w - 28;
      for (const [fill, share] of colouring.parts(c) ?? [[colour, 1]]) {
        const part = room * share;
        if (part * scale > 0.7) pen.rect(at, y + h - 14, Math.max(0.5, part - 1), 5, 1.5, fill);
        at += part;
      }
    } else {
      const k = graph.node(c);
      pen.text(graph.op(k).replace(/^oxrt\./, ""), x + 13, y + 18, 13, p.ink, { bold: true, room: w - 20 });
      pen.text(right || graph.short(k), x + 13, y + 33, 11, p.soft, { room: w - 20 });
    }
  };

  const sign = (x, y, plus) => {
    pen.rect(x - 5, y - 0.8, 10, 1.6, 0.8, p.soft);
    if (plus) pen.rect(x - 0.8, y - 5, 1.6, 10, 0.8, p.soft);
  };

  // Far from the origin a canvas's own transform is too coarse: places are moved here, in double precision.
  if (scene.levels.has(0)) group(0, -seen.x0, -seen.y0, 0);
}

/** `f32[n, 3]` as `n×3`; empty for what is no tensor with known dimensions. */
function shapeOf(type) {
  const m = /^\w+\[(.*)\]$/.exec(type);
  return m && m[1] ? m[1].split(",").map((d) => d.trim()).join("×") : "";
}
