//! The choice between kernels by measurement, and the record of it.

use oxrt_backend::{Backend, BindArgs, BindInput, Block, Device, Io, Kernel, NodeView, Queue, Words};
use oxrt_ir::{DType, Graph, NodeId, Symbol, ValueId};
use oxrt_plan::choose::Chosen;
use oxrt_plan::{Profile, SizeRange, Step};
use oxrt_tensor::{Context, Error, Result, Tensor, map_file, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Timed runs of a kernel, of which the shortest counts.
const RUNS: usize = 5;
/// What the timed runs of one kernel may take together (at least two are made).
const LONGEST: Duration = Duration::from_millis(400);
/// A kernel replaces one that stands before it only when it takes less than this share of its time: earlier ones are more
/// exact, or smaller.
const CLEARLY: f64 = 0.95;
/// Sizes that are timed are a factor of this apart.
const APART: f64 = 2.0;
/// Most bytes of a node's tensors at sizes that are timed beside the usual ones.
const LARGEST: usize = 2 << 30;
/// Most bytes that are read between two runs, so that weights come from memory as they do in a whole network.
const FLUSH: usize = 64 << 20;

/// The time of a rival that turned out not to serve a node ([`Backend::serves`]).
const UNFIT: f64 = f64::MAX;

/// Bytes that weights may grow by in packing, where the model's own are fewer; else they may double.
const GROWTH: usize = 64 << 20;

/// Times of kernels in microseconds, by machine, node and kernel. With a full record a build chooses the same kernels
/// again without measuring, and writes the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningRecord {
    machines: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>,
    /// What chosen kernels are packed by ([`Backend::note`]), in the same order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>,
}

impl TuningRecord {
    /// Reads a record; a missing file is an empty one.
    ///
    /// # Errors
    /// A file that is not a record, or a folder that is not there.
    pub fn read(path: &Path) -> Result<TuningRecord> {
        if !path.exists() {
            // Said before minutes of timing, not after.
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|p| !p.is_dir()) {
                return Err(Error::invalid(format!("there is no folder {} for the tuning record", folder.display())));
            }
            return Ok(TuningRecord::default());
        }
        let bytes = map_file(path)?;
        serde_json::from_slice(bytes.as_ref()).map_err(|e| {
            Error::invalid(format!("not a tuning record: {e}"))
                .at(path.display().to_string())
                .help("name another file, or delete this one to measure anew")
        })
    }

    /// Writes it beside `path` and renames.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::bug(format!("a record without text: {e}")))?;
        write_atomically(path, |file| Ok(writeln!(file, "{text}")?)).at(|| path.display())
    }

    /// Measured kernels, all machines together.
    pub fn len(&self) -> usize {
        self.machines.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }

    /// Times that were measured for a node at these sizes, in microseconds by kernel; those of the first machine that has any.
    pub fn times(&self, g: &Graph, id: NodeId, sizes: &BTreeMap<Symbol, i64>) -> Option<BTreeMap<String, f64>> {
        let key = key(g, id, &Shapes::of(g, id, sizes)?);
        let times = self.machines.values().find_map(|m| m.get(&key))?;
        Some(times.iter().filter(|(_, t)| **t < UNFIT).map(|(name, t)| (name.clone(), *t)).collect())
    }

    /// Whether nothing was measured yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Sizes at which kernels are timed: first those that the engine is tuned for, then others of its ranges, so that none lies
/// further than a factor of [`APART`] from one that was timed.
pub(crate) fn sizes_to_time(profiles: &[Profile]) -> Vec<BTreeMap<Symbol, i64>> {
    let mut all: Vec<BTreeMap<Symbol, i64>> = Vec::new();
    for p in profiles {
        let at = |size: &dyn Fn(&SizeRange) -> i64| -> BTreeMap<Symbol, i64> {
            p.ranges.iter().map(|(s, r)| (s.clone(), size(r))).collect()
        };
        let mut add = |sizes: BTreeMap<Symbol, i64>| {
            if !all.contains(&sizes) {
                all.push(sizes);
            }
        };
        add(at(&|r| r.opt));
        // All dimensions go from their least to their usual and on to their greatest size together.
        let greatest = |r: &SizeRange| r.upper().min(r.opt.max(1).saturating_mul(256));
        for [from, to] in [[(|r| r.min.max(1)) as fn(&SizeRange) -> i64, |r| r.opt], [|r| r.opt, greatest]] {
            let widest = p.ranges.values().map(|r| to(r) as f64 / from(r).max(1) as f64).fold(1.0, f64::max);
            let pieces = (widest.ln() / APART.ln()).ceil() as i32;
            for i in 0..=pieces {
                let share = f64::from(i) / f64::from(pieces.max(1));
                let between = |r: &SizeRange| {
                    let (from, to) = (from(r).max(1) as f64, to(r).max(1) as f64);
                    (from * (to / from).powf(share)).round() as i64
                };
                add(at(&between));
            }
        }
    }
    all
}

/// Chooses for every node whose kernels only a measurement tells apart, at each of the sizes; measures what the record lacks.
/// The first of the sizes are those that the engine is tuned for. `narrowed` is the graph with tensors of the build's narrower
/// type: kernels that take those are timed on them, and stay where no other is clearly quicker.
///
/// # Errors
/// A kernel that cannot pack or load what it said to support.
pub fn tune(
    g: &Graph,
    narrowed: Option<&Graph>,
    backend: &dyn Backend,
    sizes: &[BTreeMap<Symbol, i64>],
    record: &mut TuningRecord,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<HashMap<NodeId, Chosen>> {
    let mut chosen = HashMap::new();
    let rivals: Vec<(NodeId, Vec<&'static str>)> = g
        .node_ids()
        .into_iter()
        .map(|id| (id, backend.rivals(NodeView::new(g, id))))
        .filter(|(_, names)| names.len() > 1)
        .collect();
    if rivals.is_empty() {
        return Ok(chosen);
    }
    let weights: usize = g.value_ids().filter_map(|v| g.constant(v)).map(|t| t.bytes().len()).sum();
    let mut flush = vec![1u8; if weights > (4 << 20) { weights.min(FLUSH) } else { 0 }];
    let mut rated: Vec<Rated> = Vec::new();
    let device = backend.device();
    let times = record.machines.entry(backend.timing_context()).or_default();
    let total = rivals.len();
    if device.is_some() {
        // Texts are compiled side by side.
        let missing = |(id, names): &(NodeId, Vec<&'static str>)| -> Vec<(NodeId, &'static str)> {
            let keys: Vec<String> = points(g, *id, sizes).iter().map(|p| p.key.clone()).collect();
            let known = |n: &str| keys.iter().all(|k| times.get(k).is_some_and(|t| t.contains_key(n)));
            names.iter().filter(|n| !known(n)).map(|n| (*id, *n)).collect()
        };
        let work: Vec<(NodeId, &'static str)> = rivals.iter().flat_map(missing).collect();
        let total = work.len();
        // What a backend compiles it keeps. What goes wrong here goes wrong again where it is reported.
        oxrt_plan::choose::side_by_side(total, &mut |i| progress("compiling kernels", i, total), |i| {
            let _ = backend.pack(NodeView::new(g, work[i].0), work[i].1);
        });
    }
    for (i, (id, names)) in rivals.into_iter().enumerate() {
        progress("timing kernels", i, total);
        let view = NodeView::new(g, id);
        let mut points = points(g, id, sizes);
        if points.is_empty() {
            continue;
        }
        let lacks = |point: &Point, name: &str, times: &BTreeMap<String, BTreeMap<String, f64>>| {
            times.get(&point.key).is_none_or(|t| !t.contains_key(name))
        };
        let wanted: Vec<&'static str> =
            names.iter().copied().filter(|name| points.iter().any(|p| lacks(p, name, times))).collect();
        let place = || g[id].describe();
        let graph_of = |name: &str| narrowed.filter(|_| backend.mixes_floats(name)).unwrap_or(g);
        let views = wanted.iter().map(|name| (NodeView::new(graph_of(name), id), *name));
        let (views, unfit): (Vec<_>, Vec<_>) = views.partition(|(view, name)| backend.serves(*view, name));
        for (_, name) in unfit {
            for point in &points {
                times.entry(point.key.clone()).or_default().insert(name.to_string(), UNFIT);
            }
        }
        let timed = load_all(&views, backend).at(place)?;
        for (at, point) in points.iter().enumerate() {
            let missing: Vec<&Timed> = timed.iter().filter(|t| lacks(point, t.name, times)).collect();
            if missing.is_empty() {
                continue;
            }
            let found = match &device {
                Some(device) => on_device(g, device, &point.shapes, &missing),
                None => missing.iter().map(|t| t.on_host(graph_of(t.name), &point.shapes, &mut flush)).collect(),
            };
            // Sizes between those of a range may be none that the model takes (of a side that has to be a multiple of 32).
            let found = match found {
                Err(_) if at > 0 => continue,
                found => found.at(place)?,
            };
            for (kernel, seconds) in missing.iter().zip(found) {
                let us = (seconds * 1e7).round() / 10.0;
                times.entry(point.key.clone()).or_default().insert(kernel.name.to_string(), us);
            }
        }
        points.retain(|p| names.iter().all(|name| !lacks(p, name, times)));
        let usual = &points[0];
        let best_of = |point: &Point, first: &'static str| {
            let times = &times[&point.key];
            let mut best = first;
            for name in &names {
                if times[*name] < CLEARLY * times[best] {
                    best = name;
                }
            }
            best
        };
        let mixed = names.iter().copied().find(|name| narrowed.is_some() && backend.mixes_floats(name));
        let best = best_of(usual, mixed.unwrap_or(names[0]));
        // Elsewhere the usual kernel stays where none is clearly quicker: one more takes memory.
        let mut by_work: Vec<(u64, &'static str)> = points.iter().map(|p| (p.work, best_of(p, best))).collect();
        by_work.sort_by_key(|p| p.0);
        by_work.dedup_by_key(|p| p.0);
        if by_work.iter().all(|p| p.1 == best) {
            by_work.clear();
        }
        let usual = &times[&usual.key];
        let options = names.iter().map(|name| (*name, usual[*name], backend.extra_bytes(view, name))).collect();
        rated.push((id, options));
        chosen.insert(id, Chosen { usual: best, by_work });
    }
    fit(&mut chosen, &rated, weights.max(GROWTH));
    keep_notes(g, backend, sizes, &chosen, record);
    progress("timing kernels", total, total);
    Ok(chosen)
}

/// Gives the backend the record's notes of kernels that were chosen, and the record those that it lacks.
fn keep_notes(
    g: &Graph,
    backend: &dyn Backend,
    sizes: &[BTreeMap<Symbol, i64>],
    chosen: &HashMap<NodeId, Chosen>,
    record: &mut TuningRecord,
) {
    for (id, chosen) in chosen {
        let view = NodeView::new(g, *id);
        let Some(shapes) = sizes.first().and_then(|s| Shapes::of(g, *id, s)) else { continue };
        let key = key(g, *id, &shapes);
        for name in chosen.by_work.iter().map(|(_, name)| *name).chain([chosen.usual]) {
            let machine = record.notes.get(&backend.timing_context());
            let there = machine.and_then(|m| m.get(&key)?.get(name));
            if there.is_some_and(|note| backend.recall(view, name, note)) {
                continue;
            }
            if let Some(note) = backend.note(view, name) {
                let machine = record.notes.entry(backend.timing_context()).or_default();
                machine.entry(key.clone()).or_default().insert(name.to_string(), note);
            }
        }
    }
}

/// Kernels of a node with their times and the bytes that their weights take more than the node's own.
type Rated = (NodeId, Vec<(&'static str, f64, usize)>);

/// Gives up time for memory, where it costs least of it, until packed weights take no more than `most` bytes beyond the model's.
fn fit(chosen: &mut HashMap<NodeId, Chosen>, rated: &[Rated], most: usize) {
    let of = |chosen: &HashMap<NodeId, Chosen>, (id, options): &Rated| {
        chosen.get(id).and_then(|c| options.iter().find(|o| o.0 == c.usual)).copied()
    };
    let mut extra: usize = rated.iter().filter_map(|r| of(chosen, r)).map(|o| o.2).sum();
    while extra > most {
        // Time per byte of each step down that any node could take.
        let steps = rated.iter().flat_map(|r| {
            let now = of(chosen, r);
            let less = move |o: &&(&'static str, f64, usize)| now.is_some_and(|now| o.2 < now.2);
            r.1.iter().filter(less).map(move |o| {
                let now = now.unwrap_or(*o);
                ((o.1 - now.1).max(0.0) / (now.2 - o.2) as f64, r.0, o.0, now.2 - o.2)
            })
        });
        let Some((_, id, name, saved)) = steps.min_by(|a, b| a.0.total_cmp(&b.0)) else { return };
        chosen.insert(id, Chosen { usual: name, by_work: Vec::new() });
        extra -= saved;
    }
}

/// A node at sizes that it is timed at.
struct Point {
    shapes: Shapes,
    key: String,
    work: u64,
}

/// The sizes at which a node is timed, the usual ones first; those that make the same of it once. None when its sizes
/// depend on data.
fn points(g: &Graph, id: NodeId, sizes: &[BTreeMap<Symbol, i64>]) -> Vec<Point> {
    let mut all: Vec<Point> = Vec::new();
    for (i, sizes) in sizes.iter().enumerate() {
        let Some(shapes) = Shapes::of(g, id, sizes) else {
            match i {
                0 => return all,
                _ => continue,
            }
        };
        let key = key(g, id, &shapes);
        // Larger ones would take a device's memory from whatever else runs there.
        if all.iter().any(|p| p.key == key) || (i > 0 && shapes.bytes(g) > LARGEST) {
            continue;
        }
        let work = shapes.with_args(g, |args| Step::work(g, id, args));
        all.push(Point { shapes, key, work });
    }
    all
}

/// Shapes of a node's operands at some sizes.
struct Shapes {
    inputs: Vec<Option<(ValueId, Vec<usize>)>>,
    outputs: Vec<Option<(ValueId, Vec<usize>)>>,
}

impl Shapes {
    fn of(g: &Graph, id: NodeId, sizes: &BTreeMap<Symbol, i64>) -> Option<Shapes> {
        let shape = |v: &Option<ValueId>| -> Option<Option<(ValueId, Vec<usize>)>> {
            let Some(v) = *v else { return Some(None) };
            let dims = g[v].ty.dims()?;
            let shape = dims.iter().map(|d| usize::try_from(d.eval(&|s| sizes.get(s).copied())?).ok());
            Some(Some((v, shape.collect::<Option<_>>()?)))
        };
        Some(Shapes {
            inputs: g[id].inputs().iter().map(shape).collect::<Option<_>>()?,
            outputs: g[id].outputs().iter().map(shape).collect::<Option<_>>()?,
        })
    }

    fn bytes(&self, g: &Graph) -> usize {
        let one = |(v, shape): &(ValueId, Vec<usize>)| {
            g[*v].ty.dtype().unwrap_or(DType::F32).bytes_for(shape.iter().product())
        };
        self.inputs.iter().chain(&self.outputs).flatten().map(one).sum()
    }

    /// What a kernel is bound to.
    fn with_args<R>(&self, g: &Graph, then: impl FnOnce(&BindArgs) -> R) -> R {
        let inputs: Vec<Option<BindInput>> = (self.inputs.iter())
            .map(|x| x.as_ref().map(|(v, shape)| BindInput { shape, value: g.constant(*v) }))
            .collect();
        let outputs: Vec<Option<&[usize]>> =
            self.outputs.iter().map(|x| x.as_ref().map(|(_, shape)| shape.as_slice())).collect();
        then(&BindArgs { inputs: &inputs, outputs: &outputs })
    }
}

/// What a time depends on beside the machine: operator, attributes, types and shapes.
fn key(g: &Graph, id: NodeId, shapes: &Shapes) -> String {
    let one = |x: &Option<(ValueId, Vec<usize>)>| match x {
        None => "-".to_string(),
        Some((v, shape)) => format!("{}{shape:?}", g[*v].ty.dtype().map_or("?".to_string(), |d| d.to_string())),
    };
    let all = |list: &[Option<(ValueId, Vec<usize>)>]| list.iter().map(one).collect::<Vec<_>>().join(" ");
    let attrs: Vec<String> = g[id].attrs.0.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{} {} -> {} {}", g[id].op, all(&shapes.inputs), all(&shapes.outputs), attrs.join(" "))
}

/// Memory of a run, aligned like the arena.
struct Buffer(Vec<Line>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Buffer {
    /// Small numbers of the element type; zeros where it is not a float.
    fn new(dtype: DType, shape: &[usize]) -> Buffer {
        let count: usize = shape.iter().product();
        let bytes = dtype.bytes_for(count);
        let mut lines = vec![Line([0; 64]); bytes.div_ceil(64).max(1)];
        let pattern = |i: usize| ((i * 2_654_435_761) >> 7 & 0xff) as f32 / 256.0 - 0.5;
        for (l, line) in lines.iter_mut().enumerate() {
            match dtype {
                DType::F32 => {
                    for (i, b) in line.0.chunks_exact_mut(4).enumerate() {
                        b.copy_from_slice(&pattern(l * 16 + i).to_le_bytes());
                    }
                }
                DType::F16 => {
                    for (i, b) in line.0.chunks_exact_mut(2).enumerate() {
                        b.copy_from_slice(&half::f16::from_f32(pattern(l * 32 + i)).to_le_bytes());
                    }
                }
                DType::BF16 => {
                    for (i, b) in line.0.chunks_exact_mut(2).enumerate() {
                        b.copy_from_slice(&pattern(l * 32 + i).to_le_bytes()[2..]);
                    }
                }
                _ => {}
            }
        }
        Buffer(lines)
    }

    fn bytes(bytes: usize) -> Buffer {
        Buffer(vec![Line([0; 64]); bytes.div_ceil(64).max(1)])
    }

    fn ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    /// Brings it to the caches.
    fn touch(&self) -> u8 {
        self.0.iter().fold(0, |sum, line| sum ^ line.0[0])
    }
}

/// A kernel that is timed.
struct Timed {
    name: &'static str,
    kernel: Box<dyn Kernel>,
    consumed: Vec<usize>,
    /// What the kernel may read where it lies.
    packed: Vec<Tensor>,
}

/// Packs side by side, and loads, kernels of one node. What is packed alike is kept once.
fn load_all(views: &[(NodeView, &'static str)], backend: &dyn Backend) -> Result<Vec<Timed>> {
    let packings = oxrt_plan::choose::side_by_side(views.len(), &mut |_| {}, |i| backend.pack(views[i].0, views[i].1));
    let mut all: Vec<Timed> = Vec::with_capacity(views.len());
    for (&(view, name), packing) in views.iter().zip(packings) {
        let packing = packing?;
        let packed = oxrt_plan::choose::kept_once(packing.tensors, all.iter().flat_map(|t| &t.packed));
        let kernel = backend.load(view, name, &packed)?;
        all.push(Timed { name, kernel, consumed: packing.consumed, packed });
    }
    Ok(all)
}

impl Timed {
    /// The shortest of some runs with weights out of the caches and activations in them.
    fn on_host(&self, g: &Graph, shapes: &Shapes, flush: &mut [u8]) -> Result<f64> {
        let bound = shapes.with_args(g, |args| self.kernel.bind(args))?;

        let make = |x: &Option<(ValueId, Vec<usize>)>| {
            x.as_ref().map(|(v, shape)| Buffer::new(g[*v].ty.dtype().unwrap_or(DType::F32), shape))
        };
        let mut ins: Vec<Option<Buffer>> = shapes
            .inputs
            .iter()
            .map(|x| if x.as_ref().is_some_and(|(v, _)| g[*v].is_constant()) { None } else { make(x) })
            .collect();
        let mut outs: Vec<Option<Buffer>> = shapes.outputs.iter().map(make).collect();
        let in_ptrs: Vec<*const u8> = (0..ins.len())
            .map(|i| match (&mut ins[i], &shapes.inputs[i]) {
                (Some(buffer), _) => buffer.ptr().cast_const(),
                (None, Some((v, _))) if !self.consumed.contains(&i) => {
                    g.constant(*v).map_or(std::ptr::null(), |t| t.bytes().as_ptr())
                }
                _ => std::ptr::null(),
            })
            .collect();
        let out_ptrs: Vec<*mut u8> =
            outs.iter_mut().map(|b| b.as_mut().map_or(std::ptr::null_mut(), Buffer::ptr)).collect();
        let mut workspace = Buffer::bytes(bound.workspace_bytes());
        let io = Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: workspace.ptr(), device: Default::default() };

        let mut shortest = Duration::MAX;
        let start = Instant::now();
        // The first run is not counted: it fetches code and pages.
        for run in 0..=RUNS {
            // Written, because pages that were only reserved would all be one page of zeros.
            flush.iter_mut().step_by(64).for_each(|b| *b = b.wrapping_add(1));
            std::hint::black_box(ins.iter().flatten().fold(0, |sum, b| sum ^ b.touch()));
            let one = Instant::now();
            // SAFETY: buffers have the bound sizes and types; pointers of packed constants and absent operands are null.
            unsafe { bound.run(&io)? };
            let took = one.elapsed();
            if run > 0 {
                shortest = shortest.min(took);
            }
            if run >= 2 && start.elapsed() > LONGEST {
                break;
            }
        }
        Ok(shortest.as_secs_f64())
    }
}

/// Most runs of a kernel in one recording on a device, and how long they should take together.
const RECORDED: f64 = 10.0;
const RECORDING: f64 = 1e-3;
/// A kernel that takes so many times what the best one took is not measured again.
const HOPELESS: f64 = 2.0;

/// Memory of a node's operands on a device, at sizes at which kernels are timed.
struct DeviceBench<'a> {
    g: &'a Graph,
    shapes: &'a Shapes,
    device: &'a Arc<dyn Device>,
    queue: Box<dyn Queue>,
    words: Words,
    ins: Vec<Option<Block>>,
    outs: Vec<Option<Block>>,
}

/// Seconds of each of the kernels at these sizes.
fn on_device(g: &Graph, device: &Arc<dyn Device>, shapes: &Shapes, kernels: &[&Timed]) -> Result<Vec<f64>> {
    let bench = DeviceBench::new(g, device, shapes, kernels)?;
    let mut best = f64::MAX;
    let mut one = |kernel: &&Timed| {
        let seconds = bench.seconds(kernel, best)?;
        best = best.min(seconds);
        Ok(seconds)
    };
    kernels.iter().map(&mut one).collect()
}

impl<'a> DeviceBench<'a> {
    fn new(
        g: &'a Graph,
        device: &'a Arc<dyn Device>,
        shapes: &'a Shapes,
        kernels: &[&Timed],
    ) -> Result<DeviceBench<'a>> {
        let queue = device.queue()?;
        let upload = |x: &Option<(ValueId, Vec<usize>)>| -> Result<Option<Block>> {
            let Some((v, shape)) = x else { return Ok(None) };
            let dtype = g[*v].ty.dtype().unwrap_or(DType::F32);
            let block = Block::new(device, dtype.bytes_for(shape.iter().product()))?;
            // A pattern, and copies of it on the device: large tensors would take longer to make than to time.
            const PATTERN: usize = 1 << 20;
            let mut have = block.len().min(PATTERN);
            let mut data = Buffer::new(dtype, &[(PATTERN / dtype.bytes_for(1).max(1)).min(shape.iter().product())]);
            // SAFETY: both have that many bytes; the queue is waited for.
            unsafe { queue.copy_in(block.ptr(), data.ptr(), have)? };
            while have < block.len() {
                let more = have.min(block.len() - have);
                // SAFETY: both ends lie inside the block and do not overlap.
                unsafe { queue.copy(block.ptr().add(have), block.ptr(), more)? };
                have += more;
            }
            queue.synchronize()?;
            Ok(Some(block))
        };
        let read = |i: usize| kernels.iter().any(|k| !k.consumed.contains(&i));
        let ins = (shapes.inputs.iter().enumerate())
            .map(|(i, x)| if read(i) { upload(x) } else { Ok(None) })
            .collect::<Result<Vec<_>>>()?;
        let outs = shapes.outputs.iter().map(upload).collect::<Result<Vec<_>>>()?;
        let words = Words::new(device, &*queue)?;
        Ok(DeviceBench { g, shapes, device, queue, words, ins, outs })
    }

    /// The shortest of some replays of a recording of runs, per run.
    fn seconds(&self, kernel: &Timed, best: f64) -> Result<f64> {
        let queue = &*self.queue;
        let bound = self.shapes.with_args(self.g, |args| kernel.kernel.bind(args))?;
        let in_ptrs: Vec<*const u8> = (self.ins.iter().enumerate())
            .map(|(i, b)| {
                b.as_ref().filter(|_| !kernel.consumed.contains(&i)).map_or(std::ptr::null(), |b| b.ptr().cast_const())
            })
            .collect();
        let out_ptrs: Vec<*mut u8> =
            self.outs.iter().map(|b| b.as_ref().map_or(std::ptr::null_mut(), Block::ptr)).collect();
        let workspace = Block::new(self.device, bound.workspace_bytes())?;
        let io =
            Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: workspace.ptr(), device: self.words.io(queue, 0) };
        // SAFETY: buffers have the bound sizes and types, and stay until the queue has been waited for.
        let run = || unsafe { bound.run(&io) };
        run()?;
        queue.synchronize()?;
        let once = queue.seconds(&mut || run())?;
        let runs = (RECORDING / once.max(1e-9)).clamp(2.0, RECORDED) as usize;
        let recording = queue.record(&mut || (0..runs).try_for_each(|_| run()))?;
        let mut shortest = f64::MAX;
        for _ in 0..RUNS {
            // SAFETY: as above.
            let seconds = queue.seconds(&mut || unsafe { queue.replay(&*recording) })?;
            shortest = shortest.min(seconds / runs as f64);
            if shortest > HOPELESS * best {
                break;
            }
        }
        Ok(shortest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_backend::{Packing, bound, kernel};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Two rivals, of which the second turns out not to serve. The first is packed by a note.
    #[derive(Default)]
    struct Lacking {
        asked: AtomicUsize,
        recalled: AtomicUsize,
    }

    impl Backend for Lacking {
        fn name(&self) -> &'static str {
            "cpu"
        }
        fn target(&self) -> String {
            "any".to_string()
        }
        fn candidates(&self, _: NodeView) -> Vec<&'static str> {
            vec!["own", "library"]
        }
        fn rivals(&self, node: NodeView) -> Vec<&'static str> {
            self.candidates(node)
        }
        fn serves(&self, _: NodeView, candidate: &str) -> bool {
            self.asked.fetch_add(1, Ordering::Relaxed);
            candidate != "library"
        }
        fn note(&self, _: NodeView, candidate: &str) -> Option<String> {
            Some(format!("a note of {candidate}"))
        }
        fn recall(&self, _: NodeView, candidate: &str, note: &str) -> bool {
            self.recalled.fetch_add(1, Ordering::Relaxed);
            note == format!("a note of {candidate}")
        }
        fn pack(&self, _: NodeView, candidate: &str) -> Result<Packing> {
            assert_ne!(candidate, "library");
            Ok(Packing { tensors: Vec::new(), consumed: Vec::new() })
        }
        fn load(&self, _: NodeView, _: &str, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
            kernel(|_| bound(|_| ()).boxed())
        }
    }

    #[test]
    fn rivals_that_do_not_serve_and_notes_are_written_down() {
        let g = oxrt_ir::parse_graph("(f32[4] x) { y = Relu(x) } => y");
        let mut g = g.unwrap();
        oxrt_ops::infer::infer_graph(&mut g, &mut Default::default()).unwrap();
        let (backend, sizes, id) = (Lacking::default(), [BTreeMap::new()], g.node_ids()[0]);
        let mut record = TuningRecord::default();
        let first = tune(&g, None, &backend, &sizes, &mut record, &mut |_, _, _| {}).unwrap();
        assert_eq!(first[&id].usual, "own");
        assert_eq!(backend.asked.swap(0, Ordering::Relaxed), 2);
        let text = serde_json::to_string(&record).unwrap();
        let mut read: TuningRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(read, record);
        assert_eq!(read.times(&g, id, &sizes[0]).unwrap().keys().collect::<Vec<_>>(), ["own"]);
        let again = tune(&g, None, &backend, &sizes, &mut read, &mut |_, _, _| {}).unwrap();
        assert_eq!((again == first, backend.asked.into_inner()), (true, 0));
        // The note was kept, and given back.
        assert_eq!((read == record, backend.recalled.into_inner()), (true, 1));
        assert!(text.contains("a note of own") && !text.contains("a note of library"), "{text}");
    }

    /// Of steps down to less memory those are taken that cost least time per byte, and no more than needed.
    #[test]
    fn memory_is_won_where_it_costs_least_time() {
        let slow = |i: u32| (NodeId(i), vec![("plain", 9.0, 0), ("small", 5.0, 50), ("quick", 4.0, 200)]);
        let rated = [slow(0), (NodeId(1), vec![("plain", 3.0, 0), ("quick", 2.0, 10)]), slow(2)];
        let fitted = |most: usize| {
            let choice = |r: &Rated| (r.0, Chosen { usual: "quick", by_work: Vec::new() });
            let mut chosen: HashMap<NodeId, Chosen> = rated.iter().map(choice).collect();
            fit(&mut chosen, &rated, most);
            [0, 1, 2].map(|i| chosen[&NodeId(i)].usual)
        };
        assert_eq!(fitted(1000), ["quick", "quick", "quick"]);
        assert_eq!(fitted(300), ["small", "quick", "quick"]);
        assert_eq!(fitted(110), ["small", "quick", "small"]);
        assert_eq!(fitted(60), ["plain", "quick", "small"]);
        assert_eq!(fitted(0), ["plain", "plain", "plain"]);
    }
}
