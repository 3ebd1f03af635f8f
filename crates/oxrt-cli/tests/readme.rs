//! Runs the tour of the README: every line of its `sh tour` blocks, in order, in one folder.

use std::path::Path;
use std::process::Command;

#[test]
fn the_tour_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The examples are named as in a checkout.
    copy(&root.join("examples"), &dir.path().join("examples"));
    let mut ran = 0;
    for block in readme.split("```sh tour\n").skip(1) {
        for line in block.split("```").next().unwrap().lines().filter(|l| !l.is_empty()) {
            let args = line.strip_prefix("oxrt ").unwrap_or_else(|| panic!("not an oxrt command: {line}"));
            let out = Command::new(env!("CARGO_BIN_EXE_oxrt"))
                .args(args.split_whitespace())
                .current_dir(dir.path())
                .output()
                .unwrap();
            assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
            ran += 1;
        }
    }
    assert!(ran >= 10, "the tour has only {ran} commands");
    assert!(dir.path().join("coffee-2x.png").exists());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
