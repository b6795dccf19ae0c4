//! Prints what Rust declares of each kernel, as JSON: scripts/kernels compares it with the compiled code.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let mut lines = Vec::new();
    for family in ctkvr_cuda::launch::FAMILIES.iter().chain(ctkvr_cuda::launch::MEASURING) {
        for kernel in family.kernels {
            let needs = kernel.needs;
            lines.push(format!(
                r#"  {{"file": "{}", "kernel": "{}", "sizes": {:?}, "loads16": {}, "products": {}}}"#,
                family.file, kernel.name, kernel.sizes, needs.loads_16, needs.products
            ));
        }
    }
    writeln!(std::io::stdout().lock(), "[\n{}\n]", lines.join(",\n"))
}
