//! The files under `code/`: parsed when something in them is first needed, with the Python lines that they came from.

use super::ast::{Class, File, Function, Line};
use super::parser::parse;
use crate::archive::Archive;
use crate::lower::short_path;
use crate::pickle::{Pickle, Value};
use oxrt_tensor::{Context, Result};
use rustc_hash::FxHashMap;
use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

/// A file of the archive.
#[derive(Debug)]
pub(crate) struct CodeFile {
    /// `code/__torch__/models.py`
    pub path: String,
    pub file: File,
    /// Bytes before a piece of code, and where in the user's Python it comes from; rising.
    lines: OnceCell<Vec<(u32, PythonLine)>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct PythonLine {
    /// `dir/file.py:42`
    pub location: String,
    pub code: String,
}

/// What a full name stands for.
pub(crate) enum Item {
    Class(Rc<CodeFile>, usize),
    Function(Rc<CodeFile>, Rc<Function>),
}

pub(crate) struct Code<'a> {
    pub archive: &'a Archive,
    /// Folder of the archive, with its slash.
    pub root: String,
    files: RefCell<FxHashMap<String, Option<Rc<CodeFile>>>>,
}

impl<'a> Code<'a> {
    pub fn new(archive: &'a Archive, root: String) -> Code<'a> {
        Code { archive, root, files: RefCell::default() }
    }

    fn file(&self, module: &str) -> Result<Option<Rc<CodeFile>>> {
        if let Some(known) = self.files.borrow().get(module) {
            return Ok(known.clone());
        }
        let path = format!("{}code/{}.py", self.root, module.replace('.', "/"));
        let loaded = match self.archive.names.contains(&path) {
            false => None,
            true => {
                let bytes = self.archive.contents(&path)?;
                let text = String::from_utf8_lossy(&bytes);
                let file = parse(&text).at(|| path.clone())?;
                Some(Rc::new(CodeFile { path, file, lines: OnceCell::new() }))
            }
        };
        self.files.borrow_mut().insert(module.to_string(), loaded.clone());
        Ok(loaded)
    }

    /// The class or function `__torch__.module.Name`.
    pub fn find(&self, name: &str) -> Result<Option<Item>> {
        let Some((module, last)) = name.rsplit_once('.') else { return Ok(None) };
        let Some(file) = self.file(module)? else { return Ok(None) };
        if let Some(i) = file.file.classes.iter().position(|c| &*c.name == last) {
            return Ok(Some(Item::Class(file, i)));
        }
        let found = file.file.functions.iter().find(|f| &*f.name == last).cloned();
        Ok(found.map(|f| Item::Function(file, f)))
    }

    pub fn class(&self, name: &str) -> Result<Option<(Rc<CodeFile>, usize)>> {
        Ok(match self.find(name)? {
            Some(Item::Class(file, i)) => Some((file, i)),
            _ => None,
        })
    }

    /// The user's Python line behind a place in a file, as far as the archive records it.
    pub fn python_line(&self, file: &CodeFile, at: Line) -> PythonLine {
        let lines = file.lines.get_or_init(|| self.debug_lines(&file.path).unwrap_or_default());
        let end = lines.partition_point(|(byte, _)| *byte <= at.byte);
        lines[..end].last().map(|l| l.1.clone()).unwrap_or_default()
    }

    /// Reads `*.debug_pkl`: (marker, texts, records), a record being (byte, (source, start, end), _) and a source
    /// (texts of its lines by number, number of its file's name, first line).
    fn debug_lines(&self, path: &str) -> Result<Vec<(u32, PythonLine)>> {
        let pickle = Pickle::load_named(self.archive, &format!("{path}.debug_pkl"), path)?;
        let items = |id: usize| match pickle.value(id) {
            Value::Tuple(ids) | Value::List(ids) => ids.clone(),
            _ => Vec::new(),
        };
        let int = |id: usize| match pickle.value(id) {
            Value::Int(x) => *x,
            _ => -1,
        };
        let top = items(pickle.root);
        let [_, texts, records] = top[..] else { return Ok(Vec::new()) };
        let texts = items(texts);
        let text = |i: i64| match usize::try_from(i).ok().and_then(|i| texts.get(i)).map(|&id| pickle.value(id)) {
            Some(Value::Text(t)) => t.as_str(),
            _ => "",
        };
        let mut out = Vec::new();
        for record in items(records) {
            let [byte, range, ..] = items(record)[..] else { continue };
            let [source, start, _] = items(range)[..] else { continue };
            let [parts, name, first] = items(source)[..] else { continue };
            let Ok(byte) = u32::try_from(int(byte)) else { continue };
            let (name, first, start) = (text(int(name)), int(first), int(start));
            let mut before = 0i64;
            let mut line = first;
            let mut code = String::new();
            for part in items(parts) {
                let part = text(int(part));
                let length = part.chars().count() as i64;
                if start < before + length {
                    code = part.trim().to_string();
                    break;
                }
                before += length;
                line += part.matches('\n').count() as i64;
            }
            // Traced code has the call stack for text, innermost first: `/dir/file.py(42): forward`.
            let frame = code.split_once("): ").and_then(|(place, _)| place.rsplit_once('('));
            if let Some((file, number)) = frame.filter(|(f, n)| f.ends_with(".py") && n.parse::<u32>().is_ok()) {
                let location = format!("{}:{number}", short_path(file));
                out.push((byte, PythonLine { location, code: String::new() }));
                continue;
            }
            let location = if name.is_empty() { String::new() } else { format!("{}:{line}", short_path(name)) };
            if !location.is_empty() {
                out.push((byte, PythonLine { location, code }));
            }
        }
        out.sort_by_key(|l| l.0);
        Ok(out)
    }
}

impl CodeFile {
    pub fn class(&self, i: usize) -> &Class {
        &self.file.classes[i]
    }
}
