//! The direction of dependencies between modules: inwards only.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::root;

/// What each module may name of the crate besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cloud_event", &[]),
    ("dev", &[]),
    ("back_off", &[]),
    ("http_client", &[]),
    ("entra", &["http_client"]),
    ("publish", &["back_off", "entra", "http_client"]),
    ("events", &[]),
    ("sales", &["events"]),
    ("store", &["back_off", "entra", "events", "sales"]),
    ("functions", &["events", "sales", "store"]),
    (
        "engine",
        &[
            "cloud_event",
            "events",
            "functions",
            "publish",
            "sales",
            "store",
        ],
    ),
    (
        "effects",
        &[
            "back_off",
            "engine",
            "events",
            "http_client",
            "publish",
            "sales",
        ],
    ),
    (
        "handler",
        &[
            "cloud_event",
            "engine",
            "events",
            "functions",
            "sales",
            "store",
        ],
    ),
    (
        "simulate",
        &[
            "cloud_event",
            "engine",
            "events",
            "functions",
            "publish",
            "sales",
            "store",
        ],
    ),
    (
        "artifacts",
        &["cloud_event", "events", "functions", "handler"],
    ),
    (
        "package",
        &["artifacts", "cloud_event", "dev", "events", "functions"],
    ),
    ("config", &["entra", "sales", "store"]),
    ("telemetry", &["config"]),
];

/// Words that the pure middle must not know.
const IMPURE: &[&str] = &[
    "async",
    ".await",
    "tokio",
    "axum",
    "reqwest",
    "rusqlite",
    "std::fs",
    "std::env",
    "std::time",
    "Utc::now",
    "rand",
];

/// The source files of a module, with the parts that are tests cut off.
fn sources(module: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let source = root().join("src");
    let file = source.join(module).with_extension("rs");
    files.extend(file.exists().then_some(file));
    collect(&source.join(module), &mut files);
    assert!(!files.is_empty(), "there is no module {module}");
    let read = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .to_owned();
        (path.display().to_string(), code)
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The modules that a text names after `crate::`, in paths and in grouped imports.
fn named(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    for (_, rest) in code
        .match_indices("crate::")
        .map(|(at, found)| code.split_at(at + found.len()))
    {
        let group = rest
            .strip_prefix('{')
            .map_or(rest, |group| group.split("};").next().unwrap_or(group));
        let grouped = rest.starts_with('{');
        let (mut depth, mut start) = (0, true);
        let mut name = String::new();
        for letter in group.chars() {
            match letter {
                'a'..='z' | '_' if start && depth == 0 => name.push(letter),
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 && grouped => {
                    names.insert(std::mem::take(&mut name));
                    start = true;
                    continue;
                }
                ' ' | '\n' if name.is_empty() => continue,
                _ if !grouped => break,
                _ => {}
            }
            start = start && matches!(letter, 'a'..='z' | '_');
        }
        names.insert(name);
    }
    names.remove("");
    names
}

#[test]
fn modules_know_only_what_lies_inside_of_them() {
    for (module, may_use) in MAY_USE {
        for (file, code) in sources(module) {
            for name in named(&code) {
                let known = MAY_USE.iter().any(|(other, _)| *other == name);
                let allowed = name == *module || may_use.contains(&name.as_str()) || !known;
                assert!(
                    allowed,
                    "{file} uses crate::{name}, which lies outside of {module}"
                );
            }
        }
    }
}

/// Whether a line has the word, and not as the beginning of a longer one.
fn says(line: &str, word: &str) -> bool {
    let longer = |rest: &str| rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    line.match_indices(word)
        .any(|(at, _)| !longer(line.split_at(at + word.len()).1))
}

#[test]
fn the_business_is_pure() {
    for (file, code) in sources("sales") {
        for word in IMPURE {
            let found = code
                .lines()
                .find(|line| !line.trim_start().starts_with("//") && says(line, word));
            assert!(found.is_none(), "{file} must not know {word:?}: {found:?}");
        }
    }
}

#[test]
fn the_check_sees_paths_and_groups() {
    let code =
        "use crate::{\n    events::{Amount, Sku},\n    sales,\n};\nlet x = crate::store::Key;";
    assert_eq!(
        named(code),
        BTreeSet::from(["events", "sales", "store"].map(str::to_owned))
    );
}
