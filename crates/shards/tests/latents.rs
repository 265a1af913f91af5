//! Writing, opening and loading latents, and what happens when a byte is not what it was.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

use half::f16;
use rng::Stream;
use shards::{Latents, LatentsMetadata, Loader, Residence, Rows, ShardWriter, write_manifest};
use std::collections::BTreeMap;
use std::path::Path;

const CLASSES: usize = 7;

fn about(flipped: bool) -> LatentsMetadata {
    LatentsMetadata {
        shape: [2, 3, 5],
        dtype: "float16".into(),
        scale: 0.5,
        shift: 0.0,
        channels: None,
        vae: "0123".into(),
        classes: CLASSES,
        class_names: Vec::new(),
        image_size: 24,
        flipped,
    }
}

/// The row's number in the mean, so that it can be told; std 0.25 where `noisy`.
fn write(folder: &Path, shards: &[&[usize]], flipped: bool, noisy: bool) {
    let about = about(flipped);
    let mut row = 0;
    let mut entries = Vec::new();
    for (i, groups) in shards.iter().enumerate() {
        let mut writer = ShardWriter::create(&folder.join(format!("{i:05}.parquet")), &about).unwrap();
        for &rows in *groups {
            let range = row..row + rows;
            row += rows;
            let fill = |f: &dyn Fn(usize) -> f32| -> Vec<f16> {
                range.clone().flat_map(|r| vec![f16::from_f32(f(r)); about.numel()]).collect()
            };
            let std = fill(&|_| if noisy { 0.25 } else { 0.0 });
            writer
                .write(Rows {
                    mean: fill(&|r| r as f32),
                    mean_flipped: if flipped { fill(&|r| -(r as f32)) } else { Vec::new() },
                    std_flipped: if flipped { std.clone() } else { Vec::new() },
                    std,
                    label: range.clone().map(|r| (r % CLASSES) as i64).collect(),
                    source: range.clone().map(|r| format!("{r}.png")).collect(),
                })
                .unwrap();
        }
        entries.push(writer.finish().unwrap());
    }
    write_manifest(folder, &about, entries).unwrap();
}

/// Another file in the place of one that may still be mapped.
fn replace(path: &Path, bytes: &[u8]) {
    let other = path.with_extension("other");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(&other, path).unwrap();
}

#[test]
fn rows_come_back_and_the_bytes_are_the_same_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for folder in [&a, &b] {
        std::fs::create_dir(folder).unwrap();
        write(folder, &[&[4, 4, 1], &[3]], true, true);
    }
    for name in ["manifest.json", "00000.parquet", "00001.parquet"] {
        assert_eq!(std::fs::read(a.join(name)).unwrap(), std::fs::read(b.join(name)).unwrap(), "{name}");
    }
    let latents = Latents::open(&a).unwrap();
    latents.verify().unwrap();
    assert_eq!((latents.len(), latents.shape(), latents.classes()), (12, [2, 3, 5], CLASSES));
    for row in 0..12 {
        let read = latents.row(row, false).unwrap();
        assert_eq!((read.mean, read.label), (vec![row as f32; 30], (row % CLASSES) as i64));
        assert_eq!(read.std, vec![0.25; 30]);
        assert_eq!(latents.row(row, true).unwrap().mean, vec![-(row as f32); 30]);
    }
}

#[test]
fn every_epoch_visits_every_row_once_and_steps_stand_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[&[8, 8, 8], &[8, 5]], false, false);
    let latents = Latents::open(dir.path()).unwrap();
    let rows = latents.len();
    let loader = Loader::new(&latents, 5, 3).unwrap();
    let visited = |step: usize| -> Vec<usize> {
        let batch = loader.batch(step).unwrap();
        let rows: Vec<usize> = batch.latents.chunks(30).map(|l| (l[0] / 0.5) as usize).collect();
        let labels: Vec<i64> = rows.iter().map(|r| (r % CLASSES) as i64).collect();
        assert_eq!(labels, batch.labels);
        rows
    };
    // 37 rows: 37 batches of 5 are five whole epochs.
    let order: Vec<usize> = (0..rows).flat_map(visited).collect();
    for epoch in order.chunks(rows) {
        let mut epoch = epoch.to_vec();
        assert!(!epoch.is_sorted());
        epoch.sort_unstable();
        assert_eq!(epoch, (0..rows).collect::<Vec<_>>());
    }
    assert_ne!(order[..rows], order[rows..2 * rows]);
    // Any step, in any order, from another loader.
    for step in [30, 2, 3, 17] {
        assert_eq!(visited(step), order[5 * step..5 * step + 5]);
    }
    assert_ne!(Loader::new(&latents, 5, 4).unwrap().batch(0).unwrap(), loader.batch(0).unwrap());

    // Two ranks of batch 5 together see what one of batch 10 sees.
    let whole = Loader::new(&latents, 10, 3).unwrap();
    for step in 0..4 {
        let halves: Vec<f32> = (0..2)
            .flat_map(|r| Loader::for_rank(&latents, 5, 3, r, 2).unwrap().batch(step).unwrap().latents)
            .collect();
        assert_eq!(halves, whole.batch(step).unwrap().latents);
    }
}

#[test]
fn every_visit_has_its_own_noise_and_flip() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[&[1]], true, true);
    let loader = Loader::new(&Latents::open(dir.path()).unwrap(), 64, 0).unwrap();
    let mut values = Vec::new();
    let first = loader.batch(0).unwrap();
    for step in 0..200 {
        values.extend(loader.batch(step).unwrap().latents);
    }
    assert_eq!(first.latents, loader.batch(0).unwrap().latents);
    // The only row has mean 0 either way, so scale * std * noise is left.
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / n;
    assert!(mean.abs() < 1e-3 && (variance.sqrt() / 0.125 - 1.0).abs() < 0.01, "{mean} {variance}");

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[&[9]], true, false);
    let loader = Loader::new(&Latents::open(dir.path()).unwrap(), 9, 0).unwrap();
    let mut flips: BTreeMap<i64, usize> = BTreeMap::new();
    for step in 0..1000 {
        for sample in loader.batch(step).unwrap().latents.chunks(30) {
            *flips.entry((sample[0] / 0.5) as i64).or_default() += 1;
        }
    }
    for row in 1..9 {
        assert_eq!(flips[&row] + flips[&-row], 1000);
        assert!((420..580).contains(&flips[&row]), "{flips:?}");
    }
}

#[test]
fn batches_are_the_same_wherever_the_latents_stay() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[&[8, 8], &[8, 5]], true, true);
    let open = || Latents::open(dir.path()).unwrap();
    let disk = Loader::new(&open().reside(Residence::Disk, 1).unwrap(), 7, 3).unwrap();
    let kept = open().reside(Residence::Memory, 1).unwrap();
    let memory = Loader::new(&kept, 7, 3).unwrap();
    // Over several epochs, with steps left out, and again from the beginning.
    for step in (0..20).chain([40, 41, 0]) {
        assert_eq!(disk.batch(step).unwrap(), memory.batch(step).unwrap(), "step {step}");
    }
    let path = dir.path().join("00001.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    replace(&path, &bytes);
    let error = open().reside(Residence::Memory, 1).err().unwrap();
    assert_eq!(stage::exit_code(&error), 2);
    assert!(format!("{error:#}").contains("00001.parquet: row group 0 (of 2)"), "{error:#}");
    // What is in memory is not read again.
    kept.verify().unwrap();
    assert_eq!(memory.batch(5).unwrap().latents.len(), 7 * 30);
}

#[test]
fn any_changed_byte_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[&[4, 4], &[4]], false, true);
    let path = dir.path().join("00001.parquet");
    let sound = std::fs::read(&path).unwrap();
    let open = || -> anyhow::Result<()> {
        let latents = Latents::open(dir.path())?;
        let loader = Loader::new(&latents, 4, 0)?;
        (0..3).try_for_each(|step| loader.batch(step).map(drop))
    };
    open().unwrap();
    let mut stream = Stream::new(0, "corrupt", 0);
    for _ in 0..60 {
        let mut bytes = sound.clone();
        let at = stream.below(sound.len() as u64) as usize;
        bytes[at] ^= 1 << stream.below(8);
        replace(&path, &bytes);
        let error = open().unwrap_err();
        let text = format!("{error:#}");
        assert_eq!(stage::exit_code(&error), 2, "{text}");
        assert!(text.contains("00001.parquet") && !text.contains('\n'), "byte {at}: {text}");
    }
    let refused = |change: &dyn Fn(), part: &str| {
        change();
        let error = open().unwrap_err();
        assert_eq!(stage::exit_code(&error), 2);
        assert!(format!("{error:#}").contains(part), "{error:#}");
        replace(&path, &sound);
    };
    refused(&|| replace(&path, &sound[..sound.len() - 9]), "00001.parquet: it has");
    refused(&|| std::fs::remove_file(&path).unwrap(), "00001.parquet");
    refused(&|| std::fs::write(dir.path().join("manifest.json"), "{}").unwrap(), "manifest.json");
}
