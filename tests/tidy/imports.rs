//! Who imports whom: read from the files, and held to two rules. No two files need each other, however far round; and in
//! the runner nothing is imported from a floor above.
//!
//! Outside the runner and its ground, a module's file and the files below it count as one: `vae.rs` and what it is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of `src/`, the lowest first: names of files and folders.
const FLOORS: [&str; 17] = [
    "text", "stderr", "name_map", "action", "cache", "session", "engine", "error", "table", "screen", "cli",
    "run", "ui", "commands", "fuzz", "lib", "main",
];

/// A crate's files by their module paths, `["cache", "results"]`; the crate's own file is the empty path.
type Modules = BTreeMap<Vec<String>, PathBuf>;

/// One import: the importing file, the imported one, and the name as it is written.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    from: PathBuf,
    to: PathBuf,
    name: String,
}

/// The runner's own crate and the two it stands on.
const RUNNER: [&str; 3] = ["src", "crates/store/src", "crates/study/src"];

/// Every breach of the rules in the crate whose `src` folder this is.
pub fn faults(root: &Path, folder: &Path) -> Vec<String> {
    let runner = RUNNER.iter().any(|own| Path::new(own) == folder);
    let imports = imports(&modules(&root.join(folder)), !runner);
    let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let mut faults = Vec::new();
    for circle in circles(&imports) {
        let ties = circle.iter().map(|import| {
            format!("{} imports `{}` from {}", shown(&import.from), import.name, shown(&import.to))
        });
        faults.push(format!("a circle: {}", ties.collect::<Vec<_>>().join(", ")));
    }
    if folder == Path::new(RUNNER[0]) {
        for Import { from, to, name } in &imports {
            let [low, high] =
                [from, to].map(|path| floor(path.strip_prefix(root.join(folder)).unwrap_or(path)));
            if low < high {
                faults.push(format!("upwards: {} imports `{name}` from {}", shown(from), shown(to)));
            }
        }
    }
    faults
}

/// The number of a file's floor.
fn floor(path: &Path) -> usize {
    let first = path.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned());
    let first = first.unwrap_or_default();
    let name = first.strip_suffix(".rs").unwrap_or(&first);
    let place = FLOORS.iter().position(|floor| *floor == name);
    place.unwrap_or_else(|| panic!("{} stands on no floor; give it one in tests/tidy", path.display()))
}

fn modules(src: &Path) -> Modules {
    fn walk(folder: &Path, path: &[String], found: &mut Modules) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if file.is_dir() {
                walk(&file, &[path, &[name]].concat(), found);
            } else if file.extension().is_some_and(|e| e == "rs") && name != "tests" {
                match name.as_str() {
                    "lib" | "main" | "mod" => found.insert(path.to_vec(), file),
                    _ => found.insert([path, &[name]].concat(), file),
                };
            }
        }
    }
    let mut found = Modules::new();
    walk(src, &[], &mut found);
    // A program beside its library is three lines; the library is the crate.
    if src.join("lib.rs").exists() {
        found.insert(Vec::new(), src.join("lib.rs"));
    }
    found
}

/// With `rooms`, the files below a module's file are taken for that file.
fn imports(modules: &Modules, rooms: bool) -> BTreeSet<Import> {
    let room = |path: &[String]| {
        let whole = if rooms { path.len().min(1) } else { path.len() };
        modules.get(&path[..whole]).unwrap_or(&modules[path]).clone()
    };
    let texts: BTreeMap<_, _> =
        modules.iter().map(|(path, file)| (path.clone(), code(&fs::read_to_string(file).unwrap()))).collect();
    let doors: BTreeMap<_, _> = texts.iter().map(|(path, text)| (path.clone(), doors(path, text))).collect();
    let mut found = BTreeSet::new();
    for (path, text) in &texts {
        for name in mentions(path, text) {
            let to = resolve(&name, modules, &doors);
            let (from, to) = (room(path), room(&to));
            if from != to {
                found.insert(Import { from, to, name: name.join("::") });
            }
        }
    }
    found
}

/// The text without comments, literals and the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if c == '"' {
            literal(rest)
        } else if c == '\'' && (rest[1..].starts_with('\\') || rest.chars().nth(2) == Some('\'')) {
            // Not a lifetime. What stands between the marks may be a mark itself, or several bytes.
            let begun: usize = rest.chars().take(2).map(char::len_utf8).sum();
            begun + rest[begun..].find('\'').map_or(0, |at| at + 1)
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

/// The number of `#` of a raw string that begins here.
fn raw(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The length of the literal that begins here.
fn literal(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The `use` statements of a text, as full paths and whether others may use them too; and the text without them.
fn uses(text: &str) -> (Vec<(Vec<String>, bool)>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut open: Option<(String, bool)> = None;
    for line in text.lines() {
        let (tree, public) = match open.take() {
            Some((so_far, public)) => (format!("{so_far} {}", line.trim()), public),
            None => {
                let trimmed = line.trim_start();
                let start = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "].iter();
                let Some(tree) = start.filter_map(|start| trimmed.strip_prefix(start)).next() else {
                    rest += line;
                    rest.push('\n');
                    continue;
                };
                (tree.to_string(), trimmed.starts_with("pub"))
            }
        };
        match tree.split_once(';') {
            Some((tree, _)) => expand(tree, &[], &mut |path| found.push((path, public))),
            None => open = Some((tree, public)),
        }
    }
    (found, rest)
}

/// Calls `each` with every path of a use tree.
fn expand(tree: &str, before: &[String], each: &mut dyn FnMut(Vec<String>)) {
    let tree = tree.trim();
    if let Some(inside) = tree.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        let (mut depth, mut start) = (0, 0);
        for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !inside[start..at].trim().is_empty() {
                        expand(&inside[start..at], before, each);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return;
    }
    match tree.split_once("::").filter(|(head, _)| !head.contains('{')) {
        Some((head, rest)) => expand(rest, &[before, &[head.trim().to_string()]].concat(), each),
        None => {
            let name = tree.split(" as ").next().unwrap_or_default().trim();
            each(if name == "self" { before.to_vec() } else { [before, &[name.to_string()]].concat() });
        }
    }
}

/// A path as the crate sees it, or `None` when it leads to another crate. `here` is the module it is written in.
fn absolute(path: &[String], here: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([here, rest].concat()),
        "super" => {
            let above = &here[..here.len().checked_sub(1)?];
            match rest.first() {
                Some(word) if word == "super" => absolute(rest, above, children),
                _ => Some([above, rest].concat()),
            }
        }
        name if children.contains(name) => Some([here, path].concat()),
        _ => None,
    }
}

/// The modules that a file declares.
fn children(text: &str) -> BTreeSet<String> {
    let mods = text.lines().filter_map(|line| {
        let line = line.trim();
        let rest = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
        rest.strip_prefix("mod ")?.strip_suffix(';').map(str::to_string)
    });
    mods.collect()
}

/// Names that a file passes on (`pub use`), with the paths they come from.
fn doors(path: &[String], text: &str) -> BTreeMap<String, Vec<String>> {
    let children = children(text);
    let public = uses(text).0.into_iter().filter(|(_, public)| *public);
    let absolute = public.filter_map(|(used, _)| absolute(&used, path, &children));
    absolute.filter_map(|used| Some((used.last()?.clone(), used))).collect()
}

/// Everything of its own crate that a file names.
fn mentions(path: &[String], text: &str) -> BTreeSet<Vec<String>> {
    let children = children(text);
    let (used, rest) = uses(text);
    let mut found: BTreeSet<Vec<String>> =
        used.iter().filter_map(|(used, _)| absolute(used, path, &children)).collect();
    // Qualified paths in the code itself; a macro's `$crate` is for those who call it.
    let rest = rest.replace("$crate", "");
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for token in rest.split(|c: char| !word(c)) {
        let parts: Vec<String> = token.split("::").map(String::from).collect();
        if parts.len() > 1 && parts.iter().all(|part| !part.is_empty()) {
            found.extend(absolute(&parts, path, &children));
        }
    }
    found
}

/// The module in which a name is defined, through the doors on the way.
fn resolve(
    name: &[String],
    modules: &Modules,
    doors: &BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
) -> Vec<String> {
    let deepest = (0..=name.len()).rev().find(|n| modules.contains_key(&name[..*n])).unwrap_or(0);
    let module = name[..deepest].to_vec();
    let Some(next) = name.get(deepest) else { return module };
    match doors.get(&module).and_then(|passed| passed.get(next)) {
        Some(behind) if behind != name => resolve(behind, modules, doors),
        _ => module,
    }
}

/// The circles among imports: of each knot of files that need each other, one way round.
fn circles(imports: &BTreeSet<Import>) -> Vec<Vec<&Import>> {
    let mut next: BTreeMap<&Path, Vec<&Import>> = BTreeMap::new();
    for import in imports {
        next.entry(&import.from).or_default().push(import);
    }
    let mut circles = Vec::new();
    let mut known: BTreeSet<&Path> = BTreeSet::new();
    for start in next.keys() {
        if known.contains(start) {
            continue;
        }
        // The shortest way from the file back to itself.
        let mut reached: BTreeMap<&Path, Vec<&Import>> = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([(*start, Vec::new())]);
        while let Some((file, way)) = open.pop_front() {
            for import in next.get(file).into_iter().flatten() {
                let to = import.to.as_path();
                if !reached.contains_key(to) {
                    let way = [way.as_slice(), &[*import]].concat();
                    reached.insert(to, way.clone());
                    open.push_back((to, way));
                }
            }
        }
        if let Some(circle) = reached.remove(*start) {
            known.extend(circle.iter().map(|import| import.from.as_path()));
            circles.push(circle);
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a runner of these files.
    fn tree(files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join("src").join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        faults(root.path(), Path::new("src"))
    }

    #[test]
    fn a_house_in_order_has_no_faults() {
        let files = [
            ("lib.rs", "mod text;\nmod cache;\nmod run;\nfn main() { run::go() }\n"),
            ("text.rs", "// use crate::run::go;\npub fn size() -> &'static str { \"crate::run::go\" }\n"),
            ("cache/mod.rs", "mod runs;\nmod sweep;\npub use runs::Run;\n"),
            ("cache/runs.rs", "pub struct Run;\n"),
            // Through the door of its folder, which leads to another file and not back.
            ("cache/sweep.rs", "use crate::cache::{Run};\n"),
            (
                "run/mod.rs",
                "use crate::{cache::Run, text};\n#[cfg(test)]\nmod tests { use crate::lib::x; }\n",
            ),
        ];
        assert_eq!(tree(&files), Vec::<String>::new());
    }

    #[test]
    fn an_import_upwards_is_told_with_both_files_and_the_name() {
        let qualified = [
            ("text.rs", "fn f(bytes: u64) -> String { crate::commands::size(bytes) }\n"),
            ("commands/mod.rs", "pub fn size(_: u64) -> String { String::new() }\n"),
        ];
        assert_eq!(
            tree(&qualified),
            ["upwards: src/text.rs imports `commands::size` from src/commands/mod.rs"]
        );
        let used = [
            ("cache/archive.rs", "use crate::{\n    run::{self, report::Report},\n};\n"),
            ("run/mod.rs", "pub mod report;\n"),
            ("run/report.rs", "pub struct Report;\n"),
        ];
        assert_eq!(
            tree(&used),
            [
                "upwards: src/cache/archive.rs imports `run` from src/run/mod.rs",
                "upwards: src/cache/archive.rs imports `run::report::Report` from src/run/report.rs",
            ]
        );
    }

    #[test]
    fn a_circle_is_told_with_its_files_and_names() {
        let files = [
            ("engine/mod.rs", "mod local;\npub trait Engine {}\nfn of() -> local::Local { local::Local }\n"),
            ("engine/local.rs", "pub struct Local;\nimpl super::Engine for Local {}\n"),
        ];
        assert_eq!(
            tree(&files),
            ["a circle: src/engine/local.rs imports `engine::Engine` from src/engine/mod.rs, \
              src/engine/mod.rs imports `engine::local::Local` from src/engine/local.rs"]
        );
        let three = [
            ("cache/a.rs", "use super::b::B;\npub struct A(B);\n"),
            ("cache/b.rs", "use super::c::C;\npub struct B(C);\n"),
            ("cache/c.rs", "use super::a::A;\npub struct C(Box<A>);\n"),
            ("cache/mod.rs", "mod a;\nmod b;\nmod c;\n"),
        ];
        assert_eq!(tree(&three).len(), 1);
    }

    #[test]
    #[should_panic(expected = "stands on no floor")]
    fn a_folder_without_a_floor_is_refused() {
        tree(&[("attic/mod.rs", "use crate::text;\n"), ("text.rs", "")]);
    }
}
