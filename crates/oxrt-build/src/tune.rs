//! The choice between kernels by measurement, and the record of it.

use oxrt_backend::{Backend, BindArgs, BindInput, Block, Device, DeviceIo, Io, NodeView};
use oxrt_ir::{DType, Graph, NodeId, Symbol, ValueId};
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
/// Most bytes that are read between two runs, so that weights come from memory as they do in a whole network.
const FLUSH: usize = 64 << 20;

/// Times of kernels in microseconds, by machine, node and kernel. With a full record a build chooses the same kernels
/// again without measuring, and writes the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuningRecord {
    machines: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>,
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
    pub fn times(&self, g: &Graph, id: NodeId, sizes: &BTreeMap<Symbol, i64>) -> Option<&BTreeMap<String, f64>> {
        let key = key(g, id, &Shapes::of(g, id, sizes)?);
        self.machines.values().find_map(|m| m.get(&key))
    }

    /// Whether nothing was measured yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Chooses for every node whose kernels only a measurement tells apart, at `sizes`; measures what the record lacks.
///
/// # Errors
/// A kernel that cannot pack or load what it said to support.
pub fn tune(
    g: &Graph,
    backend: &dyn Backend,
    sizes: &BTreeMap<Symbol, i64>,
    record: &mut TuningRecord,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<HashMap<NodeId, &'static str>> {
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
    let device = backend.device();
    let times = record.machines.entry(backend.timing_context()).or_default();
    let total = rivals.len();
    if device.is_some() {
        // Texts are compiled side by side.
        let missing = |(id, names): &(NodeId, Vec<&'static str>)| -> Vec<(NodeId, &'static str)> {
            let known = Shapes::of(g, *id, sizes).and_then(|shapes| times.get(&key(g, *id, &shapes)));
            names.iter().filter(|n| known.is_none_or(|k| !k.contains_key(**n))).map(|n| (*id, *n)).collect()
        };
        let work: Vec<(NodeId, &'static str)> = rivals.iter().flat_map(missing).collect();
        warm(g, backend, &work, progress);
    }
    for (i, (id, names)) in rivals.into_iter().enumerate() {
        progress("timing kernels", i, total);
        let Some(shapes) = Shapes::of(g, id, sizes) else { continue };
        let times = times.entry(key(g, id, &shapes)).or_default();
        for name in &names {
            if !times.contains_key(*name) {
                let view = NodeView::new(g, id);
                let took = match &device {
                    Some(device) => time_on_device(view, backend, device, name, &shapes),
                    None => time(view, backend, name, &shapes, &mut flush),
                };
                let took = took.at(|| g[id].describe())?;
                times.insert(name.to_string(), (took.as_secs_f64() * 1e7).round() / 10.0);
            }
        }
        let mut best = names[0];
        for name in &names[1..] {
            if times[*name] < CLEARLY * times[best] {
                best = name;
            }
        }
        chosen.insert(id, best);
    }
    progress("timing kernels", total, total);
    Ok(chosen)
}

/// Packs in parallel what will be packed again, one by one: what a backend compiles on the way, it keeps.
pub(crate) fn warm(
    g: &Graph,
    backend: &dyn Backend,
    work: &[(NodeId, &'static str)],
    progress: &mut dyn FnMut(&str, usize, usize),
) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len().max(1));
    let one = || {
        let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (id, name) = work.get(i)?;
        // What goes wrong here goes wrong again where it is reported.
        let _ = backend.pack(NodeView::new(g, *id), name);
        Some(i)
    };
    progress("compiling kernels", 0, work.len());
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| while one().is_some() {});
        }
        while let Some(i) = one() {
            progress("compiling kernels", i, work.len());
        }
    });
}

/// Shapes of a node's operands at the sizes tuned for.
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

/// The shortest of some runs with weights out of the caches and activations in them.
fn time(view: NodeView, backend: &dyn Backend, candidate: &str, shapes: &Shapes, flush: &mut [u8]) -> Result<Duration> {
    let g = view.graph;
    let packing = backend.pack(view, candidate)?;
    let packed: Vec<Tensor> = packing.tensors;
    let kernel = backend.load(view, candidate, &packed)?;
    let inputs: Vec<Option<BindInput>> =
        shapes.inputs.iter().map(|x| x.as_ref().map(|(v, shape)| BindInput { shape, value: g.constant(*v) })).collect();
    let outputs: Vec<Option<&[usize]>> =
        shapes.outputs.iter().map(|x| x.as_ref().map(|(_, shape)| shape.as_slice())).collect();
    let bound = kernel.bind(&BindArgs { inputs: &inputs, outputs: &outputs })?;

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
            (None, Some((v, _))) if !packing.consumed.contains(&i) => {
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
    Ok(shortest)
}

/// Runs of a kernel in one recording on a device.
const RECORDED: usize = 10;

/// The shortest of some replays of a recording of runs, per run.
fn time_on_device(
    view: NodeView,
    backend: &dyn Backend,
    device: &Arc<dyn Device>,
    candidate: &str,
    shapes: &Shapes,
) -> Result<Duration> {
    let g = view.graph;
    let packing = backend.pack(view, candidate)?;
    let kernel = backend.load(view, candidate, &packing.tensors)?;
    let inputs: Vec<Option<BindInput>> =
        shapes.inputs.iter().map(|x| x.as_ref().map(|(v, shape)| BindInput { shape, value: g.constant(*v) })).collect();
    let outputs: Vec<Option<&[usize]>> =
        shapes.outputs.iter().map(|x| x.as_ref().map(|(_, shape)| shape.as_slice())).collect();
    let bound = kernel.bind(&BindArgs { inputs: &inputs, outputs: &outputs })?;
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
    let ins = (shapes.inputs.iter().enumerate())
        .map(|(i, x)| if packing.consumed.contains(&i) { Ok(None) } else { upload(x) })
        .collect::<Result<Vec<_>>>()?;
    let outs = shapes.outputs.iter().map(upload).collect::<Result<Vec<_>>>()?;
    let in_ptrs: Vec<*const u8> =
        ins.iter().map(|b| b.as_ref().map_or(std::ptr::null(), |b| b.ptr().cast_const())).collect();
    let out_ptrs: Vec<*mut u8> = outs.iter().map(|b| b.as_ref().map_or(std::ptr::null_mut(), Block::ptr)).collect();
    let workspace = Block::new(device, bound.workspace_bytes())?;
    let status = Block::new(device, 64)?;
    // SAFETY: the block has 64 bytes.
    unsafe { queue.clear(status.ptr(), 64)? };
    let place = DeviceIo { queue: queue.handle(), status: status.ptr().cast(), step: 0 };
    let io = Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: workspace.ptr(), device: place };
    // SAFETY: buffers have the bound sizes and types, and stay until the queue has been waited for.
    let run = || unsafe { bound.run(&io) };
    run()?;
    queue.synchronize()?;
    let recording = queue.record(&mut || (0..RECORDED).try_for_each(|_| run()))?;
    let mut shortest = f64::MAX;
    for _ in 0..RUNS {
        // SAFETY: as above.
        shortest = shortest.min(queue.seconds(&mut || unsafe { queue.replay(&*recording) })?);
    }
    Ok(Duration::from_secs_f64(shortest / RECORDED as f64))
}
