//! Checks that the README says of other people's supervisors what their tables say.

use std::fs;
use std::path::Path;

use rstest::rstest;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Counts how often the table has this verdict.
fn count(table: &str, verdict: &str) -> usize {
    let words = table
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word == verdict).count()
}

#[rstest]
fn each_row_has_the_counts_of_its_table(
    #[values("a_plain_tokio_loop", "processkit", "runit")] name: &str,
) {
    let path = format!("peers/tests/snapshots/tables__{name}.snap");
    let table = read(&path);
    let counts = ["pass", "fail", "unsupported", "unknown"].map(|verdict| count(&table, verdict));
    let [pass, fail, unsupported, unknown] = counts;
    assert!(pass > 0, "{path} has no verdicts");
    let expected = format!("| {pass} | {fail} | {unsupported} | {unknown} |");
    let readme = read("peers/README.md");
    let row = readme
        .lines()
        .find(|line| line.starts_with('|') && line.contains(&path["peers/".len()..]));
    let row = row.unwrap_or_else(|| panic!("peers/README.md has no row with {path}"));
    assert!(row.contains(&expected), "expected {expected} in\n{row}");
}

/// If a table says that a supervisor fails a rule, there is a program that shows it.
#[rstest]
fn each_fail_has_its_reproduction(
    #[values("a_plain_tokio_loop", "processkit", "runit")] name: &str,
) {
    let table = read(&format!("peers/tests/snapshots/tables__{name}.snap"));
    let fails = table.lines().filter_map(|line| {
        let (verdict, rule) = line.trim().split_once(char::is_whitespace)?;
        (verdict == "fail").then(|| rule.trim().replace('-', "_"))
    });
    for rule in fails {
        let page = format!("peers/reproductions/{name}_{rule}.rs");
        let first = read(&page);
        assert!(
            first.starts_with("//!"),
            "{page} does not say what it shows"
        );
        assert!(
            read("peers/README.md").contains(&page["peers/".len()..]),
            "{page} is not named where {name}'s table is"
        );
    }
}
