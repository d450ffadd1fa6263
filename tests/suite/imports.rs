//! The order of the modules: a module imports only from modules above it, and never from the crate's root.
//!
//! "Above" is the order of the `mod` lines in the file that declares both modules. ARCHITECTURE.md draws the same order for the
//! modules of the root.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of a package: its module's path below the root, and its code without comments and unit tests.
struct Module {
    path: Vec<String>,
    code: String,
    /// The modules that it declares, in order.
    children: Vec<String>,
}

/// The modules of a package, by their paths.
struct Package(BTreeMap<Vec<String>, Module>);

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comment lines, and without what follows the first module of unit tests.
fn code_of(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names of the modules in files of their own, in the order of their `mod` lines, but for those of tests.
fn declared(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_for_tests = false;
    for line in code.lines() {
        let line = line.trim();
        if line.starts_with("#[") {
            is_for_tests |= line.starts_with("#[cfg(test") || line.starts_with("#[cfg(all(test");
            continue;
        }
        let declaration = line.rsplit_once("mod ").filter(|(before, _)| {
            let before = before.trim();
            before.is_empty() || before.starts_with("pub")
        });
        if let Some(name) = declaration.and_then(|(_, name)| name.strip_suffix(';'))
            && !is_for_tests
        {
            names.push(name.to_owned());
        }
        is_for_tests = false;
    }
    names
}

/// The paths that one `use` tree names, with its braces resolved.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().to_owned()];
    };
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut item, mut paths) = (0, String::new(), Vec::new());
    for letter in inside.chars().chain([',']) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            if !item.trim().is_empty() {
                let inner = expand(&item).into_iter();
                paths.extend(inner.map(|path| format!("{prefix}{path}")));
            }
            item.clear();
        } else {
            item.push(letter);
        }
    }
    paths
}

/// The paths of all `use` lines of a file.
fn imports(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let is_use = before.is_empty() || before.starts_with("pub");
        rest = &rest[at + "use ".len()..];
        if is_use && let Some(end) = rest.find(';') {
            let tree = rest[..end].split_whitespace().collect::<Vec<_>>();
            paths.extend(expand(&tree.join(" ")));
            rest = &rest[end..];
        }
    }
    paths
}

impl Package {
    /// The modules below one root: `lib` or `main`.
    fn read(folder: &str, top: &str) -> Package {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut files = Vec::new();
        rust_files(&root, &mut files);
        let modules = files.into_iter().filter_map(|file| {
            let relative = file.strip_prefix(&root).unwrap().with_extension("");
            let mut path: Vec<String> = relative
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            match path.last().map(String::as_str) {
                Some("mod") => drop(path.pop()),
                Some(name) if path.len() == 1 && name == top => path.clear(),
                Some("lib" | "main") if path.len() == 1 => return None,
                _ => {}
            }
            let code = code_of(&fs::read_to_string(file).unwrap());
            let children = declared(&code);
            Some((
                path.clone(),
                Module {
                    path,
                    code,
                    children,
                },
            ))
        });
        let mut package = Package(modules.collect());
        // Those of tests are declared for tests alone.
        let is_declared = |path: &[String], all: &BTreeMap<Vec<String>, Module>| {
            (1..=path.len()).all(|length| {
                let (name, parent) = path[..length].split_last().unwrap();
                all.get(parent)
                    .is_some_and(|parent| parent.children.contains(name))
            })
        };
        let all: Vec<Vec<String>> = package.0.keys().cloned().collect();
        for path in all {
            if !is_declared(&path, &package.0) {
                package.0.remove(&path);
            }
        }
        package
    }

    /// The module that a path leads to, and what is left of the path. `None` if it leads out of the package.
    fn resolve(&self, from: &Module, path: &str) -> Option<(Vec<String>, Vec<String>)> {
        let mut words: Vec<String> = path.split("::").map(str::to_owned).collect();
        let mut place = match words[0].as_str() {
            "crate" => {
                words.remove(0);
                Vec::new()
            }
            "self" => {
                words.remove(0);
                from.path.clone()
            }
            "super" => {
                let mut place = from.path.clone();
                while words.first().is_some_and(|word| word == "super") {
                    words.remove(0);
                    place.pop();
                }
                place
            }
            first if from.children.iter().any(|child| child == first) => from.path.clone(),
            _ => return None,
        };
        while let Some(word) = words.first() {
            place.push(word.clone());
            if !self.0.contains_key(&place) {
                place.pop();
                break;
            }
            words.remove(0);
        }
        Some((place, words))
    }

    /// What is wrong with an import, if anything is.
    fn fault(&self, from: &Module, path: &str) -> Option<String> {
        let (to, left) = self.resolve(from, path)?;
        let shared = from
            .path
            .iter()
            .zip(&to)
            .take_while(|(a, b)| a == b)
            .count();
        if to.len() == shared {
            // An ancestor, or the module itself: only a child of it may be meant.
            let is_itself = to == from.path;
            return (!is_itself)
                .then(|| format!("imports {left:?} from a module that declares it"));
        }
        if from.path.len() == shared {
            // A module below it.
            return None;
        }
        let order = &self.0[&from.path[..shared]].children;
        let place = |name: &String| order.iter().position(|other| other == name);
        let (own, others) = (place(&from.path[shared])?, place(&to[shared])?);
        (others >= own).then(|| "imports from a module below it".to_owned())
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for module in self.0.values() {
            for path in imports(&module.code) {
                if let Some(fault) = self.fault(module, &path) {
                    faults.push(format!("{}: `{path}` {fault}", module.path.join("::")));
                }
            }
        }
        faults
    }
}

#[test]
fn a_module_imports_only_from_modules_above_it() {
    for (folder, top) in [
        ("src", "lib"),
        ("agent-stub/src", "lib"),
        ("agent-stub/src", "main"),
    ] {
        let package = Package::read(folder, top);
        let count = package.0.len();
        assert!(count > 10, "{folder}/{top}.rs has {count} modules");
        let faults = package.faults();
        assert!(
            faults.is_empty(),
            "below {folder}/{top}.rs:\n{}",
            faults.join("\n")
        );
    }
}

/// A package of these files, each with its path below `src`.
fn made_up(files: &[(&str, &str)]) -> Package {
    let modules = files.iter().map(|(path, code)| {
        let path: Vec<String> = path.split("::").map(str::to_owned).collect();
        let path = if path == [""] { Vec::new() } else { path };
        let module = Module {
            path: path.clone(),
            code: code_of(code),
            children: declared(&code_of(code)),
        };
        (path, module)
    });
    Package(modules.collect())
}

#[test]
fn an_import_from_below_or_from_the_root_is_found() {
    let package = made_up(&[
        (
            "",
            "mod a;\n\npub mod b;\n\n#[cfg(test)]\nmod c;\n\npub use b::B;",
        ),
        ("a", "use crate::b::{B, deep::D};\nuse std::fs;"),
        ("b", "mod deep;\nuse crate::a::{\n    A,\n};\nuse crate::B;"),
        ("b::deep", "use super::B;\nuse crate::a::A;"),
    ]);
    assert_eq!(package.0[&Vec::new()].children, ["a", "b"]);
    assert_eq!(
        package.faults(),
        [
            "a: `crate::b::B` imports from a module below it",
            "a: `crate::b::deep::D` imports from a module below it",
            "b: `crate::B` imports [\"B\"] from a module that declares it",
            "b::deep: `super::B` imports [\"B\"] from a module that declares it",
        ]
    );
}

/// The first column of its first table has the modules, several in a row where they are of one kind.
#[test]
fn architecture_draws_the_order_of_the_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let table = page.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = table.skip(1).take_while(|line| line.starts_with('|'));
    let drawn: Vec<String> = rows
        .flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap_or_default();
            let names = cell.split('`').skip(1).step_by(2);
            names.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let root = &Package::read("src", "lib").0[&Vec::new()];
    assert_eq!(drawn, root.children);
}
