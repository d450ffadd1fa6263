//! Prints the documentation page of the rules: `cargo run --example rules_page > docs/RULES.md`.

fn main() {
    print!("{}", supervise_harness::rules::page());
}
