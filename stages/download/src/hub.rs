//! The Hugging Face Hub: every file is held to the size and digest that the Hub states before it counts.

mod faults;
mod repository;

use crate::arguments::{ANY, Args};
use crate::cache::Kind;
use crate::normalise::{lay_out, take};
use anyhow::{Context as _, Result};
use pictures::Dataset;
use pictures::dataset::Part;
use repository::Hub;
use stage::{Context, Staged, bad_input, sha256};
use std::path::{Path, PathBuf};

/// Fetches the Parquet files of a dataset and lays them out.
pub fn dataset(name: &str, images: &Path, args: &Args, context: &Context) -> Result<()> {
    let selection = args.selection(format!("dataset {name}"));
    let hub = Hub::open(name, Kind::Dataset, args, context)?;
    let parquet: Vec<PathBuf> =
        hub.files.iter().filter(|f| f.ends_with(".parquet")).map(PathBuf::from).collect();
    if parquet.is_empty() {
        bad_input!(
            "dataset {name}: no Parquet files at revision {}; try --revision refs/convert/parquet",
            args.revision
        )
    }
    let part = Part::choose(parquet, &selection).with_context(|| format!("dataset {name}"))?;
    let mut names: Vec<String> = part.files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    names.sort();
    let paths = hub.fetch(&names, args.connections, images, context)?;
    let mut dataset =
        Dataset::tables(paths.into_iter().zip(names).collect(), Vec::new(), &selection, &|| {
            context.check_stop()
        })?;
    if let (Some(split), true) =
        (&part.split, dataset.classes.as_ref().is_some_and(pictures::Classes::by_name))
        && !part.others.is_empty()
    {
        dataset.notes.push(format!("classes are numbered by the labels of the split {split} alone"));
    }
    dataset.notes.extend(part.notes);
    lay_out(images, name, Some(hub.commit.clone()), &dataset, true, args, context)
}

/// Fetches one file of a model.
pub fn file(model: &str, file: &str, weights: &Path, args: &Args, context: &Context) -> Result<()> {
    let hub = Hub::open(model, Kind::Model, args, context)?;
    if !hub.files.iter().any(|f| f == file) {
        let near = stage::nearest(file, hub.files.iter().map(String::as_str));
        let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        bad_input!("model {model}: no file {file}{hint}")
    }
    if weights.exists() {
        if !hub.is_file(file, weights, context)? {
            bad_input!(
                "--weights {}: a file that is not {model}/{file} as the Hub has it; name another place, or move it away",
                weights.display()
            )
        }
        context.message(&format!("{} is there already", weights.display()));
        return Ok(());
    }
    let fetched = hub.fetch(&[file.to_string()], 1, weights, context)?;
    if let Some(wanted) = args.sha256.as_ref().filter(|wanted| *wanted != ANY) {
        let found = sha256(&fetched[0])?;
        if !found.eq_ignore_ascii_case(wanted) {
            bad_input!("model {model}: SHA-256 of {file} is {found}, --sha256 wants {wanted}")
        }
    }
    let staged = Staged::file(weights)?;
    take(&fetched[0], staged.path(), true, context)?;
    context.message(&format!("{model}/{file} at commit {}", hub.commit));
    staged.commit()
}
