//! TorchScript files made by hand: what the language does, and what damaged or malicious code does not.

mod common;
use common::{import_bytes, zip};
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::Tensor;
use oxrt_torch::{ImportOptions, Imported};

/// A module without attributes whose code is `code`.
fn archive(code: &str) -> Vec<u8> {
    let pickle = b"\x80\x02c__torch__\nM\n)\x81}(X\x08\0\0\0training\x89ub.";
    zip(&[
        ("m/data.pkl", pickle),
        ("m/code/__torch__.py", code.as_bytes()),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/version", b"3\n"),
    ])
}

/// `forward(self, x)` with this body, indented by four spaces.
fn method(body: &str) -> String {
    let body: String = body.lines().map(|l| format!("    {l}\n")).collect();
    format!("class M(Module):\n  training : bool\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n{body}")
}

fn load(code: &str, input: &str) -> oxrt_tensor::Result<Imported> {
    import_bytes(&archive(code), &ImportOptions { inputs: vec![input.into()], ..Default::default() })
}

/// Every output for `x`, by the reference evaluator.
fn run(body: &str, input: &str, x: &Tensor) -> Vec<Vec<f64>> {
    let m = load(&method(body), input).unwrap().model;
    let out = Interpreter::new(&m.graph).run(vec![Datum::Tensor(x.clone())]).unwrap();
    out.into_iter().map(|d| d.into_tensor().unwrap().to_f64_vec().unwrap()).collect()
}

fn error(body: &str) -> String {
    load(&method(body), "x=f32[2,3]").map(|_| ()).unwrap_err().to_string()
}

fn matrix(rows: usize, values: &[f32]) -> Tensor {
    Tensor::from_slice(&[rows, values.len() / rows], values)
}

#[test]
fn numbers_text_and_containers_are_evaluated_at_import() {
    let body = "\
d = {\"a\": 2, \"b\": 3}
items = annotate(List[int], [])
for i in range(4):
  if torch.eq(torch.remainder(i, 2), 0):
    _0 = torch.append(items, torch.mul(i, d[\"b\"]))
  else:
    pass
n = torch.add(torch.len(items), items[-1])
if torch.__contains__([\"p\", \"q\"], \"q\"):
  k = torch.floordiv(-7, 2)
else:
  k = 0
return torch.add(torch.mul(x, n), k)";
    let x = matrix(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let want: Vec<f64> = (1..=6).map(|v| v as f64 * 8.0 - 4.0).collect();
    assert_eq!(run(body, "x=f32[rows,3]", &x), [want]);
    let m = load(&method(body), "x=f32[rows,3]").unwrap().model;
    assert_eq!(m.graph.num_nodes(), 2, "only the arithmetic on x is left");
}

#[test]
fn branches_of_the_data_become_if() {
    let body = "\
_0 = bool(torch.gt(torch.sum(x), 0))
if _0:
  y = torch.mul(x, 2)
  k = 1
else:
  y = torch.neg(x)
  k = 5
return torch.add(y, k)";
    assert_eq!(run(body, "x=f32[n,2]", &matrix(1, &[1.0, 2.0])), [vec![3.0, 5.0]]);
    assert_eq!(run(body, "x=f32[n,2]", &matrix(1, &[-1.0, -2.0])), [vec![6.0, 7.0]]);
    let m = load(&method(body), "x=f32[n,2]").unwrap().model;
    assert!(m.graph.nodes().any(|(_, n)| &*n.op == "If"));
}

#[test]
fn loops_over_dynamic_sizes_carry_tensors_numbers_lists_and_writes() {
    let body = "\
out = annotate(List[Tensor], [])
y = torch.zeros_like(x)
total = torch.zeros([2], dtype=6, layout=None, device=torch.device(\"cpu\"))
k = 0
for i in range(torch.size(x, 0)):
  row = torch.select(x, 0, i)
  total = torch.add(total, row)
  _0 = torch.append(out, total)
  _1 = torch.copy_(torch.select(y, 0, i), torch.mul(row, i))
  k = torch.add(k, 2)
return (torch.stack(out), y, torch.add(total, k))";
    for rows in [1, 3] {
        let values: Vec<f32> = (0..rows * 2).map(|v| v as f32).collect();
        let got = run(body, "x=f32[rows,2]", &matrix(rows, &values));
        let (mut sums, mut scaled, mut total) = (Vec::new(), Vec::new(), [0.0; 2]);
        for (i, row) in values.chunks(2).enumerate() {
            for j in 0..2 {
                total[j] += row[j] as f64;
                sums.push(total[j]);
                scaled.push(row[j] as f64 * i as f64);
            }
        }
        let last = total.map(|t| t + 2.0 * rows as f64).to_vec();
        assert_eq!(got, [sums, scaled, last], "{rows} rows");
    }
}

#[test]
fn while_loops_end_by_the_data() {
    let body = "\
n = 0
y = x
_0 = bool(torch.gt(torch.max(y), 1))
while _0:
  y = torch.mul(y, 0.5)
  n = torch.add(n, 1)
  _0 = bool(torch.gt(torch.max(y), 1))
return (y, ops.prim.NumToTensor(n))";
    assert_eq!(run(body, "x=f32[n,1]", &matrix(1, &[8.0])), [vec![1.0], vec![3.0]]);
    assert_eq!(run(body, "x=f32[n,1]", &matrix(1, &[0.5])), [vec![0.5], vec![0.0]]);
}

#[test]
fn writes_reach_every_view() {
    let body = "\
y = torch.mul(x, 1)
v = torch.slice(y, 1, 0, 2)
_0 = torch.add_(v, 10)
c = torch.contiguous(torch.transpose(y, 0, 1))
_1 = torch.mul_(c, 0)
return (y, v)";
    let got = run(body, "x=f32[2,3]", &matrix(2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    assert_eq!(got, [vec![11.0, 12.0, 3.0, 14.0, 15.0, 6.0], vec![11.0, 12.0, 14.0, 15.0]]);
}

#[test]
fn exceptions_that_are_always_raised_are_errors() {
    let text = error(
        "if torch.ne(torch.dim(x), 4):\n  ops.prim.RaiseException(\"expected 4D\", \"builtins.ValueError\")\nelse:\n  pass\nreturn x",
    );
    assert!(text.contains("expected 4D") && text.contains("code/__torch__.py"), "{text}");
}

#[test]
fn what_is_not_known_is_named_with_its_place() {
    assert!(error("return torch.frobnicate(x)").contains("aten.frobnicate(Tensor) has no lowering"));
    assert!(error("return y").contains("reads `y` before it is set"));
    assert!(error("return __torch__.other.f(x, )").contains("the archive lacks `__torch__.other.f`"));
    assert!(error("return torch.add(x").contains("line"));
    assert!(error("return torch.add(x)").contains("has no lowering with these arguments"));
    assert!(error("z = [x][3]\nreturn z").contains("the index 3 into a list of 1"));
}

#[test]
fn sizes_must_be_stated() {
    let bytes = archive(&method("return torch.relu(x)"));
    let e = import_bytes(&bytes, &ImportOptions::default()).map(|_| ()).unwrap_err();
    assert!(e.remedy().is_some_and(|r| r.contains("--input x=")), "{e}");
    for bad in ["y=f32[2]", "x=f32[", "x"] {
        let options = ImportOptions { inputs: vec![bad.into()], ..Default::default() };
        assert!(import_bytes(&bytes, &options).is_err(), "{bad}");
    }
}

#[test]
fn endless_code_ends() {
    // A loop that never ends, a function that calls itself, brackets without end, a list that grows for ever.
    assert!(error("_0 = True\nwhile _0:\n  pass\nreturn x").contains("turns"));
    let recursive = "class M(Module):\n  training : bool\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    return (self).forward(x, )\n";
    assert!(load(recursive, "x=f32[1]").map(|_| ()).unwrap_err().to_string().contains("deeper"));
    assert!(error(&format!("return {}x{}", "(".repeat(100_000), ")".repeat(100_000))).contains("nested deeper"));
    assert!(error("k = 2\nfor i in range(1000):\n  k = torch.mul(k, k)\nreturn torch.add(x, k)").contains("64 bits"));
}

const SMALL: &str = "_0 = torch.slice(x, 1, 0, 2)\nif torch.gt(torch.len(x), 1):\n  y = torch.relu(_0)\nelse:\n  y = x\nreturn torch.add(y, -1.5)";

#[test]
fn every_truncation_is_an_error() {
    let options = ImportOptions { inputs: vec!["x=f32[2,3]".into()], ..Default::default() };
    let bytes = archive(&method(SMALL));
    import_bytes(&bytes, &options).unwrap();
    for len in 0..bytes.len() {
        assert!(import_bytes(&bytes[..len], &options).is_err(), "{len}");
    }
}

#[test]
fn no_altered_byte_brings_a_panic() {
    let options = ImportOptions { inputs: vec!["x=f32[2,3]".into()], ..Default::default() };
    let bytes = archive(&method(SMALL));
    for at in 0..bytes.len() {
        for value in [0, b'(', bytes[at] ^ 1] {
            let mut damaged = bytes.clone();
            damaged[at] = value;
            if let Err(e) = import_bytes(&damaged, &options) {
                assert!(!e.to_string().contains("panicked"), "byte {at} = {value}: {e}");
            }
        }
    }
}

#[test]
fn exceptions_that_the_data_decides_are_checks() {
    let body = "\
if bool(torch.gt(torch.sum(x), 0)):
  pass
else:
  ops.prim.RaiseException(\"the sum must be positive\", \"builtins.AssertionError\")
torch._assert(bool(torch.lt(torch.sum(x), 9)), \"the sum is too large\")
return torch.neg(x)";
    let m = load(&method(body), "x=f32[n,2]").unwrap().model;
    let run = |x: &[f32]| Interpreter::new(&m.graph).run(vec![Datum::Tensor(matrix(1, x))]).map_err(|e| e.to_string());
    assert!(run(&[1.0, 2.0]).is_ok());
    assert!(run(&[-1.0, -2.0]).unwrap_err().contains("the sum must be positive"));
    assert!(run(&[5.0, 6.0]).unwrap_err().contains("the sum is too large"));
}

fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    let code = method("return torch.relu(x)");
    zip(&[
        ("m/data.pkl", pickle),
        ("m/code/__torch__.py", code.as_bytes()),
        ("m/constants.pkl", b"\x80\x02)."),
        ("m/version", b"3\n"),
    ])
}

fn pickle_error(pickle: &[u8]) -> String {
    let options = ImportOptions { inputs: vec!["x=f32[2]".into()], ..Default::default() };
    import_bytes(&with_pickle(pickle), &options).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn storages_that_are_too_small_are_refused() {
    // M.a: six floats, over a storage of `size` bytes.
    let text = |s: &str| [&b"X"[..], &(s.len() as u32).to_le_bytes(), s.as_bytes()].concat();
    let mut pickle =
        b"\x80\x02c__torch__\nM\n)\x81}(X\x08\0\0\0training\x89X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n(("
            .to_vec();
    pickle.extend([text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu")].concat());
    pickle.extend(b"K\x06tQK\0K\x06\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRub.");
    let code = "class M(Module):\n  training : bool\n  a : Tensor\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    return torch.add(x, self.a)\n";
    let open = |size: usize| {
        let bytes = zip(&[
            ("m/data.pkl", &pickle),
            ("m/data/0", &vec![0; size]),
            ("m/code/__torch__.py", code.as_bytes()),
            ("m/constants.pkl", b"\x80\x02)."),
            ("m/version", b"3\n"),
        ]);
        import_bytes(&bytes, &ImportOptions { inputs: vec!["x=f32[6]".into()], ..Default::default() }).map(|_| ())
    };
    open(24).unwrap();
    for size in [0, 1, 20, 23] {
        let e = open(size).unwrap_err().to_string();
        assert!(e.contains(&format!("the storage has {}", size / 4)), "{size}: {e}");
    }
}

#[test]
fn modules_that_hold_themselves_are_refused() {
    // An object M (memo 1) whose attribute `a` is itself.
    let own = b"\x80\x02c__torch__\nM\n)\x81q\x01}(X\x08\0\0\0training\x89X\x01\0\0\0ah\x01ub.";
    assert!(pickle_error(own).contains("contains itself"), "{}", pickle_error(own));
    // A list (memo 2) of modules that holds the module that holds it.
    let list = b"\x80\x02c__torch__\nM\n)\x81q\x01}(X\x08\0\0\0training\x89X\x01\0\0\0l]q\x02h\x01aub.";
    assert!(pickle_error(list).contains("contains itself"), "{}", pickle_error(list));
}

#[test]
fn pickles_of_scripts_execute_nothing() {
    let call = b"\x80\x02c__torch__\nM\n)\x81}(X\x08\0\0\0training\x89X\x01\0\0\0acos\nsystem\nX\x02\0\0\0id\x85Rub.";
    let e = pickle_error(call);
    assert!(e.contains("`os.system`") && e.contains("no code is executed"), "{e}");
}

#[test]
fn shared_tuples_do_not_grow_without_bound() {
    // Sixty tuples, each of the one before twice: 2^60 leaves when written out.
    let mut pickle = b"\x80\x02c__torch__\nM\n)\x81}(X\x08\0\0\0training\x89X\x01\0\0\0aK\x01".to_vec();
    for i in 0..60u8 {
        pickle.extend([b'q', 10 + i, b'h', 10 + i, 0x86]);
    }
    pickle.extend(b"ub.");
    let options = ImportOptions { inputs: vec!["x=f32[2]".into()], ..Default::default() };
    // Nobody reads the attribute: it may load or be refused, in no time.
    drop(import_bytes(&with_pickle(&pickle), &options));
}

#[test]
fn modules_and_lists_that_hold_themselves_are_refused() {
    let file = |pickle: &[u8]| {
        let code = "class M(Module):\n  training : bool\n  next : __torch__.M\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    return x\n";
        zip(&[
            ("m/data.pkl", pickle),
            ("m/code/__torch__.py", code.as_bytes()),
            ("m/constants.pkl", b"\x80\x02)."),
            ("m/version", b"3\n"),
        ])
    };
    let options = ImportOptions { inputs: vec!["x=f32[2,3]".into()], ..Default::default() };
    // M.next = M; M.next = [M]; M.next = a list that holds itself.
    let cycles: [&[u8]; 3] = [
        b"\x80\x02c__torch__\nM\n)\x81q\x00}(X\x04\0\0\0nexth\x00ub.",
        b"\x80\x02c__torch__\nM\n)\x81q\x00}(X\x04\0\0\0next]h\x00aub.",
        b"\x80\x02c__torch__\nM\n)\x81}(X\x04\0\0\0next]q\x00h\x00aub.",
    ];
    for pickle in cycles {
        let error = import_bytes(&file(pickle), &options).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("contains itself"), "{error}");
    }
    // The same module twice is no cycle, and neither is a module without `next`.
    let twice = b"\x80\x02c__torch__\nM\n)\x81}(X\x04\0\0\0nextc__torch__\nM\n)\x81q\x00}(X\x08\0\0\0training\x89ubX\x03\0\0\0morh\x00ub.";
    import_bytes(&file(twice), &options).map(|_| ()).unwrap();
}

#[test]
fn code_unpacks_to_what_its_entry_says_and_no_further() {
    let code = method("return torch.relu(x)");
    let n = u16::try_from(code.len()).unwrap();
    // One stored block of deflate.
    let block = [&[1u8][..], &n.to_le_bytes(), &(!n).to_le_bytes(), code.as_bytes()].concat();
    let file = |claimed: usize| {
        let mut bytes = zip(&[
            ("m/data.pkl", b"\x80\x02c__torch__\nM\n)\x81}(X\x08\0\0\0training\x89ub."),
            ("m/constants.pkl", b"\x80\x02)."),
            ("m/version", b"3\n"),
            ("m/code/__torch__.py", &block),
        ]);
        let entry = bytes.windows(19).rposition(|w| w == b"m/code/__torch__.py").unwrap() - 46;
        assert!(bytes[entry..].starts_with(b"PK\x01\x02"));
        bytes[entry + 10..entry + 12].copy_from_slice(&8u16.to_le_bytes());
        bytes[entry + 24..entry + 28].copy_from_slice(&(claimed as u32).to_le_bytes());
        import_bytes(&bytes, &ImportOptions { inputs: vec!["x=f32[2,3]".into()], ..Default::default() })
    };
    file(code.len()).map(|_| ()).unwrap();
    for claimed in [0, 10, code.len() + 1, 100_000] {
        let error = file(claimed).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("does not unpack to"), "{claimed}: {error}");
    }
    let error = file(1 << 31).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("2147483648 bytes"), "{error}");
}
