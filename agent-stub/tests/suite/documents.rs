//! The README says what the program does.

use agent_stub::script::TABLE;

const README: &str = include_str!("../../README.md");

#[test]
fn the_readme_has_the_table_of_statements_verbatim() {
    assert!(README.contains(TABLE));
}

/// The first words of the arms of a `match` on messages, from the protocol's source.
fn messages() -> Vec<&'static str> {
    let source = include_str!("../../src/protocol.rs");
    let arms = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    arms.map(|(name, _)| name).collect()
}

/// The same for the lines of a hygiene report.
fn findings() -> Vec<&'static str> {
    let source = include_str!("../../src/hygiene.rs");
    let arms = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    arms.map(|(name, _)| name)
        .filter(|name| *name != "unlimited")
        .collect()
}

#[test]
fn the_readme_names_every_message_of_the_protocol() {
    let rows: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let names = messages();
    assert!(names.len() == 27, "{names:?}");
    for name in names {
        let row = |row: &&str| {
            row.starts_with(&format!("| `{name}`")) || row.starts_with(&format!("| `{name} "))
        };
        assert!(rows.iter().any(row), "no row for {name}");
    }
    let findings = findings();
    assert!(findings.len() == 11, "{findings:?}");
    for name in findings {
        assert!(README.contains(&format!("`{name}")), "no word of {name}");
    }
}

#[test]
fn the_readme_names_every_option_and_exit_code() {
    let help = include_str!("../../src/help.txt");
    let options = help
        .split_whitespace()
        .filter(|word| word.starts_with("--"));
    for option in options.map(|word| word.trim_end_matches(',')) {
        assert!(README.contains(option), "{option}");
    }
    for code in ["64", "71", "122", "123", "124"] {
        assert!(README.contains(&format!("| {code} |")), "{code}");
    }
}

#[test]
fn the_output_in_the_readme_is_real() {
    let sessions = README.split("```console\n").skip(1);
    let mut commands = 0;
    for session in sessions.map(|rest| rest.split("```").next().unwrap()) {
        for command in session.split("$ ").skip(1) {
            let (line, expected) = command.split_once('\n').unwrap();
            if line.starts_with("cargo") {
                continue;
            }
            let directory = agent_stub::path().unwrap().parent().unwrap();
            let output = std::process::Command::new("sh")
                .args(["-c", line])
                .env("PATH", format!("{}:/usr/bin:/bin", directory.display()))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{line}");
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                expected,
                "{line}"
            );
            commands += 1;
        }
    }
    assert!(commands >= 3);
}
