//! Hostile files, made here, and what `oxrt audit` says of them; the shipped models are clean.

mod common;

use common::{Bench, example};
use std::path::Path;

fn codes(b: &Bench, file: &str, status: i32) -> Vec<String> {
    let r = b.run(&["audit", file, "--json"]);
    assert_eq!(r.code, Some(status), "{}{}", r.out, r.err);
    let report: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    report["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_string()).collect()
}

fn has(b: &Bench, file: &str, status: i32, code: &str) {
    let found = codes(b, file, status);
    assert!(found.iter().any(|c| c == code), "no `{code}` in {found:?}");
}

fn message(field: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 16384);
    let length = match body.len() {
        n if n < 128 => vec![n as u8],
        n => vec![n as u8 | 0x80, (n >> 7) as u8],
    };
    [vec![field << 3 | 2], length, body.to_vec()].concat()
}

/// A model with one initializer and one node.
fn model(tensor: &[u8], node: &[u8]) -> Vec<u8> {
    [vec![0x08, 8], message(7, &[message(1, node), message(5, tensor)].concat()), message(8, &[0x10, 17])].concat()
}

/// An f32 tensor of these dimensions whose data lies elsewhere.
fn external(location: &str) -> Vec<u8> {
    let entry = [message(1, b"location"), message(2, location.as_bytes())].concat();
    [vec![0x08, 4, 0x10, 1], message(8, b"w"), message(13, &entry), vec![0x70, 1]].concat()
}

#[test]
fn shipped_models_are_clean() {
    let b = Bench::new();
    for m in ["digits/model.pt2", "super_resolution/model.pt2"] {
        assert!(codes(&b, &example(m), 0).is_empty());
        b.ok(&["export", &example(m), "-o", &b.path("m.onnx"), "--external-data", "256"]);
        assert!(codes(&b, &b.path("m.onnx"), 0).is_empty());
    }
    b.ok(&["build", &example("digits/model.pt2"), "-o", &b.path("m.engine")]);
    assert!(codes(&b, &b.path("m.engine"), 0).is_empty());
    assert!(codes(&b, &example("digits/held-out.npz"), 0).is_empty());
}

#[test]
fn external_data_that_leads_away() {
    let b = Bench::new();
    let relu = [message(4, b"Relu")].concat();
    let file = b.path("m.onnx");
    for (location, code, status) in [
        ("../secret", "external-path", 1),
        ("/etc/passwd", "external-path", 1),
        ("a/../../secret", "external-path", 1),
        ("C:\\weights", "external-path", 1),
        ("missing.bin", "external-missing", 0),
        ("short.bin", "external-range", 1),
    ] {
        std::fs::write(b.path("short.bin"), [0u8; 8]).unwrap();
        std::fs::write(&file, model(&external(location), &relu)).unwrap();
        has(&b, &file, status, code);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", b.path("link.bin")).unwrap();
        std::fs::write(&file, model(&external("link.bin"), &relu)).unwrap();
        has(&b, &file, 1, "external-symlink");
    }
}

#[test]
fn lengths_operators_and_names() {
    let b = Bench::new();
    let file = b.path("m.onnx");
    let plain = [vec![0x08, 4, 0x10, 1], message(8, b"w"), message(9, &[0; 16])].concat();
    std::fs::write(&file, model(&plain, &message(4, b"Relu"))).unwrap();
    assert!(codes(&b, &file, 0).is_empty());
    // Three floats for four.
    let short = [vec![0x08, 4, 0x10, 1], message(9, &[0; 12])].concat();
    std::fs::write(&file, model(&short, &message(4, b"Relu"))).unwrap();
    has(&b, &file, 1, "length-mismatch");
    // 2^40 floats that are nowhere.
    let vast = [vec![0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x10, 1], message(8, b"w")].concat();
    std::fs::write(&file, model(&vast, &message(4, b"Relu"))).unwrap();
    has(&b, &file, 1, "oversized-tensor");
    let custom = [message(4, b"Launch"), message(7, b"evil.corp")].concat();
    std::fs::write(&file, model(&plain, &custom)).unwrap();
    has(&b, &file, 0, "custom-operator");
    let forged = [message(4, b"Relu"), message(3, b"\x1b[2Jall is well")].concat();
    std::fs::write(&file, model(&plain, &forged)).unwrap();
    has(&b, &file, 0, "control-characters");
    assert!(!b.ok(&["audit", &file]).contains('\u{1b}'));
    // Cut off.
    let whole = model(&plain, &message(4, b"Relu"));
    std::fs::write(&file, &whole[..whole.len() - 7]).unwrap();
    has(&b, &file, 1, "damaged");
}

/// A stored archive of these members; `unpacked` forges the directory's size of the last.
fn archive(members: &[(&str, &[u8])], unpacked: Option<u32>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (i, (name, data)) in members.iter().enumerate() {
        let at = out.len() as u32;
        let size = data.len() as u32;
        let stated = unpacked.filter(|_| i + 1 == members.len()).unwrap_or(size);
        let sizes = [0u32.to_le_bytes(), size.to_le_bytes(), stated.to_le_bytes()].concat();
        let lengths = [(name.len() as u16).to_le_bytes(), [0, 0]].concat();
        out.extend([&b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0"[..], &sizes, &lengths, name.as_bytes(), data].concat());
        directory.extend(
            [
                &b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0"[..],
                &sizes,
                &lengths,
                &[0; 10],
                &at.to_le_bytes(),
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let (start, count) = (out.len() as u32, (members.len() as u16).to_le_bytes());
    out.extend(&directory);
    out.extend(
        [
            &b"PK\x05\x06\0\0\0\0"[..],
            &count,
            &count,
            &(directory.len() as u32).to_le_bytes(),
            &start.to_le_bytes(),
            &[0, 0],
        ]
        .concat(),
    );
    out
}

#[test]
fn archives_and_pickles() {
    let b = Bench::new();
    let file = b.path("m.pt");
    let write = |members: &[(&str, &[u8])], unpacked| std::fs::write(&file, archive(members, unpacked)).unwrap();
    let harmless: &[u8] = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00.";
    write(&[("m/data.pkl", harmless), ("m/data/0", &[0; 64])], None);
    assert!(codes(&b, &file, 0).is_empty());
    write(&[("m/data.pkl", b"cos\nsystem\n(S'ls'\ntR.")], None);
    has(&b, &file, 1, "pickle-code");
    write(&[("m/data.pkl", b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.")], None);
    has(&b, &file, 1, "pickle-code");
    write(&[("m/data.pkl", b"\x80\x02cmy_models\nNet\nq\x00.")], None);
    has(&b, &file, 0, "pickle-import");
    write(&[("../../.bashrc", b"echo")], None);
    has(&b, &file, 1, "member-path");
    write(&[("m/a", b"1"), ("m/a", b"2")], None);
    has(&b, &file, 1, "member-twice");
    write(&[("m/zeros", &[0; 64])], Some(u32::MAX - 1));
    has(&b, &file, 1, "zip-bomb");
    write(&[("m/lib/model.so", b"\x7fELF")], None);
    has(&b, &file, 1, "native-code");
    // A bare pickle, and an archive without its directory.
    std::fs::write(&file, b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.").unwrap();
    has(&b, &file, 1, "pickle-code");
    let whole = archive(&[("m/data.pkl", harmless)], None);
    std::fs::write(&file, &whole[..whole.len() - 30]).unwrap();
    has(&b, &file, 1, "damaged");
    assert!(Path::new(&file).exists());
}
