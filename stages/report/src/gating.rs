//! What the gates have learned: maps, paths and affinity, as figures and as Parquet.

use crate::document::{Block, Figure, Section, grouped, number};
use crate::figure::raster;
use crate::figure::svg::{Anchor, Svg, WIDTH};
use crate::tables;
use anyhow::Result;
use models::analysis::Gating;
use models::config::Allocation;

/// Side of a picture of timesteps at most, in pixels.
const PIXELS: usize = 500;

/// Files of the report: name and content.
pub type Files = Vec<(String, Vec<u8>)>;

/// What is known of the gates beside what they do.
pub struct Known<'a> {
    /// Which weights of which checkpoint these are.
    pub source: String,
    /// How timesteps come to their experts.
    pub allocation: Allocation,
    /// How the gates were trained, where the checkpoint says it.
    pub trained: Option<&'a str>,
}

/// The section, and the files beside it: PNG and Parquet.
///
/// # Errors
/// When a picture or table cannot be encoded.
pub fn section(gating: &Gating, fractions: &[f64], known: &Known) -> Result<(Section, Files)> {
    let mut section = Section::new("Gating");
    let Gating { timesteps, blocks, experts, top_k, .. } = *gating;
    section.text(format!(
        "{blocks} blocks of {experts} experts, of which each of the {} timesteps keeps {top_k} per block. Timestep 0 is \
         nearly clean, the last is noise. The timesteps take {} through the experts, and {} of the cells of the gating map \
         agree with the prior. All of this section is of {}.",
        grouped(timesteps as i64),
        match gating.patterns() {
            1 => "one and the same path".into(),
            n => format!("{} different paths", grouped(n as i64)),
        },
        percent(gating.agreement()),
        known.source,
    ));
    let mut files = Files::new();
    section.blocks.push(Block::Figure(maps(gating, known, &mut files)?));
    section.blocks.push(Block::Figure(probabilities(gating, known)?));
    let chosen: Vec<usize> = fractions.iter().map(|f| timestep(*f, timesteps)).collect();
    if !chosen.is_empty() {
        section.blocks.push(Block::Figure(paths(gating, &chosen)));
    }
    section.blocks.push(Block::Figure(affinity(gating)?));
    section.text(
        "The numbers behind these figures are in `gating.parquet`, `paths.parquet` and `affinity.parquet`.",
    );
    files.push(("gating.parquet".into(), tables::gating(gating)?));
    files.push(("paths.parquet".into(), tables::paths(gating, &chosen)?));
    files.push(("affinity.parquet".into(), tables::affinity(gating)?));
    Ok((section, files))
}

/// The timestep at a fraction of the way from clean to noise: the paper's 0.25T, …, T, counted from 0 here.
fn timestep(fraction: f64, timesteps: usize) -> usize {
    ((fraction * timesteps as f64).round() as usize).clamp(1, timesteps) - 1
}

/// To a tenth; what is not all is not called so.
pub fn percent(x: f64) -> String {
    match (x * 1000.0).round() / 10.0 {
        100.0 if x < 1.0 => "more than 99.9 %".into(),
        tenths => format!("{} %", number(tenths)),
    }
}

/// The learned map, and the prior as it is matched to it, both in the order of the prior's columns.
///
/// # Errors
/// When there is nothing in them.
pub fn learned_and_prior(gating: &Gating) -> Result<[Vec<u8>; 2]> {
    let order = matched_order(gating);
    let flag = |b: bool| f64::from(u8::from(b));
    Ok([
        picture(gating, |t, row| flag(gating.keeps(t, order[row])))?,
        picture(gating, |t, row| flag(gating.wanted(t, order[row])))?,
    ])
}

/// Gate columns in the order of the prior columns that they are matched to.
fn matched_order(gating: &Gating) -> Vec<usize> {
    let mut order: Vec<usize> = (0..gating.columns()).collect();
    order.sort_by_key(|c| gating.matching[*c]);
    order
}

/// A picture of `[T, columns]`: timesteps from left to right, columns from top to bottom.
fn picture(gating: &Gating, value: impl Fn(usize, usize) -> f64) -> Result<Vec<u8>> {
    // A timestep is a pixel, so that no column of the map is lost when the page scales it; a row is a few.
    let tall = (240 / gating.columns()).clamp(2, 8);
    let (width, height) = (gating.timesteps as u32, (gating.columns() * tall) as u32);
    raster::png(&raster::map(width, height, |x, y| value(x as usize, y as usize / tall)))
}

const LEFT: f64 = 46.0;
const RIGHT: f64 = 18.0;

struct Panel<'a> {
    title: &'a str,
    png: &'a [u8],
    top: f64,
    height: f64,
}

/// A framed picture whose horizontal axis is the timestep.
fn panel(svg: &mut Svg, gating: &Gating, panel: &Panel, axis: bool) {
    let Panel { title, png, top, height } = *panel;
    let width = WIDTH - LEFT - RIGHT;
    svg.text("title", (LEFT, top + 13.0), Anchor::Start, title);
    let top = top + 20.0;
    svg.image(false, png, LEFT, top, width, height);
    svg.rectangle("frame", LEFT, top, width, height);
    if axis {
        for i in 0..=4 {
            let t = i * gating.timesteps / 4;
            let x = LEFT + width * t as f64 / gating.timesteps as f64;
            svg.line("frame", (x, top + height), (x, top + height + 3.0));
            svg.text("soft", (x, top + height + 14.0), Anchor::Middle, &grouped(t as i64));
        }
        svg.text(
            "soft",
            (LEFT + width / 2.0, top + height + 29.0),
            Anchor::Middle,
            "timestep (0 clean, right noise)",
        );
    }
}

fn maps(gating: &Gating, known: &Known, files: &mut Files) -> Result<Figure> {
    let [learned, prior] = learned_and_prior(gating)?;
    let height = (gating.columns() as f64 * 5.0).clamp(110.0, 230.0);
    let mut svg = Svg::default();
    panel(
        &mut svg,
        gating,
        &Panel { title: "Learned: experts each timestep keeps", png: &learned, top: 0.0, height },
        false,
    );
    let below = height + 34.0;
    panel(&mut svg, gating, &Panel { title: prior_title(known), png: &prior, top: below, height }, true);
    for top in [0.0, below] {
        svg.upward((LEFT - 14.0, top + 20.0 + height / 2.0), "expert");
    }
    files.push(("figures/gating-learned.png".into(), learned));
    files.push(("figures/gating-prior.png".into(), prior));
    Ok(Figure {
        name: "gating".into(),
        alt: "Learned gating map above the prior map".into(),
        caption: format!(
            "Gating map of all {} experts in all blocks (Figs. 3 and 6 of the Switch-DiT paper). Blue: the timestep keeps the \
             expert. Rows stand in the order of the prior columns that the best assignment matches them to, so that a map \
             equal to the prior would look like the lower panel.",
            gating.columns()
        ),
        svg: svg.finish(below + height + 54.0),
    })
}

/// The prior is the goal of a training only where the training says so.
fn prior_title(known: &Known) -> &'static str {
    match known.trained {
        Some("prior" | "noisy-prior") => "Prior: what the gates were trained towards",
        Some(_) => "Prior, which the gates were not trained towards",
        None => "Prior",
    }
}

fn probabilities(gating: &Gating, known: &Known) -> Result<Figure> {
    let columns = gating.columns();
    let greatest = gating.probabilities.iter().copied().fold(0.0, f32::max).max(f32::MIN_POSITIVE);
    let png = picture(gating, |t, row| f64::from(gating.probabilities[t * columns + row] / greatest))?;
    let height = (columns as f64 * 6.0).clamp(130.0, 300.0);
    let mut svg = Svg::default();
    panel(
        &mut svg,
        gating,
        &Panel { title: "Gate probability, block by block", png: &png, top: 0.0, height },
        true,
    );
    let block = height / gating.blocks as f64;
    let every = gating.blocks.div_ceil(14);
    for i in 0..gating.blocks {
        let y = 20.0 + block * i as f64;
        if i > 0 {
            svg.line("frame", (LEFT, y), (WIDTH - RIGHT, y));
        }
        if i % every == 0 {
            svg.text("soft", (LEFT - 5.0, y + block / 2.0 + 3.5), Anchor::End, &(i + 1).to_string());
        }
    }
    svg.upward((12.0, 20.0 + height / 2.0), "block");
    Ok(Figure {
        name: "gate-probabilities".into(),
        alt: "Gate probabilities of every expert over the timesteps".into(),
        caption: format!(
            "Softmax of each block's gate over its {} experts, before {}. Solid blue is {}, the greatest there is; a row that \
             is flat does not depend on the timestep.",
            gating.experts,
            match known.allocation {
                Allocation::Random => "the experts that no draw gave to the timestep are dropped".into(),
                _ if gating.top_k == gating.experts => "its values are used as they are".into(),
                _ => format!("all but the {} largest are dropped", gating.top_k),
            },
            number(f64::from(greatest)),
        ),
        svg: svg.finish(20.0 + height + 34.0),
    })
}

fn paths(gating: &Gating, chosen: &[usize]) -> Figure {
    let Gating { blocks, experts, .. } = *gating;
    let shared = gating.shared();
    let (column, row) = ((WIDTH - LEFT - RIGHT) / blocks as f64, 15.0);
    let radius = (column * 0.28).min(4.6);
    let gap = row * experts as f64 + 30.0;
    let bottom = gap * chosen.len() as f64 - 10.0;
    let mut svg = Svg::default();
    for (i, &t) in chosen.iter().enumerate() {
        let top = gap * i as f64;
        let at = |block: usize, expert: usize| {
            (LEFT + column * (block as f64 + 0.5), top + 20.0 + row * (expert as f64 + 0.5))
        };
        svg.text("title", (LEFT, top + 12.0), Anchor::Start, &format!("t = {}", grouped(t as i64)));
        let path = gating.path(t);
        for block in 1..blocks {
            for &from in &path[block - 1] {
                for &to in &path[block] {
                    svg.line("link", at(block - 1, from), at(block, to));
                }
            }
        }
        for (block, kept) in path.iter().enumerate() {
            for expert in 0..experts {
                let class = match (kept.contains(&expert), shared[block * experts + expert]) {
                    (false, _) => "off",
                    (true, false) => "kept",
                    (true, true) => "shared",
                };
                let title = format!("block {}, expert {}", block + 1, expert + 1);
                svg.circle(class, at(block, expert), radius, &title);
            }
        }
        for expert in 0..experts {
            svg.text("soft", (LEFT - 5.0, at(0, expert).1 + 3.5), Anchor::End, &(expert + 1).to_string());
        }
    }
    let every = blocks.div_ceil(14);
    for block in (0..blocks).step_by(every) {
        let x = LEFT + column * (block as f64 + 0.5);
        svg.text("soft", (x, bottom + 11.0), Anchor::Middle, &(block + 1).to_string());
    }
    svg.text("soft", (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, bottom + 26.0), Anchor::Middle, "block");
    svg.upward((12.0, bottom / 2.0), "expert");
    let common = shared.iter().filter(|s| **s).count();
    let shared = match common {
        0 => "No expert is kept by every timestep.".to_string(),
        1 => {
            "One expert, orange, is kept by every timestep, so that all of them share its parameters.".into()
        }
        n => format!(
            "Orange: the {n} experts that every timestep keeps, so that all of them share these parameters."
        ),
    };
    Figure {
        name: "paths".into(),
        alt: "Denoising paths through the experts at a few timesteps".into(),
        caption: format!(
            "Denoising paths (Fig. C of the Switch-DiT paper): coloured dots are the experts that a timestep keeps, block after \
             block. {shared}"
        ),
        svg: svg.finish(bottom + 30.0),
    }
}

fn affinity(gating: &Gating) -> Result<Figure> {
    let n = gating.timesteps;
    let values = gating.affinity();
    let least = values.iter().copied().fold(1.0, f32::min);
    let step = n.div_ceil(PIXELS);
    let side = n.div_ceil(step);
    // Time runs to the right and upwards.
    let png = raster::png(&raster::map(side as u32, side as u32, |x, y| {
        let (a, b) = (x as usize * step, (side - 1 - y as usize) * step);
        f64::from((values[a * n + b] - least) / (1.0 - least).max(f32::MIN_POSITIVE))
    }))?;
    let extent = 300.0;
    let mut svg = Svg::default();
    svg.image(false, &png, LEFT, 4.0, extent, extent);
    svg.rectangle("frame", LEFT, 4.0, extent, extent);
    for i in 0..=4 {
        let (t, along) = (i * n / 4, extent * i as f64 / 4.0);
        svg.text("soft", (LEFT + along, 4.0 + extent + 14.0), Anchor::Middle, &grouped(t as i64));
        svg.text("soft", (LEFT - 5.0, 4.0 + extent - along + 3.5), Anchor::End, &grouped(t as i64));
    }
    svg.text("soft", (LEFT + extent / 2.0, extent + 33.0), Anchor::Middle, "timestep");
    svg.upward((12.0, 4.0 + extent / 2.0), "timestep");
    let scale = raster::png(&raster::map(1, 100, |_, y| 1.0 - f64::from(y) / 99.0))?;
    let x = LEFT + extent + 28.0;
    svg.image(false, &scale, x, 4.0, 12.0, 120.0);
    svg.rectangle("frame", x, 4.0, 12.0, 120.0);
    svg.text("soft", (x + 18.0, 11.0), Anchor::Start, "100 % of experts");
    svg.text("soft", (x + 18.0, 123.0), Anchor::Start, &format!("{}, the least", percent(f64::from(least))));
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
    Ok(Figure {
        name: "affinity".into(),
        alt: "Share of experts that every two timesteps have in common".into(),
        caption: format!(
            "Task affinity: of the experts that a timestep keeps, the share that another keeps as well; {} on average over \
             all pairs.",
            percent(mean)
        ),
        svg: svg.finish(extent + 40.0),
    })
}
