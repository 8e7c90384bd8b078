//! The structure of the source tree: the size of files and crates, and the circles of imports between files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The product's crates, by the directory of each.
const CRATES: &[&str] = &[
    "bgp",
    "bgp/timing",
    "routing",
    "tunnel",
    "tunnel/netlink",
    "cli/resource",
    "cli/datastore",
    "cli/api",
    "cli/lab",
    "cli/routectl",
    "cli/routed",
];
const LONGEST_FILE: usize = 500;
const LARGEST_CIRCLE: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns every Rust file below a directory.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let name = name.trim_end_matches(".rs");
        ["tests", "simulation", "random_history"].contains(&name) || name.ends_with("_tests")
    })
}

/// The files of a crate by the path of their module: `wire::attribute::read`, and `` for the root.
fn modules(source: &Path) -> BTreeMap<String, PathBuf> {
    let files = rust_files(source).into_iter().filter(|path| {
        let inner = path.strip_prefix(source).expect("a path below the source");
        !is_test(inner) && inner != Path::new("main.rs")
    });
    let name = |path: &PathBuf| {
        let inner = path.strip_prefix(source).expect("a path below the source").with_extension("");
        let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let parts = match parts.as_slice() {
            [root] if root == "lib" => &[],
            [parents @ .., last] if last == "mod" => parents,
            all => all,
        };
        parts.join("::")
    };
    files.map(|path| (name(&path), path)).collect()
}

/// Returns the text without its comments and its unit tests, which stand at the end of a file.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file in UTF-8");
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = product.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns every path that begins with `crate`, `super` or `self`, with the groups of `use` expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for head in ["crate", "super", "self"] {
        for (at, _) in code.match_indices(&format!("{head}::")) {
            let is_whole = !code[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':');
            if is_whole {
                expand(&code[at..], &mut Vec::new(), &mut found);
            }
        }
    }
    found
}

/// Reads one path from the start of `text`; returns what is left behind it.
fn expand<'a>(text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = prefix.len();
    let mut rest = text.trim_start();
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            rest = inner.trim_start();
            while !rest.starts_with('}') && !rest.is_empty() {
                rest = expand(rest, prefix, found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
            }
            prefix.truncate(depth);
            return rest.strip_prefix('}').unwrap_or(rest);
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if end == 0 {
            // `*` of a glob, or the end of what is no path.
            let next = rest.char_indices().nth(1).map_or(rest.len(), |(at, _)| at);
            prefix.truncate(depth);
            return &rest[next..];
        }
        prefix.push(rest[..end].to_owned());
        rest = &rest[end..];
        if let Some(inner) = rest.strip_prefix("::") {
            rest = inner;
            continue;
        }
        found.push(prefix.clone());
        prefix.truncate(depth);
        let rest = rest.trim_start();
        return match rest.strip_prefix("as ") {
            Some(alias) => alias.trim_start().trim_start_matches(is_alias),
            None => rest,
        };
    }
}

fn is_alias(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Follows a path from a module to the deepest module that it names, through re-exports where there are some.
fn target(
    from: &str,
    path: &[String],
    modules: &BTreeMap<String, PathBuf>,
    exports: &Exports,
) -> Option<String> {
    let mut module: Vec<&str> = from.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts = path.iter().map(String::as_str).peekable();
    if parts.next_if_eq(&"crate").is_some() {
        module.clear();
    }
    parts.next_if_eq(&"self");
    while parts.next_if_eq(&"super").is_some() {
        module.pop();
    }
    for part in parts {
        let deeper = [module.as_slice(), &[part]].concat().join("::");
        if modules.contains_key(&deeper) {
            module.push(part);
            continue;
        }
        let here = module.join("::");
        return Some(exports.get(&(here.clone(), part.to_owned())).cloned().unwrap_or(here));
    }
    Some(module.join("::"))
}

/// Names that a module re-exports, and the module that defines each.
type Exports = BTreeMap<(String, String), String>;

fn exports(modules: &BTreeMap<String, PathBuf>) -> Exports {
    let mut exports = Exports::new();
    for (module, path) in modules {
        for statement in code(path).split(';') {
            let Some((visibility, tree)) = statement.split_once("use ") else { continue };
            if !visibility.trim_end().rsplit('\n').next().is_some_and(|line| line.trim().starts_with("pub")) {
                continue;
            }
            let mut found = Vec::new();
            expand(tree, &mut Vec::new(), &mut found);
            for path in found {
                let [parents @ .., name] = path.as_slice() else { continue };
                let parents: Vec<String> = match parents {
                    [first, ..] if ["crate", "super", "self"].contains(&first.as_str()) => parents.to_vec(),
                    _ => [&["self".to_owned()], parents].concat(),
                };
                if let Some(target) = target(module, &parents, modules, &Exports::new())
                    && target != *module
                {
                    exports.insert((module.clone(), name.clone()), target);
                }
            }
        }
    }
    exports
}

/// Returns, for each module, the modules whose items it names.
fn imports(modules: &BTreeMap<String, PathBuf>) -> BTreeMap<String, BTreeSet<String>> {
    let exports = exports(modules);
    let of = |(module, path): (&String, &PathBuf)| {
        let targets =
            paths(&code(path)).into_iter().filter_map(|path| target(module, &path, modules, &exports));
        (module.clone(), targets.filter(|target| target != module).collect())
    };
    modules.iter().map(of).collect()
}

/// Returns the groups of modules of which each reaches each other one.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&String> = imports[from].iter().collect();
        while let Some(module) = next.pop() {
            if reached.insert(module.clone()) {
                next.extend(imports.get(module).into_iter().flatten());
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        imports.keys().map(|from| (from, reached(from))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (from, all) in &reached {
        let circle: Vec<String> = all
            .iter()
            .filter(|to| reached.get(to).is_some_and(|back| back.contains(*from)))
            .cloned()
            .collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let root = root();
    let directories = ["bgp", "routing", "tunnel", "cli", "tests", "fuzz"];
    let files = directories.iter().flat_map(|directory| rust_files(&root.join(directory)));
    let lines = |path: &PathBuf| fs::read_to_string(path).expect("a source file").lines().count();
    let long: Vec<_> =
        files.map(|path| (lines(&path), path)).filter(|(lines, _)| *lines > LONGEST_FILE).collect();
    assert!(long.is_empty(), "look for the second reason to exist: {long:?}");
}

#[test]
fn no_crate_holds_more_than_a_fifth_of_the_product() {
    let of = |directory: &&str| -> usize {
        modules(&root().join(directory).join("src"))
            .values()
            .map(|path| fs::read_to_string(path).expect("a source file").lines().count())
            .sum()
    };
    let lines: BTreeMap<&str, usize> = CRATES.iter().map(|directory| (*directory, of(directory))).collect();
    let all: usize = lines.values().sum();
    println!("{lines:?}, {all} in all");
    for (directory, lines) in lines {
        assert!(lines * 5 <= all, "{directory} has {lines} of {all} lines");
    }
}

#[test]
fn no_circle_of_imports_has_more_than_three_files() {
    let mut large = Vec::new();
    for directory in CRATES {
        for circle in circles(&imports(&modules(&root().join(directory).join("src")))) {
            println!("{directory}: {circle:?}");
            if circle.len() > LARGEST_CIRCLE {
                large.push((directory, circle));
            }
        }
    }
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn a_circle_is_found_through_groups_and_re_exports() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
    write("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::B;\n");
    write("a.rs", "use crate::{B, c::{self, C}};\npub struct A;\n");
    write("b.rs", "use super::a::A;\npub struct B;\n");
    write(
        "c.rs",
        "// crate::a is named in a comment\npub struct C;\n#[cfg(test)]\nmod tests {\n use crate::a;\n}\n",
    );
    let found = circles(&imports(&modules(directory.path())));
    assert_eq!(found, [["a", "b"]]);
}
