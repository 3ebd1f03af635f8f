//! Damaged and malicious files give an error that says what is wrong, and never a panic.

mod common;
use common::*;
use oxrt_torch::{ImportOptions, Program};

const PROGRAM: Tiny = Tiny {
    values: &[("x", 7, &["2", "3"]), ("p_w", 7, &["2", "3"]), ("y", 7, &["2", "3"])],
    nodes: &["aten.add.Tensor(self=t:x; other=t:p_w) -> y"],
    output: "y",
    weight: true,
    guards: "",
};

fn error(bytes: &[u8]) -> String {
    match import_bytes(bytes, &ImportOptions::default()) {
        Ok(_) => panic!("the file was accepted"),
        Err(e) => e.to_string(),
    }
}

fn altered(from: &str, to: &str) -> String {
    let json = PROGRAM.json();
    assert!(json.contains(from), "{from}");
    error(&archive(&json.replace(from, to), &weight_config(&meta(7, &["2", "3"]))))
}

#[test]
fn the_undamaged_file_is_fine() {
    import_bytes(&PROGRAM.bytes(), &ImportOptions::default()).unwrap();
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = PROGRAM.bytes();
    for len in 0..bytes.len() {
        assert!(import_bytes(&bytes[..len], &ImportOptions::default()).is_err(), "{len}");
    }
    assert!(error(&bytes[..bytes.len() - 5]).contains("cut short"));
}

#[test]
fn no_altered_byte_brings_a_panic() {
    let bytes = PROGRAM.bytes();
    for at in 0..bytes.len() {
        for value in [0, 0xff, bytes[at] ^ 1] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            drop(import_bytes(&damaged, &ImportOptions::default()));
        }
    }
}

#[test]
fn altered_programs() {
    assert!(altered("\"name\": \"x\"}}, \"kind\"", "\"name\": \"zz\"}}, \"kind\"").contains("`zz` before it is made"));
    assert!(altered("\"major\": 8", "\"major\": 99").contains("schema version 99"));
    assert!(
        altered("\"parameter_name\": \"lin.w\"", "\"parameter_name\": \"lin.v\"")
            .contains("no data for the weight `lin.v`")
    );
    assert!(altered("\"output_specs\": [", "\"output_specs\": [{\"token\": {}}, ").contains("the signature has"));
    // The file's own statement about the result is checked.
    let wrong = Tiny { values: &[("x", 7, &["2", "3"]), ("p_w", 7, &["2", "3"]), ("y", 7, &["2", "4"])], ..PROGRAM };
    assert!(error(&wrong.bytes()).contains("the program says"));
    let wrong = Tiny { values: &[("x", 7, &["2", "3"]), ("p_w", 7, &["3", "2"]), ("y", 7, &["2", "3"])], ..PROGRAM };
    assert!(error(&wrong.bytes()).contains("the weight `lin.w` is f32 [2, 3]"));
    let negative =
        Tiny { values: &[("x", 7, &["-2", "3"]), ("p_w", 7, &["2", "3"]), ("y", 7, &["2", "3"])], ..PROGRAM };
    assert!(error(&negative.bytes()).contains("negative size"));
}

#[test]
fn altered_weights() {
    let config = |meta: &str| error(&archive(&PROGRAM.json(), &weight_config(meta)));
    assert!(config(&meta(7, &["20", "3"])).contains("the storage has 6"));
    assert!(
        config(
            &meta(7, &["2", "3"]).replace("\"storage_offset\": {\"as_int\": 0}", "\"storage_offset\": {\"as_int\": 1}")
        )
        .contains("the storage has 6")
    );
    assert!(
        config(&meta(7, &["2", "3"]).replace("\"strides\": [{\"as_int\": 3}", "\"strides\": [{\"as_int\": -3}"))
            .contains("negative")
    );
    let huge = "{\"dtype\": 7, \"sizes\": [{\"as_int\": 1099511627776}, {\"as_int\": 4194304}], \"strides\": [{\"as_int\": 0}, {\"as_int\": 0}]}";
    assert!(config(huge).contains("too large"));
    let large = "{\"dtype\": 7, \"sizes\": [{\"as_int\": 1048576}, {\"as_int\": 1048576}], \"strides\": [{\"as_int\": 0}, {\"as_int\": 0}]}";
    assert!(config(large).contains("would take"));
    assert!(config(&meta(99, &["2", "3"])).contains("element type number 99"));
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"graph_module\": {}", "[".repeat(100_000));
    assert!(error(&archive(&deep, "{}")).contains("not a program"));
    let expr = "Add(".repeat(100_000);
    let json = PROGRAM.json().replacen(
        "{\"as_int\": 2}",
        &format!("{{\"as_expr\": {{\"expr_str\": \"{expr}\", \"hint\": null}}}}"),
        1,
    );
    assert!(error(&archive(&json, &weight_config(&meta(7, &["2", "3"])))).contains("nested deeper"));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    assert!(error(b"hello world, this is no archive at all").contains("not a ZIP archive"));
    assert!(error(&zip(&[("m/constants.pkl", b""), ("m/code/x.py", b"")])).contains("TorchScript"));
    assert!(error(&zip(&[("m/data.pkl", b"")])).contains("checkpoint"));
    assert!(error(&zip(&[("m/data/aotinductor/model/x.so", b"")])).contains("compiled package"));
}

/// A pickle of `{"w": tensor of [0 1 2 3]}` as torch.save writes it, with `call` as the function.
fn pickle(call: &str) -> Vec<u8> {
    let text = |s: &str| [&[b'X'][..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let mut p = vec![0x80, 2, b'}', b'q', 0];
    p.extend(text("lin.w"));
    p.extend(format!("c{call}\n((").as_bytes());
    p.extend(text("storage"));
    p.extend(b"ctorch\nFloatStorage\n");
    p.extend([text("0"), text("cpu")].concat());
    p.extend([b'K', 6, b't', b'Q', b'K', 0, b'K', 2, b'K', 3, 0x86, b'K', 3, b'K', 1, 0x86, 0x89]);
    p.extend(b"ccollections\nOrderedDict\n)RtRs.");
    p
}

fn old_layout(call: &str) -> Vec<u8> {
    let data: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).collect();
    old_layout_with(call, &data)
}

fn old_layout_with(call: &str, data: &[u8]) -> Vec<u8> {
    let saved = zip(&[("archive/data.pkl", &pickle(call)), ("archive/data/0", data)]);
    let json = PROGRAM.json().replace("\"major\": 8, \"minor\": 20", "\"major\": 7, \"minor\": 3");
    zip(&[
        ("serialized_exported_program.json", json.as_bytes()),
        ("serialized_state_dict.pt", &saved),
        ("version", b"7.3"),
    ])
}

#[test]
fn old_layouts_are_read_and_their_pickles_execute_nothing() {
    let m = import_bytes(&old_layout("torch._utils\n_rebuild_tensor_v2"), &ImportOptions::default()).unwrap();
    let g = &m.model.graph;
    let w = g.value_ids().find_map(|v| g.constant(v)).unwrap();
    assert_eq!(w.to_f64_vec().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let e = error(&old_layout("os\nsystem"));
    assert!(e.contains("the pickle calls `os.system`") && e.contains("no code is executed"), "{e}");
}

#[test]
fn storages_of_pickles_that_are_too_small_are_refused() {
    for size in [0, 1, 20, 23] {
        let e = error(&old_layout_with("torch._utils\n_rebuild_tensor_v2", &vec![0; size]));
        assert!(e.contains(&format!("the storage has {}", size / 4)), "{size}: {e}");
    }
}

#[test]
fn no_altered_pickle_brings_a_panic() {
    let bytes = old_layout("torch._utils\n_rebuild_tensor_v2");
    let at = bytes.windows(4).position(|w| w == b"\x80\x02}q").unwrap();
    for i in at..at + 200 {
        for value in [0, 0xff, b'R', b'.', b'(', b'u', b'e', bytes[i] ^ 1] {
            let mut damaged = bytes.clone();
            damaged[i] = value;
            drop(Program::open(&file(&damaged).0));
        }
    }
}

#[test]
fn members_that_claim_to_unpack_into_gigabytes_are_refused() {
    // Every directory entry says "deflated, two gigabytes unpacked".
    let mut bytes = PROGRAM.bytes();
    let entries: Vec<usize> = (0..bytes.len() - 4).filter(|&i| bytes[i..].starts_with(b"PK\x01\x02")).collect();
    assert!(entries.len() > 2);
    for at in entries {
        bytes[at + 10..at + 12].copy_from_slice(&8u16.to_le_bytes());
        bytes[at + 24..at + 28].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    }
    let e = error(&bytes);
    assert!(e.contains("compressed") || e.contains("unpack") || e.contains("2147483647"), "{e}");
}

#[test]
fn schema_versions_that_are_not_known_are_named() {
    for version in ["4", "9", "0", "-8", "9223372036854775807"] {
        let e = altered("\"major\": 8", &format!("\"major\": {version}"));
        assert!(e.contains(&format!("schema version {version}")), "{e}");
    }
    let e = altered("\"major\": 8", "\"major\": \"eight\"");
    assert!(e.contains("not a program"), "{e}");
    assert!(altered("\"schema_version\"", "\"another\"").contains("schema version 0"));
    // Minor versions only add.
    let later = PROGRAM.json().replace("\"minor\": 20", "\"minor\": 9000");
    import_bytes(&archive(&later, &weight_config(&meta(7, &["2", "3"]))), &ImportOptions::default())
        .map(|_| ())
        .unwrap();
}

#[test]
fn a_pickle_that_holds_itself_is_refused() {
    // {"w": <itself>}
    let itself = [&[0x80, 2, b'}', b'q', 0, b'X', 1, 0, 0, 0, b'w', b'h', 0, b's', b'.'][..]].concat();
    let saved = zip(&[("archive/data.pkl", &itself)]);
    let json = PROGRAM.json().replace("\"major\": 8, \"minor\": 20", "\"major\": 7, \"minor\": 3");
    let file = zip(&[
        ("serialized_exported_program.json", json.as_bytes()),
        ("serialized_state_dict.pt", &saved),
        ("version", b"7.3"),
    ]);
    error(&file);
}

#[test]
fn brackets_of_vmap_must_close_and_not_nest_without_end() {
    const OPEN: &str = "torch._functorch.predispatch._vmap_increment_nesting(=i:2) -> q";
    let open = Tiny { nodes: &[OPEN, "aten.add.Tensor(self=t:x; other=t:p_w) -> y"], ..PROGRAM };
    assert!(error(&open.bytes()).contains("does not end"));
    let mut nodes = vec![OPEN; 40];
    nodes.extend(vec!["torch._functorch.predispatch._vmap_decrement_nesting() -> q"; 40]);
    let nested = Tiny { nodes: Box::leak(nodes.into_boxed_slice()), ..PROGRAM };
    assert!(error(&nested.bytes()).contains("nested deeper"));
}

#[test]
fn a_pickle_of_shared_tuples_does_not_grow_without_bound() {
    // Sixty tuples, each of the one before twice: 2^60 leaves when written out.
    let mut pickle = vec![0x80, 2, b'}', b'q', 0, b'X', 1, 0, 0, 0, b'w', b'K', 1];
    for i in 0..60u8 {
        pickle.extend([b'q', 10 + i, b'h', 10 + i, 0x86]);
    }
    pickle.extend(b"s.");
    let saved = zip(&[("archive/data.pkl", &pickle)]);
    let json = PROGRAM.json().replace("\"major\": 8, \"minor\": 20", "\"major\": 7, \"minor\": 3");
    let file = zip(&[
        ("serialized_exported_program.json", json.as_bytes()),
        ("serialized_state_dict.pt", &saved),
        ("version", b"7.3"),
    ]);
    error(&file);
}
