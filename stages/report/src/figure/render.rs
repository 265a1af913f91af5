//! A figure as files: SVG whose letters are outlines, PNG for screens, PDF for print.

use super::letters::FONTS;
use super::svg::escape;
use anyhow::{Context, Result};
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt, SvgSettings};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, WriteOptions, fontdb};
use std::sync::{Arc, LazyLock};

/// Pixels of the PNG for each unit of a figure: about 300 on an inch where a figure is as wide as a page's text.
const PIXELS: f32 = 3.0;

/// Points of the PDF for each unit of a figure.
const POINTS: f32 = 0.75;

/// A figure for every use.
pub struct Files {
    /// Scalable, needs no type of the reader's.
    pub svg: String,
    /// [`PIXELS`] for each unit.
    pub png: Vec<u8>,
    /// Scalable, its letters still text.
    pub pdf: Vec<u8>,
}

static TYPE: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut known = fontdb::Database::new();
    FONTS.iter().for_each(|font| known.load_font_data(font.to_vec()));
    known.set_sans_serif_family("Inter");
    Arc::new(known)
});

/// Makes the files of a figure; the same figure gives the same bytes.
///
/// # Errors
/// When the SVG is none, or has no area.
pub fn render(svg: &str, title: &str) -> Result<Files> {
    let options = Options { fontdb: TYPE.clone(), font_family: "Inter".into(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).context("reading our own figure")?;
    Ok(Files { svg: outlined(&tree, title), png: png(&tree)?, pdf: pdf(&tree, title)? })
}

fn outlined(tree: &Tree, title: &str) -> String {
    let settings = WriteOptions {
        preserve_text: false,
        coordinates_precision: 3,
        transforms_precision: 5,
        ..WriteOptions::default()
    };
    let text = tree.to_string(&settings);
    match text.find("<svg").and_then(|start| Some(start + text[start..].find('>')? + 1)) {
        Some(end) => format!("{}<title>{}</title>{}", &text[..end], escape(title), &text[end..]),
        None => text,
    }
}

fn png(tree: &Tree) -> Result<Vec<u8>> {
    let pixels = |units: f32| (units * PIXELS).ceil() as u32;
    let size = tree.size();
    let mut picture =
        Pixmap::new(pixels(size.width()), pixels(size.height())).context("a figure without area")?;
    resvg::render(tree, Transform::from_scale(PIXELS, PIXELS), &mut picture.as_mut());
    picture.encode_png().context("encoding a figure as PNG")
}

fn pdf(tree: &Tree, title: &str) -> Result<Vec<u8>> {
    let size = tree.size();
    let (width, height) = (size.width() * POINTS, size.height() * POINTS);
    let mut document = krilla::Document::new();
    document.set_metadata(Metadata::new().title(title.into()));
    let settings = PageSettings::from_wh(width, height).context("a figure without area")?;
    let mut page = document.start_page_with(settings);
    let mut surface = page.surface();
    let size = krilla::geom::Size::from_wh(width, height).context("a figure without area")?;
    let drawn = surface.draw_svg(tree, size, SvgSettings::default());
    surface.finish();
    page.finish();
    drawn.context("a figure that cannot be drawn as PDF")?;
    document.finish().map_err(|e| anyhow::anyhow!("writing a figure as PDF: {e:?}"))
}
