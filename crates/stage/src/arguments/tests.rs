//! A declaration of every kind of argument, and what command lines give.

use super::*;
use crate::values::command;
use crate::{Kind, Role};
use std::ffi::OsString;
use std::path::PathBuf;

crate::choice! {
    /// Schedule.
    pub enum Schedule {
        /// Cosine.
        Cosine = "cosine",
        /// Linear,
        /// as in the first paper.
        Linear = "linear",
    }
}

crate::arguments! {
    /// Encode
    /// things.
    pub struct Args: "encode" {
        /// Pictures.
        input images: PathBuf;
        /// Side.
        param image_size: u32 = 256, in 8..=2048, unit "pixels";
        /// Schedule.
        param schedule: Schedule = Schedule::Cosine;
        /// Decays.
        param decays: Vec<f64> = vec![0.9, 0.99], in 0.0..=1.0;
        /// Flip.
        param flip: bool = false;
        /// Limit.
        tuning limit: Option<usize>;
        /// Shards.
        output latents: PathBuf, known Known::NEVER;
    }
}

fn parse(line: &str) -> Result<Args> {
    let words = line.split_whitespace().map(OsString::from);
    let values = Values::from_command_line(&Args::spec(), words).map_err(|_| anyhow::anyhow!("usage"))?;
    Args::from_values(&values.expect("values"))
}

#[test]
fn defaults_and_values() {
    let args = parse("--images a --latents b --flip --decays 0.5 --limit 3 --schedule linear").unwrap();
    assert_eq!((args.image_size, args.flip, args.limit), (256, true, Some(3)));
    assert_eq!((args.decays, args.schedule), (vec![0.5], Schedule::Linear));
    assert_eq!((args.images, args.latents), ("a".into(), "b".into()));
    let args = parse("--images a --latents b --flip false").unwrap();
    assert_eq!((args.flip, args.limit, args.decays), (false, None, vec![0.9, 0.99]));
}

#[test]
fn mistakes_are_refused() {
    assert!(parse("--images a").is_err());
    assert!(parse("--images a --latents b --image-size 7").is_err());
    assert!(parse("--images a --latents b --decays 0.5,2").is_err());
    assert!(parse("--images a --latents b --schedule cosin").is_err());
    let e = Values::new(&Args::spec(), [("image-sze", "8")]).unwrap_err();
    assert_eq!(e.to_string(), "encode has no --image-sze; did you mean --image-size?");
}

#[test]
fn the_description_has_everything() {
    let spec = Args::spec();
    let size = spec.argument("image-size").unwrap();
    assert_eq!(size.kind, Kind::Integer { min: Some(8), max: Some(2048) });
    assert_eq!((size.role, size.unit.as_deref(), size.required), (Role::Param, Some("pixels"), false));
    assert!(spec.argument("images").unwrap().required);
    assert!(!spec.argument("limit").unwrap().required);
    assert_eq!(spec.about, "Encode things.");
    let schedule = &spec.argument("schedule").unwrap().kind;
    let meanings = [("cosine", "Cosine."), ("linear", "Linear, as in the first paper.")];
    assert_eq!(schedule.meanings().collect::<Vec<_>>(), meanings);
    let json = serde_json::to_string(schedule).unwrap();
    assert!(json.contains(r#""meanings":["Cosine.","#), "{json}");
    // Programs that do not say what a word means are understood too.
    let other: Kind = serde_json::from_str(r#"{"type": "choice", "values": ["a"]}"#).unwrap();
    assert_eq!((other.check("a"), other.meanings().count()), (Ok(()), 0));
    let help = command(&spec, &[]).render_help().to_string();
    assert!(help.contains("- linear: Linear, as in the first paper."), "{help}");
    command(&spec, &[]).debug_assert();
}
