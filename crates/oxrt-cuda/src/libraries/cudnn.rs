//! cuDNN's graph interface: plans that run graphs of operations, such as a convolution and what follows it.
//!
//! A graph is asked for by [`Graph`], and run by one of the library's engines with settings (knobs) of its own: a
//! [`Choice`]. Finding choices takes the library's heuristics; making a plan of a choice again does not. Engines that the library
//! compiles for the graph take tenths of a second for that: what engine files keep of those holds the compiled code as well.

pub mod graphs;

use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendBehaviorNote_t as Behavior, cudnnBackendDescriptorType_t as Kind, cudnnBackendNumericalNote_t as Note,
};
use graphs::{Graph, Maker};
use oxrt_tensor::{Error, Result, bail};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::hash::Hash;
use std::ptr::null_mut;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};

/// An engine of the library and its knobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// Of the library whose numbers these are.
    version: usize,
    engine: i64,
    knobs: Vec<(u32, i64)>,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "cudnn {} engine {}", self.version, self.engine)?;
        self.knobs.iter().try_for_each(|(knob, value)| write!(f, " {knob}={value}"))
    }
}

impl Choice {
    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// Other text.
    pub fn parse(text: &str) -> Result<Choice> {
        let read = || {
            let mut words = text.split(' ');
            let mut after = |word: &str| (words.next() == Some(word)).then(|| words.next()).flatten();
            let (version, engine) = (after("cudnn")?.parse().ok()?, after("engine")?.parse().ok()?);
            let knob = |word: &str| {
                let (knob, value) = word.split_once('=')?;
                Some((knob.parse().ok()?, value.parse().ok()?))
            };
            Some(Choice { version, engine, knobs: words.map(knob).collect::<Option<_>>()? })
        };
        read().ok_or_else(|| Error::invalid(format!("`{text}` is no plan of cuDNN")))
    }
}

/// 91400 as 9.14.0, 8907 as 8.9.7.
fn version_text(version: usize) -> String {
    let major = if version < 90000 { 1000 } else { 10000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// The library, once something needs it.
#[derive(Default)]
pub struct Cudnn(OnceLock<std::result::Result<Arc<Library>, Option<usize>>>);

impl Cudnn {
    /// cuDNN 9, when it is installed. Opens the small library that names the large ones; these come with the first plan.
    fn open(&self) -> std::result::Result<&Arc<Library>, Option<usize>> {
        self.0.get_or_init(|| Library::open().map(Arc::new)).as_ref().map_err(|e| *e)
    }

    pub fn is_there(&self) -> bool {
        self.open().is_ok()
    }

    /// The version in words, when it is there.
    pub fn version(&self) -> Option<String> {
        self.open().ok().map(|l| version_text(l.version))
    }

    fn library(&self) -> Result<&Arc<Library>> {
        self.open().map_err(missing)
    }

    /// Up to [`MOST_CHOICES`] ways to run a graph, those first that the library thinks quickest. Only those whose sums are in
    /// single precision and in a fixed order; where `exact`, of which factors count whole.
    ///
    /// # Errors
    /// When the library is missing, or does not take the graph.
    pub fn choices(&self, graph: &Graph, exact: bool) -> Result<Vec<Choice>> {
        let library = self.library()?;
        once(&library.choices, (graph.clone(), exact), || library.find(graph, exact))
    }

    /// Takes what was found for node graph `asked` and place `i` in an earlier build; `None` when another version found it.
    pub fn recall(&self, asked: Graph, i: usize, found: Graph, text: &str) -> Option<()> {
        let library = self.library().ok()?;
        let choice = Choice::parse(text.split('\n').next()?).ok()?;
        let mut recalled = library.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        (choice.version == library.version).then(|| _ = recalled.insert((asked, i), (found, text.to_string())))
    }

    /// What was taken so.
    pub fn recalled(&self, asked: &Graph, i: usize) -> Option<(Graph, String)> {
        let recalled = self.library().ok()?.recalled.lock().unwrap_or_else(PoisonError::into_inner);
        recalled.get(&(asked.clone(), i)).cloned()
    }

    /// What an engine file keeps of a plan: the choice, and the compiled plan where the library compiled it.
    ///
    /// # Errors
    /// When the library cannot make the plan after all.
    pub fn text_of(&self, graph: &Graph, choice: &Choice) -> Result<String> {
        let library = self.library()?;
        once(&library.texts, (graph.clone(), choice.clone()), || library.make(graph, choice)?.text(choice))
    }

    /// A plan of which an engine file kept this.
    ///
    /// # Errors
    /// When the library is missing, or has no such engine for the graph on this GPU.
    pub fn plan(&self, graph: &Graph, text: &str) -> Result<Arc<Plan>> {
        let library = self.library()?;
        let key = (graph.clone(), text.to_string());
        let mut plans = library.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = plans.get(&key).and_then(Weak::upgrade) {
            return Ok(there);
        }
        let (first, compiled) = text.split_once('\n').unwrap_or((text, ""));
        let choice = Choice::parse(first)?;
        // Another version of the library does not read what this one compiled, but may have the same engine.
        let read = if compiled.is_empty() { None } else { library.read_plan(compiled).ok() };
        let made = read.map_or_else(|| library.make(graph, &choice), Ok);
        let plan = Arc::new(made.map_err(|e| refused(&choice, library.version, &e))?);
        plans.retain(|_, p| p.strong_count() > 0);
        plans.insert(key, Arc::downgrade(&plan));
        Ok(plan)
    }
}

/// The error of an engine that needs the library; `found` is the version of one that is too old.
fn missing(found: Option<usize>) -> Error {
    let what = match found {
        Some(version) => format!("the engine needs cuDNN 9, and the library path has {}", version_text(version)),
        None => "the engine uses cuDNN, and `libcudnn.so.9` is not in the library path".to_string(),
    };
    Error::unsupported(what).help("install cuDNN 9, or build the engine with `--self-contained`")
}

/// The error of an engine whose plan the library does not take.
fn refused(choice: &Choice, version: usize, why: &Error) -> Error {
    let (then, now) = (version_text(choice.version), version_text(version));
    Error::unsupported(format!("a plan of cuDNN {then} that cuDNN {now} on this GPU does not take: {}", why.message()))
        .help("build the engine again on this machine, or with `--self-contained`")
}

/// Choices of a graph that are looked at.
const MOST_CHOICES: usize = 4;
/// Most bytes of scratch memory that a plan may ask for.
const WORKSPACE: i64 = 64 << 20;

/// Functions of the library by name. They give numbers: a status that the bindings do not know is no value of their type.
macro_rules! functions {
    ($($field:ident $name:literal ($($arg:ty),*) $result:ty;)*) => {
        struct Functions { $($field: unsafe extern "C" fn($($arg),*) -> $result),* }

        impl Functions {
            fn find() -> Option<Functions> {
                // SAFETY: opens the library, which stays; the functions have these signatures in all of its versions.
                unsafe {
                    if !sys::is_culib_present() {
                        return None;
                    }
                    let library = sys::culib();
                    Some(Functions { $($field: *library.get($name).ok()?),* })
                }
            }
        }
    };
}
functions! {
    version b"cudnnGetVersion" () usize;
    create_handle b"cudnnCreate" (*mut *mut c_void) u32;
    set_stream b"cudnnSetStream" (*mut c_void, *mut c_void) u32;
    error_string b"cudnnGetErrorString" (u32) *const c_char;
    last_error b"cudnnGetLastErrorString" (*mut c_char, usize) ();
    create b"cudnnBackendCreateDescriptor" (Kind, *mut *mut c_void) u32;
    destroy b"cudnnBackendDestroyDescriptor" (*mut c_void) u32;
    set b"cudnnBackendSetAttribute" (*mut c_void, Name, Type, i64, *const c_void) u32;
    get b"cudnnBackendGetAttribute" (*mut c_void, Name, Type, i64, *mut i64, *mut c_void) u32;
    finalize b"cudnnBackendFinalize" (*mut c_void) u32;
    execute b"cudnnBackendExecute" (*mut c_void, *mut c_void, *mut c_void) u32;
}

impl Functions {
    /// Turns a status into an error that says what was tried.
    fn check(&self, status: u32, what: &str) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let mut last = [0 as c_char; 1024];
        // SAFETY: the library gives static strings, and fills the buffer up to its size.
        let said = unsafe {
            (self.last_error)(last.as_mut_ptr(), last.len());
            last[last.len() - 1] = 0;
            let name = CStr::from_ptr((self.error_string)(status)).to_string_lossy();
            format!("{name} {}", CStr::from_ptr(last.as_ptr()).to_string_lossy())
        };
        Err(Error::unsupported(format!("cuDNN: {what}: {}", said.trim())))
    }
}

/// What was found out once, by what it is about. Who asks for the same meanwhile waits.
type Once<K, V> = Mutex<HashMap<K, Arc<OnceLock<Result<V>>>>>;

fn once<K: Hash + Eq, V: Clone>(all: &Once<K, V>, key: K, find: impl FnOnce() -> Result<V>) -> Result<V> {
    let cell = all.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().clone();
    match cell.get_or_init(find) {
        Ok(found) => Ok(found.clone()),
        Err(e) => Err(Error::new(e.kind(), e.message())),
    }
}

struct Library {
    functions: Arc<Functions>,
    version: usize,
    /// The library's state for the GPU, of which each is used by one thread at a time: those that nobody uses now.
    handles: Mutex<Vec<Handle>>,
    given_back: Condvar,
    choices: Once<(Graph, bool), Vec<Choice>>,
    texts: Once<(Graph, Choice), String>,
    plans: Mutex<HashMap<(Graph, String), Weak<Plan>>>,
    /// What earlier builds found: graph and text of a plan, by the graph of a node and the plan's place.
    recalled: Mutex<HashMap<(Graph, usize), (Graph, String)>>,
}

#[derive(Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: cuDNN's handle may be used from all threads, by one at a time.
unsafe impl Send for Handle {}

impl Library {
    /// The library; the version of one that is too old.
    fn open() -> std::result::Result<Library, Option<usize>> {
        let functions = Functions::find().ok_or(None)?;
        // SAFETY: takes nothing.
        let version = unsafe { (functions.version)() };
        if version < 90000 {
            return Err(Some(version));
        }
        let functions = Arc::new(functions);
        Ok(Library {
            functions,
            version,
            handles: Mutex::default(),
            given_back: Condvar::new(),
            choices: Mutex::default(),
            texts: Mutex::default(),
            plans: Mutex::default(),
            recalled: Mutex::default(),
        })
    }

    /// What `use_it` does with a handle. Opens one where all are in use, if it `may_open`; it may not where work is recorded, and
    /// there is one when there is a plan. The thread has entered the GPU's context.
    fn with_handle<R>(&self, may_open: bool, use_it: impl FnOnce(Handle) -> Result<R>) -> Result<R> {
        let mut free = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        while free.is_empty() && !may_open {
            free = self.given_back.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        let there = free.pop();
        drop(free);
        let handle = there.map_or_else(|| self.open_handle(), Ok)?;
        let done = use_it(handle);
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        self.given_back.notify_one();
        done
    }

    fn open_handle(&self) -> Result<Handle> {
        let mut new = null_mut();
        // SAFETY: a valid out pointer.
        self.functions.check(unsafe { (self.functions.create_handle)(&mut new) }, "opening")?;
        Ok(Handle(new))
    }

    fn find(&self, graph: &Graph, exact: bool) -> Result<Vec<Choice>> {
        use sys::cudnnBackendHeurMode_t::{CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK};
        self.with_handle(true, |handle| {
            let operations = self.maker(handle).operations(graph)?;
            let mut all: Vec<Choice> = Vec::new();
            for mode in [CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK] {
                let heuristics = self.descriptor(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
                heuristics.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, Type::CUDNN_TYPE_HEUR_MODE, &[mode])?;
                heuristics.refer(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[&operations.graph])?;
                // What the library has nothing for it says here.
                let Ok(heuristics) = heuristics.finish("asking for engines") else { continue };
                for config in heuristics.descriptors(
                    Name::CUDNN_ATTR_ENGINEHEUR_RESULTS,
                    Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                    MOST_ASKED,
                )? {
                    let Ok((choice, notes)) = self.read(&config) else { continue };
                    if !notes.iter().any(|n| unfit(*n, exact)) && !all.contains(&choice) {
                        all.push(choice);
                    }
                    if all.len() == MOST_CHOICES {
                        return Ok(all);
                    }
                }
            }
            Ok(all)
        })
    }

    /// Engine and knobs of a configuration, and what the engine notes of its numbers.
    fn read(&self, config: &Descriptor) -> Result<(Choice, Vec<u32>)> {
        let engine = Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR;
        let engines = config.descriptors(Name::CUDNN_ATTR_ENGINECFG_ENGINE, engine, 1)?;
        let Some(engine) = engines.first() else { bail!(unsupported, "cuDNN: a configuration without engine") };
        let kind = Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR;
        let mut knobs = Vec::new();
        for knob in config.descriptors(Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, kind, MOST_KNOBS)? {
            let which = knob.one::<u32>(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE)?;
            knobs.push((which, knob.one(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, Type::CUDNN_TYPE_INT64)?));
        }
        let notes = engine.list(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE, 16)?;
        let engine = engine.one(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, Type::CUDNN_TYPE_INT64)?;
        Ok((Choice { version: self.version, engine, knobs }, notes))
    }

    fn make(self: &Arc<Library>, graph: &Graph, choice: &Choice) -> Result<Plan> {
        self.with_handle(true, |handle| {
            let operations = self.maker(handle).operations(graph)?;
            let engine = self.descriptor(Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?;
            engine.refer(Name::CUDNN_ATTR_ENGINE_OPERATION_GRAPH, &[&operations.graph])?;
            engine.int64(Name::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[choice.engine])?;
            let engine = engine.finish(&format!("engine {}", choice.engine))?;
            let mut knobs = Vec::with_capacity(choice.knobs.len());
            for (which, value) in &choice.knobs {
                let knob = self.descriptor(Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)?;
                knob.set(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE, &[*which])?;
                knob.int64(Name::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[*value])?;
                knobs.push(knob.finish(&format!("knob {which}={value}"))?);
            }
            let config = self.descriptor(Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?;
            config.refer(Name::CUDNN_ATTR_ENGINECFG_ENGINE, &[&engine])?;
            let all: Vec<&Descriptor> = knobs.iter().collect();
            if !all.is_empty() {
                config.refer(Name::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, &all)?;
            }
            let config = config.finish("an engine with its knobs")?;
            let (plan, workspace) = self.plan_of(handle, &config)?;
            let notes = engine.list(Name::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, Type::CUDNN_TYPE_BEHAVIOR_NOTE, 16)?;
            let compiled = notes.contains(&(Behavior::CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION as u32));
            let parts = operations.into_parts().into_iter().chain(knobs).chain([engine, config]).collect();
            Ok(Plan { library: self.clone(), plan, workspace, compiled, _parts: parts })
        })
    }

    /// A plan of the text that the library wrote of one.
    fn read_plan(self: &Arc<Library>, text: &str) -> Result<Plan> {
        self.with_handle(true, |handle| {
            let plan = self.descriptor(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
            plan.handle(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle)?;
            let text = [text.as_bytes(), &[0]].concat();
            plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, Type::CUDNN_TYPE_CHAR, &text)?;
            let (plan, workspace) = self.finish_plan(plan)?;
            Ok(Plan { library: self.clone(), plan, workspace, compiled: true, _parts: Vec::new() })
        })
    }

    /// The plan of a configuration and the scratch memory that it takes.
    fn plan_of(&self, handle: Handle, config: &Descriptor) -> Result<(Descriptor, usize)> {
        let plan = self.descriptor(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
        plan.handle(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, handle)?;
        plan.refer(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[config])?;
        self.finish_plan(plan)
    }

    fn finish_plan(&self, plan: Descriptor) -> Result<(Descriptor, usize)> {
        let plan = plan.finish("making a plan")?;
        let workspace: i64 = plan.one(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, Type::CUDNN_TYPE_INT64)?;
        if !(0..=WORKSPACE).contains(&workspace) {
            bail!(unsupported, "cuDNN: a plan that takes {workspace} bytes of scratch memory");
        }
        Ok((plan, workspace as usize))
    }

    fn maker(&self, handle: Handle) -> Maker<'_> {
        Maker { functions: &self.functions, handle }
    }

    fn descriptor(&self, kind: Kind) -> Result<Descriptor> {
        Descriptor::new(&self.functions, kind)
    }
}

/// Configurations that the library is asked for, and knobs of one.
const MOST_ASKED: usize = 48;
const MOST_KNOBS: usize = 64;

/// Whether an engine of which the library notes this gives other numbers than ours may.
fn unfit(note: u32, exact: bool) -> bool {
    use Note::*;
    let is = |list: &[Note]| list.iter().any(|n| *n as u32 == note);
    is(&[
        CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        CUDNN_NUMERICAL_NOTE_FFT,
        CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
        CUDNN_NUMERICAL_NOTE_WINOGRAD,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
    ]) || (exact && is(&[CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS]))
}

/// One of the library's descriptors.
struct Descriptor {
    functions: Arc<Functions>,
    ptr: *mut c_void,
}

// SAFETY: descriptors are not changed once they are finished, and plain memory before.
unsafe impl Send for Descriptor {}
// SAFETY: as above.
unsafe impl Sync for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { (self.functions.destroy)(self.ptr) };
    }
}

impl Descriptor {
    fn new(functions: &Arc<Functions>, kind: Kind) -> Result<Descriptor> {
        let mut ptr = null_mut();
        // SAFETY: a valid out pointer.
        functions.check(unsafe { (functions.create)(kind, &mut ptr) }, &format!("{kind:?}"))?;
        Ok(Descriptor { functions: functions.clone(), ptr })
    }

    /// Sets an attribute; `T` is what the library takes for the type.
    fn set<T>(&self, name: Name, of: Type, values: &[T]) -> Result<()> {
        // SAFETY: so many values lie there; the library copies them.
        let status = unsafe { (self.functions.set)(self.ptr, name, of, values.len() as i64, values.as_ptr().cast()) };
        self.functions.check(status, &format!("setting {name:?}"))
    }

    fn int64(&self, name: Name, values: &[i64]) -> Result<()> {
        self.set(name, Type::CUDNN_TYPE_INT64, values)
    }

    fn sizes(&self, name: Name, values: &[usize]) -> Result<()> {
        self.int64(name, &values.iter().map(|&n| n as i64).collect::<Vec<_>>())
    }

    fn refer(&self, name: Name, to: &[&Descriptor]) -> Result<()> {
        let list: Vec<*mut c_void> = to.iter().map(|d| d.ptr).collect();
        self.set(name, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &list)
    }

    fn handle(&self, name: Name, handle: Handle) -> Result<()> {
        self.set(name, Type::CUDNN_TYPE_HANDLE, &[handle.0])
    }

    fn finish(self, what: &str) -> Result<Descriptor> {
        // SAFETY: a valid descriptor.
        self.functions.check(unsafe { (self.functions.finalize)(self.ptr) }, what)?;
        Ok(self)
    }

    /// Up to `most` values of an attribute.
    fn list<T: Copy + Default>(&self, name: Name, of: Type, most: usize) -> Result<Vec<T>> {
        let (mut all, mut count) = (vec![T::default(); most], 0i64);
        // SAFETY: there is room for so many values of the type.
        let status =
            unsafe { (self.functions.get)(self.ptr, name, of, most as i64, &mut count, all.as_mut_ptr().cast()) };
        self.functions.check(status, &format!("reading {name:?}"))?;
        all.truncate(usize::try_from(count).unwrap_or(0));
        Ok(all)
    }

    fn one<T: Copy + Default>(&self, name: Name, of: Type) -> Result<T> {
        let list = self.list(name, of, 1)?;
        list.first().copied().ok_or_else(|| Error::unsupported(format!("cuDNN: {name:?} has no value")))
    }

    /// Up to `most` descriptors of an attribute, filled in by the library.
    fn descriptors(&self, name: Name, kind: Kind, most: usize) -> Result<Vec<Descriptor>> {
        let mut all = (0..most).map(|_| Descriptor::new(&self.functions, kind)).collect::<Result<Vec<_>>>()?;
        let mut list: Vec<*mut c_void> = all.iter().map(|d| d.ptr).collect();
        let (of, mut count) = (Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, 0i64);
        // SAFETY: so many descriptors of the kind are there.
        let status =
            unsafe { (self.functions.get)(self.ptr, name, of, most as i64, &mut count, list.as_mut_ptr().cast()) };
        self.functions.check(status, &format!("reading {name:?}"))?;
        all.truncate(usize::try_from(count).unwrap_or(0));
        Ok(all)
    }
}

/// A graph that can be run.
pub struct Plan {
    library: Arc<Library>,
    plan: Descriptor,
    workspace: usize,
    /// Whether the library compiled it for the graph.
    compiled: bool,
    /// What the plan was made of.
    _parts: Vec<Descriptor>,
}

impl Plan {
    /// What an engine file keeps of it.
    fn text(&self, choice: &Choice) -> Result<String> {
        if !self.compiled {
            return Ok(choice.to_string());
        }
        let (name, of, mut size) = (Name::CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, Type::CUDNN_TYPE_CHAR, 0i64);
        let functions = &self.library.functions;
        // SAFETY: nothing is asked for but its size.
        let status = unsafe { (functions.get)(self.plan.ptr, name, of, 0, &mut size, null_mut()) };
        functions.check(status, "the size of a plan")?;
        let text: Vec<u8> = self.plan.list(name, of, usize::try_from(size).unwrap_or(0))?;
        let text = text.split(|&b| b == 0).next().unwrap_or_default();
        Ok(format!("{choice}\n{}", String::from_utf8_lossy(text)))
    }

    pub fn workspace(&self) -> usize {
        self.workspace
    }

    /// Queues a run with operands by what the graph knows them by; those that are null are left out.
    ///
    /// # Safety
    /// Pointers lead to operands of the graph's sizes, aligned to 16 bytes, on the device (a factor on the host). The thread has
    /// entered the GPU's context.
    pub unsafe fn run(&self, queue: *mut c_void, operands: &[(i64, *const u8)], workspace: *mut u8) -> Result<()> {
        let there = operands.iter().copied().filter(|(_, p)| !p.is_null());
        let (ids, pointers): (Vec<i64>, Vec<*const u8>) = there.unzip();
        let pack = self.library.descriptor(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.int64(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &ids)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, Type::CUDNN_TYPE_VOID_PTR, &pointers)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, Type::CUDNN_TYPE_VOID_PTR, &[workspace])?;
        let pack = pack.finish("operands")?;
        let functions = &self.library.functions;
        self.library.with_handle(false, |handle| {
            // SAFETY: the caller's promise; nobody else uses the handle meanwhile.
            unsafe {
                functions.check((functions.set_stream)(handle.0, queue), "choosing a queue")?;
                functions.check((functions.execute)(handle.0, self.plan.ptr, pack.ptr), "running a plan")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_was_written() {
        for knobs in [vec![], vec![(2, 5), (13, -1), (46, 1 << 40)]] {
            let choice = Choice { version: 91400, engine: 41, knobs };
            assert_eq!(Choice::parse(&choice.to_string()).unwrap(), choice);
        }
        for text in ["", "cudnn", "cudnn 9 engine", "cudnn 9 engine 1 2", "cudnn 9 engine 1 a=b", "cublas 9 engine 1"] {
            let e = Choice::parse(text).unwrap_err().to_string();
            assert!(e.contains("no plan of cuDNN"), "{e}");
        }
    }

    #[test]
    fn errors_say_what_is_there_and_what_to_do() {
        let e = missing(None).to_string();
        assert!(e.contains("libcudnn.so.9` is not in the library path") && e.contains("--self-contained"), "{e}");
        let e = missing(Some(8907)).to_string();
        assert!(e.contains("needs cuDNN 9, and the library path has 8.9.7"), "{e}");
        let choice = Choice::parse("cudnn 91400 engine 41 2=5").unwrap();
        let e =
            refused(&choice, 92600, &Error::unsupported("cuDNN: engine 41: CUDNN_STATUS_NOT_SUPPORTED")).to_string();
        assert!(e.contains("of cuDNN 9.14.0 that cuDNN 9.26.0 on this GPU does not take"), "{e}");
        assert!(e.contains("engine 41: CUDNN_STATUS_NOT_SUPPORTED") && e.contains("build the engine again"), "{e}");
    }

    #[test]
    fn engines_that_round_more_or_add_in_any_order_do_not_compete() {
        assert!(!unfit(Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE as u32, false));
        assert!(unfit(Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE as u32, true));
        assert!(unfit(Note::CUDNN_NUMERICAL_NOTE_WINOGRAD as u32, false));
        assert!(unfit(Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC as u32, false));
        assert!(!unfit(Note::CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP as u32, true));
    }
}
