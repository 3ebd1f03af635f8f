//! Cases on disk: `<suite>/<case>/model.onnx`, `test_data_set_0/input_<i>.pb`, `output_<i>.pb`.

use oxrt::ir::ValueType;
use oxrt::onnx::{PbKind, load_datum};
use oxrt::ops::Datum;
use oxrt::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One case. Its files are read when it runs.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub suite: String,
    pub name: String,
    /// The operator under test; empty for whole models.
    #[serde(default)]
    pub op: String,
    #[serde(default = "default_rtol")]
    pub rtol: f64,
    #[serde(default = "default_atol")]
    pub atol: f64,
    /// Outputs are drawn at random: only their types and shapes can be compared.
    #[serde(default)]
    pub random: bool,
    #[serde(skip)]
    pub dir: PathBuf,
}

/// As `onnx.backend.test` has it.
fn default_rtol() -> f64 {
    1e-3
}

fn default_atol() -> f64 {
    1e-7
}

#[derive(Deserialize)]
struct Manifest {
    cases: Vec<Case>,
    #[serde(default)]
    types: BTreeMap<String, Vec<String>>,
}

/// Element types that the standard allows for the first input of each operator, where the manifest below `root` says so.
pub fn allowed_types(root: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let Ok(text) = std::fs::read_to_string(root.join("manifest.json")) else { return Ok(BTreeMap::new()) };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| Error::invalid(format!("manifest.json: {e}")))?;
    Ok(manifest.types)
}

impl Case {
    /// `suite/name`, as in the lists of expectations.
    pub fn key(&self) -> String {
        format!("{}/{}", self.suite, self.name)
    }

    pub fn model(&self) -> PathBuf {
        self.dir.join("model.onnx")
    }

    /// The first `count` inputs or outputs (`what`), stored as values of these types.
    pub fn values<'a>(&self, what: &str, types: impl Iterator<Item = &'a ValueType>) -> Result<Vec<Datum>> {
        let data = self.dir.join("test_data_set_0");
        types.enumerate().map(|(i, ty)| load_datum(&data.join(format!("{what}_{i}.pb")), PbKind::of(ty))).collect()
    }

    /// How many outputs the case gives.
    pub fn num_outputs(&self) -> usize {
        let data = self.dir.join("test_data_set_0");
        (0..).take_while(|i| data.join(format!("output_{i}.pb")).exists()).count()
    }
}

/// All cases below `root`, in order of their keys. `manifest.json` there, when present, gives operators and
/// tolerances (`{"cases": [{"suite", "name", "op", "rtol", "atol", "random"}]}`).
///
/// # Errors
/// A folder that cannot be read, a manifest that names cases which are not there.
pub fn find(root: &Path) -> Result<Vec<Case>> {
    let place = |e: String, path: &Path| Error::invalid(e).at(path.display().to_string());
    let mut cases = BTreeMap::new();
    let manifest = root.join("manifest.json");
    if manifest.exists() {
        let text = std::fs::read(&manifest)?;
        let listed: Manifest = serde_json::from_slice(&text).map_err(|e| place(e.to_string(), &manifest))?;
        for mut case in listed.cases {
            case.dir = root.join(&case.suite).join(&case.name);
            if !case.model().exists() {
                return Err(place("the manifest names a case that is not there".into(), &case.dir));
            }
            cases.insert(case.key(), case);
        }
    }
    for suite in folders(root)? {
        for dir in folders(&root.join(&suite))? {
            let case = Case {
                dir: root.join(&suite).join(&dir),
                suite: suite.clone(),
                name: dir,
                op: String::new(),
                rtol: default_rtol(),
                atol: default_atol(),
                random: false,
            };
            if case.model().exists() {
                cases.entry(case.key()).or_insert(case);
            }
        }
    }
    Ok(cases.into_values().collect())
}

fn folders(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| Error::from(e).at(root.display().to_string()))? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}
