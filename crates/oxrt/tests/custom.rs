//! The example of `docs/custom-operators.md`, as it stands.

#[path = "../examples/custom_operator.rs"]
mod example;

#[test]
fn the_example_of_a_kernel_of_ones_own_runs() {
    example::main().unwrap();
    let page = include_str!("../../../docs/custom-operators.md");
    let code = include_str!("../examples/custom_operator.rs");
    // What the page shows of it are lines of the example, in their order.
    let block = page.split("```rust\n").nth(1).and_then(|b| b.split("```").next()).unwrap();
    let mut rest = code;
    for line in block.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("use ")) {
        let line = line
            .replace("oxrt::Result", "Result")
            .replace("oxrt::Tensor", "Tensor")
            .replace("static OP", "static SHIFT");
        let line = line.replace("&OP)", "&SHIFT)");
        let at = rest.find(&line).unwrap_or_else(|| panic!("the example does not have `{line}`"));
        rest = &rest[at + line.len()..];
    }
}
