//! The two full studies in miniature, from the Hub to the report: their own files, pictures in the Hub's layout behind the
//! Hub's double, the crop to 256 pixels, a small autoencoder. Takes a minute: `ci/study` runs it, after `ci/build`.

use crate::double::{COMMIT, Hub, TOKEN};
use image::{ImageFormat, RgbImage};
use pictures::{Picture, Pictures, PicturesWriter};
use serde_json::Value;
use shards::Latents;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where `ci/build` puts the programs.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_download")).parent().unwrap()
}

/// A picture that differs from the others in colour and pattern.
fn picture(number: usize, width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let wave = |at: u32, step: usize| (at as usize * (step + 1) * 3 + number * 37) as u8;
    let pixels = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([wave(x, number % 5), wave(y, number % 3), wave(x / 16 + y / 16, number % 7)])
    });
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The bytes of a Parquet file in the Hub's layout.
fn parquet(pictures: impl IntoIterator<Item = Picture>, labelled: bool) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = PicturesWriter::create(file.path(), labelled).unwrap();
    pictures.into_iter().for_each(|picture| writer.push(picture).unwrap());
    writer.finish().unwrap();
    std::fs::read(file.path()).unwrap()
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(repository().join("tests/golden/evaluation").join(name)).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    stage::sha256(file.path()).unwrap()
}

/// A study of the repository in a folder of its own, with sizes for a minute on a CPU and the double for the Hub.
struct Study<'a> {
    dir: tempfile::TempDir,
    hub: &'a Hub,
    token: Option<&'static str>,
}

impl<'a> Study<'a> {
    fn new(hub: &'a Hub, name: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        symlink(repository().join("data"), dir.path().join("data")).unwrap();
        // A small autoencoder that halves three times, as Stable Diffusion's does, under its name.
        let weights = golden("vae_l2_diffusers_new.safetensors");
        hub.add("stabilityai/sd-vae-ft-ema", "diffusion_pytorch_model.safetensors", weights);
        let inception = std::fs::read(repository().join("data/digits/inception.safetensors")).unwrap();
        let digest = sha256(&inception);
        hub.add("web/inception", "inception.safetensors", inception);
        let (file, programs) = (repository().join(format!("pipelines/{name}.yaml")), programs().display());
        let url = format!("{}/web/inception/resolve/main/inception.safetensors", hub.endpoint);
        let small = "resources: {cpus: 2, gpus: 0}";
        let text = format!(
            "extends: {}\nname: miniature\nroot: .\nout: out\nvars: {{size: digits/2}}\n\
             build: {{command: 'true', sources: [data], programs: {programs}}}\nstages:\n\
             \x20 inception: {{params: {{url: '{url}', sha256: {digest}}}}}\n\
             \x20 encode: {{params: {{shard-rows: 8}}, {small}}}\n\
             \x20 train: {{params: {{iterations: 4, batch-size: 4, log-every: 1}}, {small}}}\n\
             \x20 sample: {{params: {{images: 8, steps: 3}}, {small}}}\n\
             \x20 evaluate: {{{small}}}\n{more}",
            file.display()
        );
        std::fs::write(dir.path().join("pipeline.yaml"), text).unwrap();
        Self { dir, hub, token: None }
    }

    fn call(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(programs().join("pipeline"));
        command.args(arguments).current_dir(self.dir.path());
        command.env("HF_ENDPOINT", &self.hub.endpoint).env("HF_HOME", self.dir.path().join("hf"));
        command.env_remove("HF_TOKEN").envs(self.token.map(|token| ("HF_TOKEN", token)));
        command.output().expect("`ci/build` makes `pipeline`")
    }

    /// The stages that ran.
    fn run(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.call(&[&["run", "--json"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let run: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = run["stages"].as_array().unwrap().iter().filter(|row| row["fate"] == "ran");
        let mut ran: Vec<String> = rows.map(|row| row["stage"].as_str().unwrap().into()).collect();
        ran.sort();
        ran
    }

    fn out(&self, path: &str) -> PathBuf {
        self.dir.path().join("out").join(path)
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.out(path)).unwrap()).unwrap()
    }

    /// What every study ends with, and what its pictures and latents are.
    fn whole(&self, rows: usize, classes: usize, source: &str) {
        let pictures = Pictures::open(&self.out("download/images")).unwrap();
        let manifest = pictures.manifest();
        assert_eq!((manifest.rows, manifest.classes), (rows, classes));
        assert_eq!((manifest.source.as_str(), manifest.revision.as_str()), (source, COMMIT));
        let latents = self.json("encode/latents/manifest.json");
        assert_eq!(latents["rows"], rows);
        assert_eq!(latents["latents"]["shape"], serde_json::json!([4, 32, 32]));
        assert_eq!(latents["latents"]["flipped"], true);
        let scores = self.json("evaluate/scores");
        assert!(scores["fid"].as_f64().is_some_and(f64::is_finite), "{scores}");
        assert!(scores["kid"].as_f64().is_some_and(f64::is_finite), "{scores}");
        let html = std::fs::read_to_string(self.out("report/report/report.html")).unwrap();
        assert!(html.contains(source), "the report does not say where the data came from");
        assert_eq!(self.run(&[]), [""; 0], "a second run runs something");
    }
}

#[test]
#[ignore = "runs what ci/build makes; ci/study calls it"]
fn the_studies_of_the_repository_check_and_plan() {
    for name in ["ffhq256", "imagenet256"] {
        for verb in ["check", "plan"] {
            let file = repository().join(format!("pipelines/{name}.yaml"));
            let pipeline = programs().join("pipeline");
            let output = Command::new(pipeline).arg("--file").arg(file).arg(verb).output().unwrap();
            assert!(output.status.success(), "{verb} {name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
#[ignore = "runs what ci/build makes; ci/study calls it"]
fn ffhq_from_the_hub_to_the_report() {
    let hub = Hub::start();
    // 256 pixels already, as the Hub has them, and without labels.
    for part in 0..3 {
        let pictures = (4 * part..4 * part + 4).map(|i| Picture {
            row: i % 4,
            name: format!("{i:05}.png"),
            bytes: picture(i, 256, 256, ImageFormat::Png),
            label: None,
        });
        let file = format!("data/train-{part:05}-of-00003-0123456789abcdef.parquet");
        hub.add("datasets/merkol/ffhq-256", &file, parquet(pictures, false));
    }
    let study = Study::new(&hub, "ffhq256", "  reference: {resources: {cpus: 2, gpus: 0}}\n");
    let all =
        ["download", "encode", "evaluate", "inception", "reference", "report", "sample", "train", "vae"];
    assert_eq!(study.run(&[]), all);
    study.whole(12, 1, "merkol/ffhq-256");
    pyarrow_reads(&study.out("encode/latents"));
}

/// The shards as a reader of Parquet that knows nothing of them sees them.
fn pyarrow_reads(folder: &Path) {
    let python = std::env::var_os("JUDGE_PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(python).arg(repository().join("ci/read-shards")).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let latents = Latents::open(folder).unwrap();
    assert_eq!(read["rows"], latents.len());
    assert_eq!(read["label"], serde_json::json!(latents.labels()));
    assert_eq!(read["source"][5], "data/00001.parquet:1:00005.png");
    let about = latents.about();
    let metadata = |key: &str| read["metadata"][key].as_str().unwrap();
    assert_eq!(metadata("shape"), "[4,32,32]");
    assert_eq!((metadata("vae"), metadata("scale")), (about.vae.as_str(), "0.18215"));
    for (i, column) in about.columns().iter().enumerate() {
        assert_eq!(read["types"][column], "fixed_size_binary[8192]");
        for row in 0..latents.len() {
            let moments = latents.row(row, i >= 2).unwrap();
            let ours = if i % 2 == 0 { moments.mean } else { moments.std };
            let column = &read["moments"][column];
            assert_eq!(column["last"][row], f64::from(*ours.last().unwrap()));
            // Added in another order.
            let (sum, theirs) = (ours.iter().map(|&v| f64::from(v)).sum::<f64>(), &column["sum"][row]);
            assert!((sum - theirs.as_f64().unwrap()).abs() <= 1e-9 * sum.abs().max(1.0));
        }
    }
}

#[test]
#[ignore = "runs what ci/build makes; ci/study calls it"]
fn imagenet_from_the_gated_hub_to_the_report() {
    let hub = Hub::start();
    // Every size and shape, and a split whose labels are hidden.
    let sizes = [(500, 375), (300, 260), (257, 600), (90, 70), (640, 530), (256, 256)];
    let labels = [0, 17, 999, 17, 3, 0];
    for (part, label) in [("train", None), ("test", Some(-1))] {
        let pictures = sizes.iter().enumerate().map(|(i, &(width, height))| Picture {
            row: i,
            name: format!("n{i:08}_1.JPEG"),
            bytes: picture(i, width, height, ImageFormat::Jpeg),
            label: label.or(Some(labels[i])),
        });
        let file = format!("data/{part}-00000-of-00001.parquet");
        hub.add("datasets/ILSVRC/imagenet-1k", &file, parquet(pictures, true));
    }
    hub.gate("datasets/ILSVRC/imagenet-1k");
    let url = format!("{}/web/batch/resolve/main/batch.npz", hub.endpoint);
    let mut study = Study::new(&hub, "imagenet256", &format!("  batch: {{params: {{url: '{url}'}}}}\n"));

    let output = study.call(&["run", "download"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("https://huggingface.co/datasets/ILSVRC/imagenet-1k") && text.contains("HF_TOKEN"),
        "{text}"
    );
    assert!(!study.out("download/images").exists());
    study.token = Some(TOKEN);
    assert_eq!(study.run(&["download"]), ["download"]);

    // ADM's batch holds pictures and the statistics of the whole set, as `evaluate` writes them.
    let batch = study.dir.path().join("batch.npz");
    let output = Command::new(programs().join("evaluate"))
        .args(["--image-size", "256", "--device", "cpu", "--reference"])
        .arg(study.out("download/images"))
        .arg("--inception")
        .arg(repository().join("data/digits/inception.safetensors"))
        .arg("--statistics")
        .arg(&batch)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    hub.add("web/batch", "batch.npz", std::fs::read(&batch).unwrap());
    let rest = ["batch", "encode", "evaluate", "inception", "report", "sample", "train", "vae"];
    assert_eq!(study.run(&[]), rest);
    study.whole(6, 1000, "ILSVRC/imagenet-1k");
}
