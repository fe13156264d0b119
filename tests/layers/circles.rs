//! Circles of imports between the files of a crate.
//!
//! A file depends on another one when it names something that is defined there. A re-export is followed to the file of its
//! definition, so a `mod.rs` that only declares and re-exports depends on nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::paths;

type Module = Vec<String>;

/// The circles, each as a line that names its files.
pub(crate) fn of(files: &[(Module, String)]) -> Vec<String> {
    // Tests may import anything, whether they are in the file that they test or in one of their own.
    let files: Vec<(Module, String)> = files
        .iter()
        .filter(|(module, _)| module.last().is_none_or(|last| last != "tests"))
        .map(|(module, text)| (module.clone(), without_tests(text)))
        .collect();
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let exports = exports(&files);
    let mut edges = BTreeMap::<&Module, BTreeSet<Module>>::new();
    for (module, text) in &files {
        let text = without_re_exports(text);
        for path in named(module, &text) {
            if path.is_ours {
                let target = home(&path.segments, &modules, &exports);
                if target.as_ref().is_some_and(|target| target != module) {
                    edges.entry(module).or_default().extend(target);
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    for start in &modules {
        if let Some(mut circle) = circle_through(start, &edges) {
            circle.sort();
            found.insert(circle.join(", "));
        }
    }
    found.into_iter().collect()
}

/// The paths in a file. Those that begin with a child module lead into this crate too, as in `use a::A` in the file that
/// declares `mod a`.
fn named(module: &Module, text: &str) -> Vec<paths::Named> {
    let declared: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect();
    let mut named = paths::of(module, text);
    for path in named.iter_mut().filter(|path| !path.is_ours) {
        if path.segments.first().is_some_and(|first| declared.contains(&first.as_str())) {
            path.is_ours = true;
            path.segments.splice(0..0, module.iter().cloned());
        }
    }
    named
}

/// For each module, the paths that its re-exports lead to, by name.
fn exports(files: &[(Module, String)]) -> BTreeMap<Module, BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    for (module, text) in files {
        let only: String = re_exports(text).collect();
        let mut names = BTreeMap::new();
        let text = format!(
            "{}\n{only}",
            text.lines().filter(|line| line.contains("mod ")).collect::<Vec<_>>().join("\n")
        );
        for path in named(module, &text) {
            if let (true, Some(name)) = (path.is_ours, path.segments.last()) {
                names.insert(name.clone(), path.segments.clone());
            }
        }
        all.insert(module.clone(), names);
    }
    all
}

/// The file that defines what a path names.
fn home(
    path: &[String],
    modules: &BTreeSet<&Module>,
    exports: &BTreeMap<Module, BTreeMap<String, Vec<String>>>,
) -> Option<Module> {
    let mut path = path.to_vec();
    for _ in 0..8 {
        let length = (0..=path.len())
            .rev()
            .find(|length| path.get(..*length).is_some_and(|path| modules.contains(&path.to_vec())))?;
        let module = path.get(..length)?.to_vec();
        let Some(next) = path.get(length).and_then(|name| exports.get(&module)?.get(name)) else {
            return (length > 0).then_some(module);
        };
        if *next == path {
            return Some(module);
        }
        path = next.iter().chain(path.iter().skip(length + 1)).cloned().collect();
    }
    None
}

fn circle_through(start: &Module, edges: &BTreeMap<&Module, BTreeSet<Module>>) -> Option<Vec<String>> {
    // Breadth first, so that the shortest circle is reported.
    let mut queue = std::collections::VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(trail) = queue.pop_front() {
        for next in edges.get(trail.last()?).into_iter().flatten() {
            if next == start {
                return Some(trail.iter().map(|module| module.join("::")).collect());
            }
            if seen.insert(next.clone()) {
                queue.push_back(trail.iter().cloned().chain([next.clone()]).collect());
            }
        }
    }
    None
}

/// The `pub use` items of a file.
fn re_exports(text: &str) -> impl Iterator<Item = String> + '_ {
    items(text).filter(|(is_re_export, _)| *is_re_export).map(|(_, item)| format!("{item}\n"))
}

fn without_re_exports(text: &str) -> String {
    items(text).filter(|(is_re_export, _)| !is_re_export).map(|(_, item)| format!("{item}\n")).collect()
}

/// The lines of a file, with each `pub use` item as one.
fn items(text: &str) -> impl Iterator<Item = (bool, String)> + '_ {
    let mut lines = text.split_inclusive(['\n', ';']);
    std::iter::from_fn(move || {
        let first = lines.next()?;
        let start = first.trim_start();
        let visibility =
            start.strip_prefix("pub").map(|rest| rest.split_once(' ').map_or("", |(_, rest)| rest));
        let is_re_export = start.starts_with("pub")
            && visibility.is_some_and(|rest| rest.starts_with("use "))
            || start.starts_with("pub(in") && start.contains(") use ");
        let mut item = first.to_owned();
        while is_re_export && !item.trim_end().ends_with(';') {
            item.push_str(lines.next()?);
        }
        Some((is_re_export, item))
    })
}

/// The text up to its tests, which may import whatever they test. `pub(in …)` is no import.
fn without_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.replace("pub(in crate::", "pub(in ").replace("pub(in super::super)", "pub(super)")
}
