//! The page: sources of `web/` put together, with the documents inside when it is one file.

use crate::{Comparison, Document, Weights};
use flate2::{Compression, write::GzEncoder};
use oxrt_tensor::{Context, Error, Result, write_atomically};
use std::io::Write;
use std::path::Path;

/// In order: each file may use what those before it define.
const SCRIPTS: &[&str] = &[
    include_str!("../web/model.js"),
    include_str!("../web/scene.js"),
    include_str!("../web/draw.js"),
    include_str!("../web/colours.js"),
    include_str!("../web/view.js"),
    include_str!("../web/panel.js"),
    include_str!("../web/app.js"),
];
const LAYOUT: &[&str] = &[include_str!("../web/dagre.min.js"), include_str!("../web/layout.js")];

/// What a page shows: one model, or two side by side.
#[derive(Clone, Debug)]
pub struct View {
    pub left: Document,
    pub right: Option<(Document, Comparison)>,
}

impl View {
    /// The documents as compressed JSON.
    pub(crate) fn data(&self, weights: Weights) -> Result<Vec<u8>> {
        let bug = |e: &dyn std::fmt::Display| Error::bug(format!("a document without text: {e}"));
        let mut out = GzEncoder::new(Vec::new(), Compression::new(6));
        let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(|e| bug(&e));
        put(b"{\"documents\":[")?;
        put(&self.left.to_json(weights).map_err(|e| bug(&e))?)?;
        if let Some((right, comparison)) = &self.right {
            put(b",")?;
            put(&right.to_json(weights).map_err(|e| bug(&e))?)?;
            put(b"],\"comparison\":")?;
            put(&serde_json::to_vec(comparison).map_err(|e| bug(&e))?)?;
            put(b"}")?;
        } else {
            put(b"]}")?;
        }
        out.finish().map_err(|e| bug(&e))
    }
}

/// The page; `data` (compressed JSON) stands inside, else the page fetches it from its server.
pub fn html(title: &str, data: Option<&[u8]>) -> String {
    let script = SCRIPTS.join("\n");
    let inside = data.map_or(String::new(), base64);
    let layout = LAYOUT.join("\n");
    let mut page = String::with_capacity(script.len() + inside.len() + layout.len() + 65536);
    // Filled in one pass, so that nothing inside a part is taken for a place to fill.
    let mut rest = include_str!("../web/index.html");
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        match name {
            "title" => page.push_str(&title.replace('&', "&amp;").replace('<', "&lt;")),
            "style" => page.push_str(include_str!("../web/style.css")),
            "data" => page.push_str(&inside),
            "layout" => page.push_str(&layout),
            "script" => page.push_str(&script),
            _ => {}
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

/// Writes one file with everything in it. Returns its size in bytes.
///
/// # Errors
/// When it cannot be written; no half of it is left.
pub fn write_html(view: &View, path: &Path) -> Result<usize> {
    let text = html(&view.left.name, Some(&view.data(Weights::Inside)?));
    write_atomically(path, |file| Ok(file.write_all(text.as_bytes())?)).at(|| path.display())?;
    Ok(text.len())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0u32, |w, i| w << 8 | chunk.get(i).copied().unwrap_or(0) as u32);
        for i in 0..4 {
            out.push(if i <= chunk.len() { DIGITS[(word >> (18 - 6 * i) & 63) as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        assert_eq!(["", "f", "fo", "foo"].map(|s| base64(s.as_bytes())), ["", "Zg==", "Zm8=", "Zm9v"]);
    }

    #[test]
    fn a_page_is_complete_and_asks_for_nothing_else() {
        let page = html("a<b", Some(b"x"));
        assert!(page.contains("<title>a&lt;b") && !page.contains("{{style}}") && !page.contains("{{script}}"));
        assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
        for part in SCRIPTS.iter().chain(LAYOUT) {
            assert!(!part.contains("</script"), "a script that ends itself");
        }
    }
}
