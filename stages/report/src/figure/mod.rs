//! Figures: written once as SVG with every colour in it, and from that as SVG without text, as PNG and as PDF.

pub mod chart;
pub mod letters;
pub mod looks;
pub mod raster;
pub mod render;
pub mod svg;
