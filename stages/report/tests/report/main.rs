//! The program, on inputs like those that the other stages write.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod comparison;
mod figures;
mod inputs;
mod provenance;
mod side_by_side;

use inputs::{checkpoints, everything, files, refused, run, samples};
use models::checkpoint::file_name;
use models::config::Architecture;
use std::fs;
use std::path::Path;

#[test]
fn everything_is_in_it_and_the_bytes_are_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = everything(dir.path());
    let mut arguments: Vec<(&str, &Path)> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    arguments.push(("report", &first));
    let output = run(&arguments, &["--title", "Switch-DiT <on> digits"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    *arguments.last_mut().unwrap() = ("report", &second);
    assert!(run(&arguments, &["--title", "Switch-DiT <on> digits"]).status.success());
    let (first, second) = (files(&first), files(&second));
    let names: Vec<&str> = first.iter().map(|f| f.0.as_str()).collect();
    for name in [
        "report.md",
        "report.html",
        "gating.parquet",
        "paths.parquet",
        "affinity.parquet",
        "figures/samples-grid.png",
        "figures/gating-learned.png",
        "figures/gating-prior.png",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    for figure in ["samples", "losses", "gating", "gate-probabilities", "paths", "affinity"] {
        for ending in ["svg", "png", "pdf"] {
            let name = format!("figures/{figure}.{ending}");
            assert!(names.contains(&name.as_str()), "{name} is not among {names:?}");
        }
    }
    for (a, b) in first.iter().zip(&second) {
        assert!(a == b, "{} differs", a.0);
    }
    let text = |name: &str| String::from_utf8(first.iter().find(|f| f.0 == name).unwrap().1.clone()).unwrap();
    let html = text("report.html");
    for part in [
        "Switch-DiT &lt;on&gt; digits",
        "12.346",
        "0.0005",
        &"04".repeat(32),
        "encode.latents",
        "prefers-color-scheme",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Nothing from outside, nothing that runs.
    for part in ["<script", "src=\"http", "href=\"http", "url(", "@import"] {
        assert!(!html.contains(part), "{part}");
    }
    let markdown = text("report.md");
    for part in
        ["figures/samples.svg", "figures/losses.svg", "| FID | 12.346 | lower |", "--learning-rate 0.0005"]
    {
        assert!(markdown.contains(part), "{part} is not in\n{markdown}");
    }
    // A stage that ran for each of two checkpoints: two origins, one set of parameters, one command.
    assert_eq!((markdown.matches("`images` | 40").count(), markdown.matches("--images 40").count()), (1, 1));
    assert_eq!(markdown.matches("reads `checkpoints`").count(), 2);
    // Kept for a look when asked.
    if let Some(folder) = std::env::var_os("REPORT_KEEP") {
        for (name, bytes) in &first {
            let path = Path::new(&folder).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn each_input_may_come_alone() {
    let dir = tempfile::tempdir().unwrap();
    for (name, path) in everything(dir.path()) {
        let out = dir.path().join(format!("only-{name}"));
        let output = run(&[(name, &path), ("report", &out)], &[]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(out.join("report.md").exists() && out.join("report.html").exists());
    }
}

#[test]
fn a_checkpoint_of_torch_says_what_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/models/tests/reference/reference.pt");
    let report = dir.path().join("report");
    let arguments = [("checkpoints", Path::new(reference)), ("report", &report)];
    refused(&run(&arguments, &["--heads", "2"]), &["noise schedule", "--schedule"]);
    let output = run(&arguments, &["--heads", "2", "--schedule", "linear"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Two of three experts are kept at each of four timesteps, by dots that stand apart; none at all of them.
    let paths = figures::Png::open(&report.join("figures/paths.png"));
    let dots = |colour: [u8; 3]| paths.blobs(colour);
    let (kept, shared, off) = (dots([0x1f, 0x6f, 0xd0]), dots([0xb4, 0x61, 0x0a]), dots([0xdc, 0xdf, 0xe3]));
    assert!(off >= 4 && kept + shared == 2 * off, "{kept} + {shared} and {off} dots");
}

#[test]
fn a_network_without_gates_is_reported_without_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(&dir.path().join("checkpoints"), Architecture::Dit);
    let out = dir.path().join("report");
    assert!(run(&[("checkpoints", &checkpoints), ("report", &out)], &[]).status.success());
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(text.contains("## Network") && !text.contains("## Gating"), "{text}");
}

#[test]
fn samples_without_classes_fill_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let samples = samples(&dir.path().join("samples"), &[0; 25], 200);
    let out = dir.path().join("report");
    assert!(run(&[("samples", &samples), ("report", &out)], &["--per-class", "5"]).status.success());
    let png = image::open(out.join("figures/samples-grid.png")).unwrap();
    assert_eq!((png.width(), png.height()), (5 * 98 - 2, 5 * 98 - 2));
}

#[test]
fn bad_inputs_are_one_line_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("report");
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let with = |name: &str, path: &Path| run(&[(name, path), ("report", &out)], &[]);
    refused(&run(&[("report", &out)], &[]), &["nothing to report", "--scores"]);
    refused(&with("scores", &dir.path().join("none.json")), &["none.json", "no such file"]);
    refused(&with("scores", &put("a.json", b"{\"fid\": ")), &["a.json"]);
    refused(&with("scores", &put("b.json", b"[1]")), &["b.json", "object"]);
    refused(&with("log", &put("c.jsonl", b"{\"step\": 1}\n{\"step\": \n")), &["c.jsonl", "line 2"]);
    refused(&with("lineage", &put("d.json", b"{\"stages\": [{}]}")), &["d.json", "stages"]);
    refused(&with("samples", &put("e.npz", b"no zip")), &["e.npz"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    refused(&with("samples", &dir.path().join("empty")), &["samples.npz"]);
    refused(&with("checkpoints", &dir.path().join("empty")), &["no checkpoint"]);
    let good = checkpoints(&dir.path().join("cut"), Architecture::SwitchDit).join(file_name(2000));
    let bytes = fs::read(&good).unwrap();
    fs::write(&good, &bytes[..bytes.len() / 2]).unwrap();
    refused(&with("checkpoints", &good), &["step-00002000.safetensors"]);
    let npz = samples(&dir.path().join("short"), &[1, 2, 3], 8).join("samples.npz");
    let bytes = fs::read(&npz).unwrap();
    fs::write(&npz, &bytes[..bytes.len() / 2]).unwrap();
    refused(&with("samples", &npz), &["samples.npz"]);
    assert!(!out.exists());
}
