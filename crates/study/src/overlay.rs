//! Studies made of studies: `extends`, `profiles`, `variants`, `matrix`, `seeds` and `vars`, all before anything is resolved.

use crate::error::{Error, Result, hint};
use crate::mark::Mark;
use crate::matrix::{Overlay, SEED, combinations, seeded};
use crate::naming;
use crate::text;
use crate::tree::{self, Node, Value, get, keys, pairs, put, take};
use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A variant: its name (empty for the study as it stands) and its tree, variables filled in.
pub struct Variant {
    pub name: String,
    pub tree: Node,
    /// The stages of which it changes something itself, and where.
    pub changes: Vec<(String, Mark)>,
}

/// Reads the study in `path` with everything it extends, applies the profile and the variables given by hand, and
/// returns the study as it stands, followed by its variants.
pub fn read(path: &Path, profile: Option<&str>, vars: &[(String, String)]) -> Result<Vec<Variant>> {
    let mut base = extended(path, path, &mut Vec::new())?;
    let profiles = take(&mut base, "profiles");
    if let Some(name) = profile {
        let overlay = profiles.as_ref().and_then(|p| get(p, name)).cloned();
        let Some(overlay) = overlay else {
            let near = hint(name, profiles.iter().flat_map(keys));
            return Err(Error::NoProfile { name: name.into(), near });
        };
        apply_overlay(&mut base, overlay);
    }
    let variants = take(&mut base, "variants");
    let matrix = take(&mut base, "matrix");
    let seeds = take(&mut base, "seeds").filter(|seeds| seeds.value != Value::Null);
    let study = get(&base, "name").and_then(Node::as_text).unwrap_or_default().to_string();
    let mut overlays: Vec<Overlay> = vec![(String::new(), base.mark.clone(), None)];
    if let Some(variants) = &variants {
        for (key, overlay) in pairs(variants, "variants are names with what each changes")? {
            let name = key.as_text().unwrap_or_default();
            overlays.push((name.to_string(), key.mark.clone(), Some(overlay.clone())));
        }
    }
    if let Some(matrix) = &matrix {
        overlays.extend(combinations(matrix, &study)?);
    }
    if let Some(seeds) = &seeds {
        if let Some((name, value)) = vars.iter().find(|(name, _)| name == SEED) {
            let mark = Mark { file: Arc::from(format!("--set vars.{name}={value}")), line: 0 };
            let text = "the study has `seeds`, which decide this; select one with --variant NAME-seed-N";
            return Err(Error::mistake(&mark, text));
        }
        overlays = seeded(&mut base, overlays, seeds, &study)?;
    }
    overlays[1..].iter().try_for_each(|(name, mark, _)| naming::variant(name, mark))?;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let mut declared: HashSet<String> = HashSet::new();
    let mut stages: HashSet<String> = HashSet::new();
    let mut marks = Vec::new();
    for (name, mark, overlay) in overlays {
        if !seen.insert(name.clone()) {
            return Err(Error::mistake(&mark, format!("two variants are called `{name}`")));
        }
        let mut tree = base.clone();
        let mut changes = Vec::new();
        if let Some(overlay) = overlay {
            let stages =
                get(&overlay, "stages").map(|stages| pairs(stages, "")).transpose()?.unwrap_or_default();
            changes.extend(stages.iter().filter_map(|(k, v)| Some((k.as_text()?.into(), v.mark.clone()))));
            merge(&mut tree, &overlay);
        }
        declared.extend(get(&tree, "vars").into_iter().flat_map(keys).map(str::to_string));
        stages.extend(get(&tree, "stages").into_iter().flat_map(keys).map(str::to_string));
        for (name, value) in vars {
            let mark = Mark { file: Arc::from(format!("--set vars.{name}={value}")), line: 0 };
            put(&mut tree, &["vars", name], Node::text(&mark, value));
        }
        fill(&mut tree)?;
        marks.push(mark);
        all.push(Variant { name, tree, changes });
    }
    for (variant, mark) in all.iter().zip(&marks).skip(1) {
        naming::apart(&variant.name, mark, stages.iter())?;
    }
    if let Some((name, value)) = vars.iter().find(|(name, _)| !declared.contains(name)) {
        let mark = Mark { file: Arc::from(format!("--set vars.{name}={value}")), line: 0 };
        let near = hint(name, declared.iter().map(String::as_str));
        return Err(Error::mistake(&mark, format!("the study has no variable `{name}`{near}")));
    }
    Ok(all)
}

/// The tree of a file over the trees of the files that it extends.
fn extended(path: &Path, shown: &Path, above: &mut Vec<PathBuf>) -> Result<Node> {
    let text = text::read(path, shown).map_err(|e| match e {
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => Error::NoStudy(shown.into()),
        e => e,
    })?;
    let mut node = tree::parse(&Arc::from(shown.display().to_string()), &text)?;
    let Some(extends) = take(&mut node, "extends") else { return Ok(node) };
    let real =
        path.canonicalize().map_err(|e| Error::Io { verb: "finding", path: path.into(), source: e })?;
    if above.contains(&real) {
        return Err(Error::mistake(&extends.mark, "the study extends itself"));
    }
    above.push(real);
    let Some(name) = extends.as_text() else {
        return Err(Error::mistake(&extends.mark, "`extends` is the path of a study"));
    };
    let base_path = path.parent().unwrap_or(Path::new(".")).join(name);
    let base_shown = shown.parent().unwrap_or(Path::new(".")).join(name);
    if !base_path.is_file() {
        return Err(Error::mistake(&extends.mark, format!("no such study: {name}")));
    }
    let mut base = extended(&base_path, &base_shown, above)?;
    apply_overlay(&mut base, node);
    above.pop();
    Ok(base)
}

/// Puts a file or a profile over a study that still has its profiles and variants.
fn apply_overlay(base: &mut Node, mut over: Node) {
    for section in ["profiles", "variants"] {
        let Some(new) = take(&mut over, section) else { continue };
        let old = take(base, section);
        if new.value != Value::Null {
            put(base, &[section], stacked(old, new));
        }
    }
    merge(base, &over);
}

/// Puts `over` over `base`: mappings key by key, everything else as a whole; `~` takes a key away.
pub fn merge(base: &mut Node, over: &Node) {
    let (Value::Map(old), Value::Map(new)) = (&mut base.value, &over.value) else {
        *base = over.clone();
        return;
    };
    for (key, value) in new {
        let at = old.iter().position(|(k, _)| k.as_text() == key.as_text());
        match (at, &value.value) {
            (Some(at), Value::Null) => drop(old.remove(at)),
            (Some(at), _) => merge(&mut old[at].1, value),
            // There is nothing to take away.
            (None, Value::Null) => {}
            (None, _) => old.push((key.clone(), without_nulls(value))),
        }
    }
    base.mark = over.mark.clone();
}

/// The profiles or variants of a file over those of the file that it extends: overlays of the same name become one.
fn stacked(under: Option<Node>, over: Node) -> Node {
    let Some(mut all) = under else { return over };
    let (Value::Map(old), Value::Map(new)) = (&mut all.value, &over.value) else { return over };
    for (name, overlay) in new {
        match (old.iter().position(|(n, _)| n.as_text() == name.as_text()), &overlay.value) {
            (Some(at), Value::Null) => drop(old.remove(at)),
            (Some(at), _) => compose(&mut old[at].1, overlay),
            (None, _) => old.push((name.clone(), overlay.clone())),
        }
    }
    all
}

/// Makes one overlay of two, to do what the first and then the second does: a `~` stays, for the study has the key.
fn compose(first: &mut Node, second: &Node) {
    let (Value::Map(old), Value::Map(new)) = (&mut first.value, &second.value) else {
        *first = second.clone();
        return;
    };
    for (key, value) in new {
        match old.iter().position(|(k, _)| k.as_text() == key.as_text()) {
            Some(at) => compose(&mut old[at].1, value),
            None => old.push((key.clone(), value.clone())),
        }
    }
}

/// A value without the keys that were only to be taken away.
fn without_nulls(node: &Node) -> Node {
    let mut node = node.clone();
    if let Value::Map(pairs) = &mut node.value {
        pairs.retain(|(_, value)| value.value != Value::Null);
        pairs.iter_mut().for_each(|(_, value)| *value = without_nulls(value));
    }
    node
}

/// Fills `${vars.x}` in all texts of the study, and takes the variables away.
fn fill(tree: &mut Node) -> Result<()> {
    let Some(vars) = take(tree, "vars") else { return fill_in(tree, &[]) };
    let mut known = Vec::new();
    for (name, value) in pairs(&vars, "`vars` are names with values")? {
        let (Some(name), Some(text)) = (name.as_text(), value.as_text()) else {
            return Err(Error::mistake(&value.mark, "a variable is one word or number"));
        };
        known.push((name.to_string(), text.to_string()));
    }
    fill_in(tree, &known)
}

fn fill_in(node: &mut Node, vars: &[(String, String)]) -> Result<()> {
    match &mut node.value {
        Value::Null => Ok(()),
        Value::List(items) => items.iter_mut().try_for_each(|item| fill_in(item, vars)),
        Value::Map(pairs) => pairs.iter_mut().try_for_each(|(_, value)| fill_in(value, vars)),
        Value::Scalar(text, _) => {
            let mut rest = text.as_str();
            let mut filled = String::new();
            while let Some(at) = rest.find("${vars.") {
                let (before, after) = rest.split_at(at);
                let Some((name, after)) = after["${vars.".len()..].split_once('}') else { break };
                if before.ends_with('$') {
                    // `$${vars.x}` stays what it says.
                    filled += &format!("{before}{{vars.{name}}}");
                    rest = after;
                    continue;
                }
                let Some((_, value)) = vars.iter().find(|(n, _)| n == name) else {
                    let near = hint(name, vars.iter().map(|(n, _)| n.as_str()));
                    return Err(Error::mistake(&node.mark, format!("there is no variable `{name}`{near}")));
                };
                filled += before;
                filled += value;
                rest = after;
            }
            filled += rest;
            *text = filled;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variants(text: &str) -> Result<Vec<Variant>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path, None, &[])
    }

    fn at<'a>(node: &'a Node, path: &str) -> Option<&'a str> {
        path.split('.').try_fold(node, get)?.as_text()
    }

    #[test]
    fn what_an_overlay_takes_away_may_be_in_a_study_below() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "a.yaml",
            "s: {x: 1, y: 2, z: 3}\nprofiles: {p: {s: {x: 4, w: 5}}, q: {}}\nvariants: {u: {}, v: {}}\n",
        );
        // `y` is in no profile yet, and `x` both in the study and in its profile.
        write(
            "b.yaml",
            "extends: a.yaml\nprofiles: {p: {s: {y: ~, x: ~}, variants: {v: {s: {z: ~}}}}, q: ~}\nvariants: {u: ~}\n",
        );
        let all = read(&dir.path().join("b.yaml"), Some("p"), &[]).unwrap();
        let told =
            |tree: &Node| ["x", "y", "z", "w"].map(|k| at(tree, &format!("s.{k}")).map(str::to_string));
        let some = |text: &str| Some(text.to_string());
        assert_eq!(all.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["", "v"]);
        assert_eq!(told(&all[0].tree), [None, None, some("3"), some("5")]);
        assert_eq!(told(&all[1].tree), [None, None, None, some("5")]);
        assert!(read(&dir.path().join("b.yaml"), Some("q"), &[]).is_err());
    }

    #[test]
    fn a_matrix_is_every_combination() {
        let all = variants("vars: {m: z}\nmatrix: {vars.m: [a, b], s.n: [1, 2]}\nx: v-${vars.m}\n").unwrap();
        let names: Vec<_> = all.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["", "a-1", "a-2", "b-1", "b-2"]);
        assert_eq!(at(&all[0].tree, "x"), Some("v-z"));
        assert_eq!(at(&all[4].tree, "x"), Some("v-b"));
        assert_eq!(at(&all[4].tree, "stages.s.params.n"), Some("2"));
    }

    #[test]
    fn overlays_merge_key_by_key() {
        let all =
            variants("a: {x: 1, y: 2}\nl: [1, 2]\nvariants:\n  v: {a: {y: ~, z: 3}, l: [4]}\n").unwrap();
        let tree = &all[1].tree;
        assert_eq!((at(tree, "a.x"), at(tree, "a.y"), at(tree, "a.z")), (Some("1"), None, Some("3")));
        let absent = variants("a: {x: 1}\nvariants:\n  v: {b: ~, c: {d: ~, e: {f: ~, g: 1}}}\n").unwrap();
        let Value::Map(pairs) = &absent[1].tree.value else { panic!() };
        assert_eq!(pairs.len(), 2);
        assert_eq!(at(&absent[1].tree, "c.e.g"), Some("1"));
        assert!(get(get(&absent[1].tree, "c").unwrap(), "d").is_none());
        assert!(matches!(&get(tree, "l").unwrap().value, Value::List(items) if items.len() == 1));
    }

    #[test]
    fn mistakes_have_their_lines() {
        let error = |text: &str| variants(text).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error("vars: {model: a}\nx: ${vars.mode}")
                .ends_with("s.yaml:2: there is no variable `mode`; did you mean `model`?")
        );
        assert!(error("extends: none.yaml").ends_with("s.yaml:1: no such study: none.yaml"));
        assert!(error("extends: s.yaml").ends_with("the study extends itself"));
        assert!(error("matrix: {x: [1]}").ends_with("`x` is neither stage.param nor vars.name"));
    }
}
