//! What is in the figures' files: pixels of the PNG, colours of the SVG, letters of the PDF.

use crate::inputs::{done, everything, log};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A picture that has been decoded.
pub struct Png(image::RgbaImage);

impl Png {
    pub fn open(path: &Path) -> Self {
        Self(image::open(path).unwrap().into_rgba8())
    }

    /// How many pixels have each colour.
    fn colours(&self) -> BTreeMap<[u8; 4], usize> {
        let mut colours = BTreeMap::new();
        self.0.pixels().for_each(|p| *colours.entry(p.0).or_default() += 1);
        colours
    }

    fn count(&self, [r, g, b]: [u8; 3]) -> usize {
        self.colours().get(&[r, g, b, 255]).copied().unwrap_or(0)
    }

    /// Connected shapes of one colour.
    pub fn blobs(&self, [r, g, b]: [u8; 3]) -> usize {
        let (width, height) = self.0.dimensions();
        let is = |x: u32, y: u32| self.0.get_pixel(x, y).0 == [r, g, b, 255];
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            if !is(x, y) || !seen.insert((x, y)) {
                continue;
            }
            count += 1;
            let mut open = vec![(x, y)];
            while let Some((x, y)) = open.pop() {
                let around = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
                for (x, y) in around.into_iter().filter(|p| p.0 < width && p.1 < height) {
                    if is(x, y) && seen.insert((x, y)) {
                        open.push((x, y));
                    }
                }
            }
        }
        count
    }
}

/// The colours of the fifteen lines, as a reader of the SVG meets them.
const LINES: [&str; 15] = [
    "#1f6fd0", "#b4610a", "#2c7a4b", "#8a3f8f", "#c8283c", "#0b8f9c", "#6f4326", "#d6479a", "#757a00",
    "#4d5a68", "#4795d8", "#c08a00", "#55a325", "#6a4fe0", "#e5705f",
];

fn rgb(hex: &str) -> [u8; 3] {
    [1, 3, 5].map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
}

fn figures(folder: &Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let all = crate::inputs::files(&folder.join("figures"));
    all.into_iter().filter(|f| f.0.ends_with(ending)).collect()
}

#[test]
fn every_figure_is_seen_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = everything(dir.path());
    let mut arguments: Vec<(&str, &Path)> = inputs.iter().map(|(n, p)| (*n, p.as_path())).collect();
    let out = dir.path().join("report");
    arguments.push(("report", &out));
    done(&arguments, &[]);
    for (name, bytes) in figures(&out, ".svg") {
        let svg = String::from_utf8(bytes).unwrap();
        // No reader needs a style sheet, a font or another file; letters are outlines.
        for part in ["var(", "<style", "class=", "<text", "@import", "url(http"] {
            assert!(!svg.contains(part), "{name} has {part}");
        }
        assert!(svg.contains("<title>") && svg.contains("fill=\"#ffffff\""), "{name}: {}", &svg[..300]);
        let png = Png::open(&out.join("figures").join(name.replace(".svg", ".png")));
        assert!(png.0.width() >= 1560, "{name} is {} pixels wide", png.0.width());
        let colours = png.colours();
        assert!(colours.keys().all(|c| c[3] == 255), "{name} is transparent somewhere");
        assert!(colours.len() > 20, "{name} has {} colours", colours.len());
        let white = colours[&[255, 255, 255, 255]] as f64 / colours.values().sum::<usize>() as f64;
        assert!(white < 0.99, "{name} is {white} white");
        let pdf = fs::read(out.join("figures").join(name.replace(".svg", ".pdf"))).unwrap();
        assert!(
            pdf.starts_with(b"%PDF-") && pdf.windows(9).any(|w| w == b"/FontFile"),
            "{name}: no type in the PDF"
        );
    }
    let losses = Png::open(&out.join("figures/losses.png"));
    assert!(losses.count(rgb(LINES[0])) > 1000, "the line of the losses is not there");
    let text = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(text.contains("(logarithmic axis)"));
    // A dark page gives the shapes other colours, the figures themselves know of none.
    assert!(text.contains("svg .s0 { stroke: #6aa5f0 }") && text.contains("stroke=\"#1f6fd0\""));
}

#[test]
fn fifteen_lines_are_all_in_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let scores = dir.path().join("scores");
    fs::create_dir_all(&logs).unwrap();
    fs::create_dir_all(&scores).unwrap();
    for i in 0..15 {
        let name = format!("variant-{}", (b'a' + i) as char);
        log(&logs.join(&name), 60 + usize::from(i));
        // Each line lies above the one before it.
        let text = fs::read_to_string(logs.join(&name)).unwrap();
        let raised = text.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["mse"] = (line["mse"].as_f64().unwrap() * (1.0 + 0.3 * f64::from(i))).into();
            format!("{line}\n")
        });
        fs::write(logs.join(&name), raised.collect::<String>()).unwrap();
        let mut scored = crate::inputs::scores();
        scored["fid"] = (10.0 + f64::from(i)).into();
        fs::write(scores.join(format!("{name}.json")), scored.to_string()).unwrap();
    }
    let out = dir.path().join("report");
    done(&[("variant-scores", &scores), ("variant-logs", &logs), ("report", &out)], &[]);
    let (svg, png) = (
        fs::read_to_string(out.join("figures/training.svg")).unwrap(),
        Png::open(&out.join("figures/training.png")),
    );
    for colour in LINES {
        assert!(svg.contains(&format!("stroke=\"{colour}\"")), "{colour} is no line");
        assert!(png.count(rgb(colour)) > 300, "{colour}: {} pixels", png.count(rgb(colour)));
    }
    // The names stand beside the plot, not over it.
    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for i in 0..15 {
        let name = format!(">variant-{}</text>", (b'a' + i) as char);
        let at = html.find(&name).unwrap_or_else(|| panic!("no {name}"));
        let x = html[..at]
            .rfind(" x=\"")
            .map(|i| html[i + 4..].split('"').next().unwrap().parse::<f64>().unwrap());
        assert!(x.unwrap() > 520.0, "{name} at {x:?}");
    }
}

/// A log with shares that settle: the map's at step 30, the average's never.
fn gating_log(path: &Path, settles: bool) {
    let line = |i: usize| {
        let share = if settles && i >= 3 { 0.999 } else { 0.5 + 0.1 * i as f64 % 0.4 };
        let line = serde_json::json!({
            "step": 10 * i, "mse": 1.0 / i as f64, "prior_agreement": 0.7, "map_agreement": share,
            "ema_prior_agreement": 0.6, "ema_map_agreement": 0.8, "images_per_second": 9.0,
        });
        format!("{line}\n")
    };
    fs::write(path, (1..=9).map(line).collect::<String>()).unwrap();
}

#[test]
fn a_log_shows_how_the_gating_map_settled() {
    let dir = tempfile::tempdir().unwrap();
    let (log, out) = (dir.path().join("log"), dir.path().join("report"));
    gating_log(&log, true);
    done(&[("log", &log), ("report", &out)], &[]);
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    let said = "less than 1 % from look to look: that of the network from step 30 on, that of the moving average not to the end.";
    assert!(text.contains(said) && text.contains("figures/gating-agreement.svg"), "{text}");
    let svg = fs::read_to_string(out.join("figures/gating-agreement.svg")).unwrap();
    assert!(LINES[..2].iter().all(|colour| svg.contains(&format!("stroke=\"{colour}\""))));

    // Runs beside each other.
    let (logs, scores) = (dir.path().join("logs"), dir.path().join("scores"));
    fs::create_dir_all(&logs).unwrap();
    fs::create_dir_all(&scores).unwrap();
    for (name, settles) in [("prior", true), ("load-balance", false)] {
        gating_log(&logs.join(name), settles);
        fs::write(scores.join(format!("{name}.json")), crate::inputs::scores().to_string()).unwrap();
    }
    let out = dir.path().join("compared");
    done(&[("variant-scores", &scores), ("variant-logs", &logs), ("report", &out)], &[]);
    let text = fs::read_to_string(out.join("report.md")).unwrap();
    assert!(text.contains("## Gating maps") && text.contains("figures/gating-agreement.svg"), "{text}");
    // A log without these says nothing of them.
    let (log, out) = (crate::inputs::log(&dir.path().join("plain"), 50), dir.path().join("plain-report"));
    done(&[("log", &log), ("report", &out)], &[]);
    assert!(!out.join("figures/gating-agreement.svg").exists());
}
