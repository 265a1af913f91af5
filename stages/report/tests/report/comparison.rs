//! Variants beside each other and beside the paper, in every format.

use crate::inputs::{checkpoint_of, done, log, refused, run, scores};
use models::config::Config;
use models::diffusion::NoiseSchedule;
use serde_json::{Value as Json, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder as the runner leaves it after all variants of a study.
fn runs(folder: &Path) -> PathBuf {
    for (i, name) in ["dit-s", "dit-b", "switch-dit-s", "another"].into_iter().enumerate() {
        let (evaluate, train) = (folder.join(name).join("evaluate"), folder.join(name).join("train"));
        fs::create_dir_all(&train).unwrap();
        log(&train.join("log"), 50 + i);
        let mut scores = scores();
        if name == "switch-dit-s" {
            // Every checkpoint was scored.
            fs::create_dir_all(evaluate.join("scores")).unwrap();
            for step in [1000, 2000] {
                scores["fid"] = json!(40_000.0 / f64::from(step));
                fs::write(evaluate.join(format!("scores/step-{step:08}.json")), scores.to_string()).unwrap();
            }
        } else {
            fs::create_dir_all(&evaluate).unwrap();
            scores["fid"] = json!(30.0 + i as f64);
            fs::write(evaluate.join("scores"), scores.to_string()).unwrap();
        }
    }
    fs::create_dir_all(folder.join("download")).unwrap();
    folder.into()
}

/// A table as in `pipelines/published/`.
fn published(path: &Path) {
    let row = |variant: &str, line: &str, size: &str, gmacs: f64, fid: Json| {
        json!({"variant": variant, "name": format!("{line}-{size}"), "line": line, "size": size,
               "published": {"gmacs": gmacs, "fid": fid}})
    };
    let rows = [
        row("dit-s", "DiT", "S", 6.06, json!(44.28)),
        row("dtr-s", "DTR", "S", 6.06, Json::Null),
        row("switch-dit-s", "Switch-DiT", "S", 6.74, json!(33.99)),
        row("dit-b", "DiT", "B", 23.01, json!(27.9)),
    ];
    fs::write(path, json!({"title": "Table 2", "source": "a page", "rows": rows}).to_string()).unwrap();
}

#[test]
fn runs_are_compared_with_what_was_published() {
    let dir = tempfile::tempdir().unwrap();
    let runs = runs(&dir.path().join("runs"));
    let table = dir.path().join("published.json");
    published(&table);
    let out = dir.path().join("report");
    done(&[("runs", &runs), ("published", &table), ("report", &out)], &["--title", "Table 2"]);
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    for line in [
        "| System | GMACs paper | FID ↓ paper | FID ↓ here | sFID ↓ here | IS ↑ here | Precision ↑ here | Recall ↑ here |",
        "| DiT-S | 6.06 | 44.28 | 30.00 | 20.50 | 8.12 | 0.71 | 0.66 |",
        "| DTR-S | 6.06 | – | – | – | – | – | – |",
        "| Switch-DiT-S | 6.74 | **33.99** | **20.00** |",
        "| DiT-B | 23.01 | 27.90 | 31.00 |",
        "| another | – | – | 33.00 |",
        "Not run here: DTR-S.",
        "figures/cost.svg",
        "figures/convergence.svg",
        "figures/training.svg",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let alone = dir.path().join("alone");
    done(&[("runs", &runs), ("report", &alone)], &[]);
    let text = fs::read_to_string(alone.join("report.md")).unwrap();
    assert!(text.contains("| System | FID ↓ | sFID ↓ |") && !text.contains("published"), "{text}");
    let scores = runs.join("switch-dit-s/evaluate/scores");
    let curve = dir.path().join("curve");
    done(&[("scores", &scores), ("report", &curve)], &[]);
    assert!(curve.join("figures/convergence.svg").exists());

    let none = dir.path().join("none");
    let lone = runs.join("dit-s/train/log");
    refused(&run(&[("published", &table), ("log", &lone), ("report", &none)], &[]), &["--variant-scores"]);
    refused(
        &run(&[("runs", &dir.path().join("report")), ("report", &none)], &[]),
        &["no VARIANT/evaluate/scores"],
    );
    fs::write(&table, "{\"title\": \"x\", \"sources\": 1}").unwrap();
    refused(&run(&[("runs", &runs), ("published", &table), ("report", &none)], &[]), &["published.json"]);
    assert!(!none.exists());
}

/// Two variants of three seeds, and a network of each, as folders with an entry for each variant.
fn seeds(folder: &Path) -> [PathBuf; 2] {
    let (all, networks) = (folder.join("scores"), folder.join("networks"));
    fs::create_dir_all(&all).unwrap();
    for (name, base) in [("dit-s", 30.0), ("switch-dit-s", 20.0)] {
        let model = if name == "dit-s" { "dit-digits/2" } else { "switch-dit-digits/2" };
        for seed in 1..=3 {
            let mut scores = scores();
            scores["fid"] = json!(base + f64::from(seed));
            fs::write(all.join(format!("{name}-seed-{seed}.json")), scores.to_string()).unwrap();
            let config = Config::preset(model, 8, 10).unwrap();
            checkpoint_of(
                &networks.join(format!("{name}-seed-{seed}")),
                config,
                NoiseSchedule::Linear,
                Json::Null,
            );
        }
    }
    [all, networks]
}

#[test]
fn seeds_are_a_mean_and_its_deviation_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let [scores, networks] = seeds(dir.path());
    let table = dir.path().join("published.json");
    published(&table);
    let out = dir.path().join("report");
    let inputs =
        [("variant-scores", scores.as_path()), ("variant-checkpoints", &networks), ("published", &table)];
    done(&[&inputs[..], &[("report", &out)]].concat(), &["--title", "Seeds", "--place", "false"]);
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();

    let markdown = read("comparison.md");
    let wanted = "\
| System | Params here | GMACs paper | GMACs here | FID ↓ paper | FID ↓ here | sFID ↓ here | IS ↑ here | Precision ↑ here | Recall ↑ here |
| :-- | --: | --: | --: | --: | --: | --: | --: | --: | --: |
| DiT-S | 0.73M | 6.06 | 0.01 | 44.28 | 32.00 ± 1.00 | 20.50 ± 0.00 | 8.12 ± 0.00 | 0.71 ± 0.00 | 0.66 ± 0.00 |
| DTR-S | – | 6.06 | – | – | – | – | – | – | – |
| Switch-DiT-S | 0.80M | 6.74 | 0.01 | **33.99** | **22.00 ± 1.00** | 20.50 ± 0.00 | 8.12 ± 0.00 | 0.71 ± 0.00 | 0.66 ± 0.00 |
| DiT-B | – | 23.01 | – | 27.90 | – | – | – | – | – |
";
    assert!(markdown.contains(wanted), "{wanted}\nis not in\n{markdown}");
    assert!(
        markdown.contains("Here: mean ± standard deviation over 3 seeds; 1000 samples a run."),
        "{markdown}"
    );

    let html = read("comparison.html");
    for part in [
        "<th scope=\"colgroup\" class=\"n\" colspan=\"2\">FID ↓</th>",
        "<td class=\"n\" data-of=\"FID ↓ here\"><b>22.00 ± 1.00</b></td>",
        "<td class=\"n\" data-of=\"FID ↓ paper\"><b>33.99</b></td>",
    ] {
        assert!(html.contains(part), "{part} is not in\n{html}");
    }

    let csv = read("comparison.csv");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(
        lines[0].split(',').take(6).collect::<Vec<_>>(),
        ["variant", "name", "group", "size", "line", "seeds"]
    );
    let column = |line: usize, name: &str| {
        let at = lines[0]
            .split(',')
            .position(|n| n == name)
            .unwrap_or_else(|| panic!("no {name} in {}", lines[0]));
        lines[line].split(',').nth(at).unwrap()
    };
    assert_eq!([column(3, "variant"), column(3, "seeds"), column(3, "size")], ["switch-dit-s", "3", "S"]);
    assert_eq!(
        [column(3, "fid_published"), column(3, "fid"), column(3, "fid_deviation")],
        ["33.99", "22", "1"]
    );
    assert_eq!([column(2, "fid_published"), column(2, "fid"), column(2, "seeds")], ["", "", ""]);

    let latex = read("comparison.tex");
    let wanted = "\
\\begin{tabular}{lrrrrrrrrr}
\\toprule
System & Params & \\multicolumn{2}{c}{GMACs} & \\multicolumn{2}{c}{FID $\\downarrow$} & sFID $\\downarrow$ & IS $\\uparrow$ & Precision $\\uparrow$ & Recall $\\uparrow$ \\\\
\\cmidrule(lr){3-4}\\cmidrule(lr){5-6}
 & here & paper & here & paper & here & here & here & here & here \\\\
\\midrule
DiT-S & 0.73M & 6.06 & 0.01 & 44.28 & 32.00 $\\pm$ 1.00 &";
    assert!(latex.contains(wanted), "{wanted}\nis not in\n{latex}");
    assert!(latex.contains(" & \\textbf{33.99} & \\textbf{22.00 $\\pm$ 1.00} & "), "{latex}");
    assert!(latex.matches("\\midrule").count() == 2 && latex.contains("\\bottomrule"), "{latex}");
    for ending in ["svg", "png", "pdf"] {
        assert!(out.join(format!("figures/comparison.{ending}")).exists());
    }
    assert!(image::open(out.join("figures/comparison.png")).unwrap().width() > 1500);

    // Seeds may also lie in a folder of their variant, and a study may have no variants but seeds.
    let nested = dir.path().join("nested");
    fs::create_dir_all(nested.join("dit-s")).unwrap();
    for seed in 1..=3 {
        let from = scores.join(format!("dit-s-seed-{seed}.json"));
        fs::copy(&from, nested.join(format!("dit-s/seed-{seed}"))).unwrap();
    }
    let again = dir.path().join("again");
    done(&[("variant-scores", &nested), ("published", &table), ("report", &again)], &[]);
    let text = fs::read_to_string(again.join("comparison.md")).unwrap();
    assert!(text.contains("| DiT-S | 6.06 | 44.28 | 32.00 ± 1.00 |"), "{text}");
}

#[test]
fn systems_stand_side_by_side_where_the_paper_has_them_so() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("scores");
    fs::create_dir_all(&all).unwrap();
    for (name, fid) in [("dit-b", 3.0), ("dit-b-p2", 2.0), ("switch-dit-b", 1.0)] {
        let mut scores = scores();
        scores["fid"] = json!(fid);
        fs::write(all.join(name), scores.to_string()).unwrap();
    }
    let table = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/published/table-3.json"));
    let out = dir.path().join("report");
    done(&[("variant-scores", &all), ("published", &table), ("report", &out)], &[]);
    let text = fs::read_to_string(out.join("comparison.md")).unwrap();
    let wanted = "\
| Weighting | DiT-B paper | DiT-B here | DTR-B paper | DTR-B here | Switch-DiT-B paper | Switch-DiT-B here |
| :-- | --: | --: | --: | --: | --: | --: |
| *FID ↓* |  |  |  |  |  |  |
| constant | 10.99 | 3.00 | 7.32 | – | **7.12** | **1.00** |
| Min-SNR | – | – | – | – | – | – |
";
    assert!(text.contains(wanted), "{wanted}\nis not in\n{text}");
    assert!(text.contains("| P2 | 10.08 | – | 8.83 | – | – | – |"), "{text}");
}

#[test]
fn every_published_table_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("scores");
    fs::create_dir_all(&all).unwrap();
    fs::write(all.join("x"), scores().to_string()).unwrap();
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/published"));
    let mut numbers = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let out = dir.path().join("report");
        done(&[("variant-scores", &all), ("published", &path), ("report", &out)], &[]);
        let json: Json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let csv = fs::read_to_string(out.join("comparison.csv")).unwrap();
        let rows = json["rows"].as_array().unwrap();
        assert_eq!(csv.lines().count(), rows.len() + 2, "{}", path.display());
        numbers += rows.iter().map(|r| r["published"].as_object().unwrap().len()).sum::<usize>();
    }
    assert!(numbers > 150, "{numbers} published numbers");
}

/// The study of samplers and guidance: FID and Inception Score over the steps and over the guidance scale.
#[test]
fn scores_are_drawn_along_what_a_heading_counts() {
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("scores");
    fs::create_dir_all(&all).unwrap();
    let table = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/published/samplers.json"));
    let json: Json = serde_json::from_slice(&fs::read(table).unwrap()).unwrap();
    let rows = json["rows"].as_array().unwrap();
    for (i, row) in rows.iter().enumerate() {
        let mut scored = scores();
        scored["fid"] = json!(20.0 + i as f64);
        fs::write(all.join(row["variant"].as_str().unwrap()), scored.to_string()).unwrap();
    }
    let out = dir.path().join("report");
    done(&[("variant-scores", &all), ("published", table), ("report", &out)], &[]);
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for (name, lines) in [
        ("steps", ["DDPM", "DDIM", "DPM-Solver++"]),
        ("guidance-scale", ["all channels", "three channels", "timesteps 200 to 799"]),
    ] {
        assert!(text.contains(&format!("figures/scores-{name}.svg")), "{text}");
        for line in lines {
            assert!(html.contains(&format!(">{line}</text>")), "no line {line}");
        }
    }
    assert!(html.contains("FID, lower is better") && html.contains("Inception Score, higher is better"));
    // Every variant of the study is a row, and the other way round.
    let study = fs::read_to_string(table.with_file_name("../samplers.yaml")).unwrap();
    let variants = study.split("\nvariants:\n").nth(1).unwrap().lines();
    let mut variants: Vec<&str> = variants
        .filter_map(|line| Some(line.trim().split_once(": ")?.0))
        .filter(|name| !name.contains('#'))
        .collect();
    let mut named: Vec<&str> = rows.iter().map(|row| row["variant"].as_str().unwrap()).collect();
    variants.sort_unstable();
    named.sort_unstable();
    named.dedup();
    assert_eq!(variants, named);
}

#[test]
fn a_comparison_without_scores_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::create_dir_all(&logs).unwrap();
    log(&logs.join("a"), 10);
    let out = dir.path().join("report");
    refused(&run(&[("variant-logs", &logs), ("report", &out)], &[]), &["no variant has scores"]);
    let empty = dir.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    refused(&run(&[("variant-scores", &empty), ("report", &out)], &[]), &["empty", "one entry"]);
    fs::write(empty.join("broken"), "{").unwrap();
    refused(&run(&[("variant-scores", &empty), ("report", &out)], &[]), &["broken"]);
    refused(&run(&[("variant-scores", &dir.path().join("none")), ("report", &out)], &[]), &["none"]);
    assert!(!out.exists());
}
