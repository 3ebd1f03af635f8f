fn main() {
    for path in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        match oxrt_onnx::read_file(std::path::Path::new(&path)) {
            Err(e) => println!("{path}: {e}"),
            Ok(m) => {
                let mut fresh = 0;
                let mut total = 0;
                let mut first = None;
                for (_, n) in m.graph.nodes() {
                    for v in n.outputs().iter().flatten() {
                        total += 1;
                        let t = m.graph[*v].ty.to_string();
                        if t.contains("_d") || t.contains("..") || t == "?" {
                            fresh += 1;
                            if first.is_none() {
                                first = Some(format!("{} -> {t}", n.describe()));
                            }
                        }
                    }
                }
                let io = |l: &[oxrt_ir::ValueId]| {
                    l.iter().map(|v| format!("{} {}", m.graph[*v].name, m.graph[*v].ty)).collect::<Vec<_>>().join(", ")
                };
                println!(
                    "{path}: opset {} {} ms; {fresh} of {total} unknown; in {} out {} first {first:?}",
                    m.opset,
                    t.elapsed().as_millis(),
                    io(&m.graph.inputs),
                    io(&m.graph.outputs)
                );
            }
        }
    }
}
