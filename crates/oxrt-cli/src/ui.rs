//! What people see: progress, tables, errors, numbers with units.

use indicatif::{ProgressBar, ProgressStyle};
use oxrt::Error;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A line of progress on standard error; silent when that is not a terminal.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    pub fn new() -> Progress {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar, started: Instant::now() }
    }

    pub fn stage(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// For callbacks of the library.
    pub fn callback(&self) -> impl FnMut(&str, usize, usize) + '_ {
        |stage, done, total| match total {
            0 | 1 => self.stage(stage),
            _ => self.stage(format!("{stage} {done}/{total}")),
        }
    }

    pub fn finish(self) -> Duration {
        self.bar.finish_and_clear();
        self.started.elapsed()
    }
}

/// `error: …` with its places and the remedy, in colour on a terminal.
pub fn print_error(e: &Error) {
    let (red, cyan, off) =
        if std::io::stderr().is_terminal() { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let text = e.to_string();
    let (body, help) = match text.rsplit_once("\nhelp: ") {
        Some((body, help)) => (body, Some(help)),
        None => (&*text, None),
    };
    eprintln!("{red}error:{off} {body}");
    if let Some(help) = help {
        eprintln!("{cyan}help:{off} {help}");
    }
}

pub fn warn(text: &str) {
    eprintln!("warning: {text}");
}

/// `12.3 MiB`
pub fn bytes(n: usize) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut x = n as f64;
    let mut unit = 0;
    while x >= 1024.0 && unit + 1 < units.len() {
        x /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{x:.1} {}", units[unit]) }
}

/// `1.23 ms`, `4.5 s`
pub fn time(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s < 1e-3 {
        format!("{:.1} µs", s * 1e6)
    } else if s < 1.0 {
        format!("{:.1} ms", s * 1e3)
    } else {
        format!("{s:.2} s")
    }
}

/// Rows in aligned columns; the first row is the heading. Numbers align right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |s: &str| s.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(c, (s, &w))| {
                let right = rows.get(1).and_then(|r| r.get(c)).is_some_and(|s| numeric(s));
                let pad = " ".repeat(w - s.chars().count());
                if right { format!("{pad}{s}") } else { format!("{s}{pad}") }
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
        if i == 0 {
            out.push_str(&"─".repeat(widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1)));
            out.push('\n');
        }
    }
    out
}

/// Prints a machine-readable answer.
pub fn print_json(value: &impl serde::Serialize) -> oxrt::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::bug(e.to_string()))?;
    println!("{text}");
    Ok(())
}
