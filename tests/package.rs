//! The packages as a stranger gets them: what is in them, and a crate that depends on them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use supervise_harness::rules;

#[path = "../fixtures/sweeper.rs"]
mod sweeper;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("start it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\n{errors}",
        output.status
    );
    text
}

fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    command
}

#[test]
fn the_packages_contain_what_they_need() {
    let listed = |package: &str| -> BTreeSet<String> {
        let list = ["package", "--list", "--allow-dirty", "--package", package];
        run(cargo().args(list)).lines().map(str::to_owned).collect()
    };
    let stub = listed("supervise-agent-stub");
    for file in [
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "build.rs",
        "src/lib.rs",
        "src/main.rs",
        "src/help.txt",
        "src/script/table.txt",
    ] {
        assert!(
            stub.contains(file),
            "supervise-agent-stub lacks {file}: {stub:#?}"
        );
    }
    let harness = listed("supervise-harness");
    for file in [
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "docs/GUIDE.md",
        "docs/RULES.md",
        "src/lib.rs",
    ] {
        assert!(
            harness.contains(file),
            "supervise-harness lacks {file}: {harness:#?}"
        );
    }
    for file in &harness {
        let ours = [
            "agent-stub/",
            ".ci/",
            ".config/",
            "target/",
            "fixtures/downstream/",
            "peers/",
        ];
        assert!(
            !ours.iter().any(|part| file.starts_with(part)),
            "{file} is nobody else's business"
        );
    }
}

/// The targets of the relative links in a page of Markdown, without their anchors.
fn relative_links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    let is_relative = |target: &&str| !target.is_empty() && !target.contains("://");
    files.filter(is_relative).map(str::to_owned).collect()
}

#[test]
fn no_relative_link_of_a_packaged_page_is_dead() {
    let mut seen = 0;
    for (package, folder) in [
        ("supervise-harness", ""),
        ("supervise-agent-stub", "agent-stub"),
    ] {
        let list = ["package", "--list", "--allow-dirty", "--package", package];
        let files: BTreeSet<String> = run(cargo().args(list)).lines().map(str::to_owned).collect();
        for page in files.iter().filter(|file| file.ends_with(".md")) {
            let text = fs::read_to_string(root().join(folder).join(page)).expect(page);
            for link in relative_links(&text) {
                let mut target = Path::new(page).parent().unwrap_or(Path::new("")).to_owned();
                for part in Path::new(&link) {
                    if part == ".." {
                        assert!(
                            target.pop(),
                            "{page} of {package} links outside of it: {link}"
                        );
                    } else {
                        target.push(part);
                    }
                }
                let target = target.to_str().expect("UTF-8");
                assert!(
                    files.contains(target),
                    "{page} of {package} links to {link}, which it lacks"
                );
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no link was found");
}

/// The code of the README's first Rust block.
fn readme_test() -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, rest) = readme
        .split_once("```rust\n")
        .expect("a block of Rust in README.md");
    let (code, _) = rest.split_once("```").expect("the end of the block");
    assert!(
        code.contains("#[test]"),
        "README's first block is no test:\n{code}"
    );
    code.to_owned()
}

#[test]
fn the_readmes_first_test_is_the_quickstart_example() {
    let example = fs::read_to_string(root().join("examples/quickstart.rs")).expect("the example");
    assert!(
        example.contains(&readme_test()),
        "README.md and examples/quickstart.rs differ"
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create a directory");
    for entry in fs::read_dir(from).expect("read a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            if name != OsStr::new("target") {
                copy(&path, &to.join(name));
            }
        } else {
            fs::copy(&path, to.join(name)).expect("copy a file");
        }
    }
}

#[test]
#[ignore = "builds every dependency once more: .ci/run asks for it"]
fn a_strangers_crate_builds_and_tests_against_the_packages() {
    let target = root().join("target");
    run(cargo()
        .args([
            "package",
            "-p",
            "supervise-harness",
            "-p",
            "supervise-agent-stub",
            "--no-verify",
            "--allow-dirty",
            "--target-dir",
        ])
        .arg(&target));

    let directory = tempfile::tempdir().expect("a directory");
    let unpacked = |name: &str| -> PathBuf {
        let archive = target.join(format!("package/{name}-{VERSION}.crate"));
        run(Command::new("tar")
            .arg("xzf")
            .arg(archive)
            .arg("-C")
            .arg(directory.path()));
        directory.path().join(format!("{name}-{VERSION}"))
    };
    let packages = ["supervise-harness", "supervise-agent-stub"].map(|name| (name, unpacked(name)));

    let downstream = directory.path().join("downstream");
    copy(&root().join("fixtures/downstream"), &downstream);
    fs::write(downstream.join("tests/readme.rs"), readme_test()).expect("write the README's test");

    let mut build = escargot::CargoBuild::new()
        .manifest_path(downstream.join("Cargo.toml"))
        // Kept from run to run: the dependencies need not be built each time.
        .target_dir(target.join("downstream"))
        .tests();
    for (name, path) in &packages {
        build = build.args([
            "--config".to_owned(),
            format!(
                "patch.crates-io.{name}.path={:?}",
                path.display().to_string()
            ),
        ]);
    }
    let mut tests = Vec::new();
    for message in build.exec().expect("build the downstream crate") {
        let message = message.unwrap_or_else(|error| panic!("{error}"));
        match message.decode().expect("a message of cargo") {
            escargot::format::Message::CompilerArtifact(artifact) if artifact.profile.test => {
                tests.extend(artifact.executable.map(std::borrow::Cow::into_owned));
            }
            _ => {}
        }
    }
    // By file: how many passed, and how many were ignored.
    let results: BTreeMap<String, (usize, usize)> = tests
        .iter()
        .map(|test| {
            let text = run(Command::new(test).current_dir(&downstream));
            let count = |what: &str| text.matches(what).count();
            (name_of(test), (count("... ok"), count("... ignored")))
        })
        .collect();
    let rules = rules::all().filter(|rule| rule.planned().is_none()).count();
    // Each rule has a test, and one more is about the list of those that are unsupported.
    let (judged, unsupported) = results["conformance"];
    assert_eq!(judged + unsupported, rules + 1, "{results:?}");
    assert!(judged > 1, "{results:?}");
    let expected = [
        ("conformance", (judged, unsupported)),
        ("downstream", (0, 0)),
        ("parts", (4, 0)),
        ("readme", (1, 0)),
    ];
    assert_eq!(
        results,
        expected
            .map(|(name, counts)| (name.to_owned(), counts))
            .into()
    );
}

/// The file that a test binary was made of.
fn name_of(binary: &Path) -> String {
    let stem = binary.file_stem().and_then(OsStr::to_str).expect("a name");
    let (name, _hash) = stem.rsplit_once('-').expect("a hash after the name");
    name.to_owned()
}
