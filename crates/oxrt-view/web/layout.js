// Runs in a worker: places the children of every open group. Levels are laid out one by one, inner ones first; equal levels
// (the layers of a network) are laid out once.

const PAD = 18, HEAD = 34, BORDER = 10;
/** Children beyond which dagre takes too long; and the time after which the quick layout takes over, in ms. */
const LARGEST = 160, PATIENCE = 2500;

const worlds = new Map();
const known = new Map();

self.onmessage = ({ data }) => {
  if (data.world) { worlds.set(data.index, data.world); return; }
  const world = worlds.get(data.index);
  const open = new Set(data.open);
  const started = performance.now();
  const out = new Map();
  const visit = (group) => {
    const children = world.children[group];
    const sizes = new Float32Array(children.length * 2);
    const place = new Map();
    children.forEach((c, i) => {
      place.set(c, i);
      if (open.has(c)) {
        const inner = visit(c);
        sizes[2 * i] = inner.w;
        sizes[2 * i + 1] = inner.h;
      } else {
        sizes[2 * i] = world.widths[c];
        sizes[2 * i + 1] = world.heights[c];
      }
    });
    const edges = world.edges[group].map(({ a, b }) => [a < 0 ? children.length : place.get(a), b < 0 ? children.length + 1 : place.get(b)]);
    const least = group ? world.widths[group] + 80 : 0;
    const key = least + "|" + sizes.join() + "|" + edges.join();
    let level = known.get(key);
    if (!level) {
      const patient = children.length <= LARGEST && performance.now() - started < PATIENCE;
      level = patient ? careful(sizes, edges, least) : quick(sizes, edges, least);
      if (known.size > 20000) known.clear();
      known.set(key, level);
    }
    out.set(group, level);
    return level;
  };
  if (open.has(0)) visit(0);
  self.postMessage({ index: data.index, request: data.request, levels: out, ms: performance.now() - started });
};

/** Layered layout by dagre. Ends beyond the children are the group's upper and lower border. */
function careful(sizes, edges, least) {
  const n = sizes.length / 2;
  const g = new dagre.graphlib.Graph({ multigraph: false });
  g.setGraph({ rankdir: "TB", nodesep: 26, ranksep: 38, edgesep: 14, ranker: n > 80 ? "longest-path" : "network-simplex" });
  g.setDefaultEdgeLabel(() => ({}));
  const ports = new Set(edges.flat().filter((i) => i >= n));
  for (let i = 0; i < n; i++) g.setNode(String(i), { width: sizes[2 * i], height: sizes[2 * i + 1] });
  for (const p of ports) g.setNode(String(p), { width: BORDER, height: 1 });
  edges.forEach(([a, b]) => g.setEdge(String(a), String(b), { weight: a < n && b < n ? 2 : 1 }));
  try { dagre.layout(g); } catch { return quick(sizes, edges, least); }
  const at = (i) => g.node(String(i));
  const lines = edges.map(([a, b]) => g.edge(String(a), String(b)).points);
  return level(sizes, (i) => [at(i).x, at(i).y], lines, edges, least);
}

/** Rows by longest path, in order of execution; linear time. Long rows are broken. */
function quick(sizes, edges, least) {
  const n = sizes.length / 2;
  const rank = new Int32Array(n);
  // Children stand in order of execution: one sweep is enough; an edge against it does not count.
  const into = Array.from({ length: n }, () => []);
  for (const [a, b] of edges) if (a < n && b < n && a < b) into[b].push(a);
  for (let i = 0; i < n; i++) for (const a of into[i]) rank[i] = Math.max(rank[i], rank[a] + 1);
  const rows = [];
  for (let i = 0; i < n; i++) (rows[rank[i]] ??= []).push(i);
  const xs = new Float32Array(n), ys = new Float32Array(n);
  let y = 0;
  for (const row of rows.filter(Boolean)) {
    const most = Math.max(12, Math.ceil(Math.sqrt(row.length) * 1.6));
    for (let from = 0; from < row.length; from += most) {
      const part = row.slice(from, from + most);
      const width = part.reduce((w, i) => w + sizes[2 * i] + 26, -26);
      const height = Math.max(...part.map((i) => sizes[2 * i + 1]));
      let x = -width / 2;
      for (const i of part) { xs[i] = x + sizes[2 * i] / 2; ys[i] = y + height / 2; x += sizes[2 * i] + 26; }
      y += height + 38;
    }
  }
  const end = (i, top) => {
    if (i >= n) return { x: 0, y: i === n ? 0 : y };
    return { x: xs[i], y: ys[i] + (top ? -1 : 1) * sizes[2 * i + 1] / 2 };
  };
  const lines = edges.map(([a, b]) => [end(a, false), end(b, true)]);
  return level(sizes, (i) => [xs[i], ys[i]], lines, edges, least);
}

/** Moves a level so that its box starts at 0, 0, and packs it. */
function level(sizes, at, lines, edges, least) {
  const n = sizes.length / 2;
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  const see = (x0, y0, x1, y1) => { left = Math.min(left, x0); right = Math.max(right, x1); top = Math.min(top, y0); bottom = Math.max(bottom, y1); };
  for (let i = 0; i < n; i++) {
    const [x, y] = at(i), w = sizes[2 * i] / 2, h = sizes[2 * i + 1] / 2;
    see(x - w, y - h, x + w, y + h);
  }
  for (const line of lines) for (const p of line) see(p.x, p.y, p.x, p.y);
  if (!Number.isFinite(left)) [left, right, top, bottom] = [0, 80, 0, 10];
  const w = Math.max(right - left + 2 * PAD, least), h = bottom - top + HEAD + 2 * PAD;
  const dx = (w - right + left) / 2 - left, dy = HEAD + PAD - top;
  // What comes from outside starts where edges meet the box: in the middle of its upper side; so below.
  edges.forEach(([a, b], i) => {
    if (a >= n) lines[i].unshift({ x: w / 2 - dx, y: -dy });
    if (b >= n) lines[i].push({ x: w / 2 - dx, y: h - dy });
  });
  const xy = new Float32Array(2 * n);
  for (let i = 0; i < n; i++) { const [x, y] = at(i); xy[2 * i] = x + dx; xy[2 * i + 1] = y + dy; }
  const starts = new Uint32Array(lines.length + 1);
  lines.forEach((l, i) => { starts[i + 1] = starts[i] + l.length; });
  const points = new Float32Array(2 * starts[lines.length]);
  lines.forEach((l, i) => l.forEach((p, k) => { points[2 * (starts[i] + k)] = p.x + dx; points[2 * (starts[i] + k) + 1] = p.y + dy; }));
  return { w, h, xy, sizes, starts, points };
}
