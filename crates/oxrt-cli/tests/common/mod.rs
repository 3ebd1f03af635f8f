//! Runs the built `oxrt` binary on files in a temporary folder.

// Each file of tests is a program of its own that uses a part of this.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub struct Bench {
    pub dir: TempDir,
}

/// What a run gave.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the shipped examples.
pub fn example(name: &str) -> String {
    repository().join("examples").join(name).display().to_string()
}

impl Bench {
    pub fn new() -> Bench {
        Bench { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A path inside the temporary folder.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let output: Output = Command::new(env!("CARGO_BIN_EXE_oxrt"))
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("OXRT_LOG")
            .output()
            .expect("oxrt starts");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs and expects success.
    pub fn ok(&self, args: &[&str]) -> String {
        let r = self.run(args);
        assert_eq!(r.code, Some(0), "oxrt {args:?}\n{}{}", r.out, r.err);
        r.out
    }

    /// Runs and expects a plain error (no panic) whose text holds all of `words`; no other file may appear.
    pub fn fails(&self, args: &[&str], words: &[&str]) {
        let before = self.files();
        let r = self.run(args);
        assert!(matches!(r.code, Some(1 | 2)), "oxrt {args:?} ended with {:?}\n{}{}", r.code, r.out, r.err);
        assert!(!r.err.contains("panicked") && !r.err.contains("internal error"), "oxrt {args:?}\n{}", r.err);
        for w in words {
            assert!(r.err.contains(w), "oxrt {args:?}: no `{w}` in\n{}", r.err);
        }
        assert_eq!(before, self.files(), "oxrt {args:?} left files behind");
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path()).expect("readable").flatten().map(|e| e.path());
        let mut list: Vec<PathBuf> = entries.collect();
        list.sort();
        list
    }
}
