//! Typed arguments, declared once.

use crate::question::Question;
use crate::spec::{Kind, Role, Spec};
use crate::{BadInput, Known, Layout, nearest};
use anyhow::Result;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::ops::{RangeFrom, RangeInclusive};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The arguments of one stage; implemented by [`arguments!`](crate::arguments).
pub trait Arguments: Sized {
    /// What `--describe` prints.
    fn spec() -> Spec;

    /// The typed struct, from checked texts.
    ///
    /// # Errors
    /// When a value is missing or of the wrong type.
    fn from_values(values: &Values) -> Result<Self>;

    /// How an earlier output of this program is known; none for what is no output.
    fn known(name: &str) -> Option<Known<Self>>;

    /// What the program keeps in its state folder; none where it cannot go on.
    fn state() -> Option<Layout>;
}

/// A type that an argument may have.
pub trait Value: Sized {
    /// Its type in `--describe`.
    fn kind() -> Kind;
    /// Whether an argument of this type without a default must be given.
    const REQUIRED: bool = true;
    /// Reads it from the command line.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn parse(text: &str) -> Result<Self, String>;
    /// The value when none is given and none is required.
    fn absent() -> Option<Self> {
        None
    }
    /// The value as JSON, for defaults.
    fn json(&self) -> Json;
}

/// A range of an argument: `1..=100` or `1..`.
pub trait Bounds {
    /// `kind` with this range.
    fn apply(&self, kind: Kind) -> Kind;
}

macro_rules! bounds {
    ($t:ty) => {
        impl Bounds for RangeInclusive<$t> {
            fn apply(&self, kind: Kind) -> Kind {
                bounded(kind, *self.start() as f64, Some(*self.end() as f64))
            }
        }
        impl Bounds for RangeFrom<$t> {
            fn apply(&self, kind: Kind) -> Kind {
                bounded(kind, self.start as f64, None)
            }
        }
    };
}
// The type of a bare literal.
bounds!(i32);

macro_rules! numbers {
    ($variant:ident, $wide:ty, $($t:ty),*) => {$(
        impl Value for $t {
            fn kind() -> Kind { numbers!(@kind $variant, $t) }
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|e| format!("`{text}`: {e}"))
            }
            fn json(&self) -> Json { Json::from(*self) }
        }
        bounds!($t);
    )*};
    (@kind Integer, $t:ty) => { Kind::Integer { min: (<$t>::MIN == 0).then_some(0), max: None } };
    (@kind Number, $t:ty) => { Kind::Number { min: None, max: None } };
}
numbers!(Integer, i64, u32, u64, usize, i64);
numbers!(Number, f64, f64);

fn bounded(kind: Kind, low: f64, high: Option<f64>) -> Kind {
    match kind {
        Kind::Integer { .. } => Kind::Integer { min: Some(low as i64), max: high.map(|h| h as i64) },
        Kind::Number { .. } => Kind::Number { min: Some(low), max: high },
        Kind::List { of } => Kind::List { of: Box::new(bounded(*of, low, high)) },
        other => other,
    }
}

impl Value for bool {
    fn kind() -> Kind {
        Kind::Flag
    }
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
    }
    fn json(&self) -> Json {
        (*self).into()
    }
}

impl Value for String {
    fn kind() -> Kind {
        Kind::Text
    }
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }
    fn json(&self) -> Json {
        self.clone().into()
    }
}

impl Value for PathBuf {
    fn kind() -> Kind {
        Kind::Path
    }
    fn parse(text: &str) -> Result<Self, String> {
        Ok(path(text))
    }
    fn json(&self) -> Json {
        self.to_string_lossy().into()
    }
}

/// A path without a slash at its end, behind which a link would be taken for what it leads to.
pub(crate) fn path(text: &str) -> PathBuf {
    Path::new(text).components().collect()
}

impl<T: Value> Value for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }
    const REQUIRED: bool = false;
    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn json(&self) -> Json {
        self.as_ref().map_or(Json::Null, T::json)
    }
}

impl<T: Value> Value for Vec<T> {
    fn kind() -> Kind {
        Kind::List { of: Box::new(T::kind()) }
    }
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|part| T::parse(part.trim())).collect()
    }
    fn json(&self) -> Json {
        self.iter().map(T::json).collect()
    }
}

/// An enum whose variants are words; implemented by [`choice!`](crate::choice).
pub trait Choice: Sized + Copy + 'static {
    /// Every variant with its word.
    const ALL: &'static [(&'static str, Self)];

    /// Reads a word.
    ///
    /// # Errors
    /// The words there are, and the nearest.
    fn from_word(word: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(w, _)| *w == word);
        found.map(|(_, v)| *v).ok_or_else(|| {
            let near = nearest(word, Self::ALL.iter().map(|(w, _)| *w));
            let words = Self::ALL.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ");
            let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            format!("`{word}` is none of {words}{hint}")
        })
    }
}

/// Declares an enum of words that can be an argument and a field of JSON. The comment on each says to `--help` and `--describe`
/// what it means.
///
/// ```
/// stage::choice! {
///     /// Noise schedule.
///     pub enum Schedule {
///         /// Of improved DDPM.
///         Cosine = "cosine",
///         /// Of DDPM.
///         Linear = "linear",
///     }
/// }
/// assert_eq!(Schedule::Cosine.to_string(), "cosine");
/// ```
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[doc = $meaning:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $($(#[doc = $meaning])+ $variant,)+ }

        impl $crate::Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];
        }
        impl $crate::Value for $name {
            fn kind() -> $crate::Kind {
                $crate::Kind::Choice {
                    values: vec![$($word.to_string(),)+],
                    meanings: vec![$($crate::paragraphs(&[$($meaning),+]),)+],
                }
            }
            fn parse(text: &str) -> Result<Self, String> { <Self as $crate::Choice>::from_word(text) }
            fn json(&self) -> $crate::serde_json::Value { self.to_string().into() }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> $crate::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                <Self as $crate::Choice>::from_word(&word).map_err($crate::serde::de::Error::custom)
            }
        }
    };
}

/// Declares a stage's arguments: role, name, type, default, range, unit, with the help as a doc comment.
///
/// A field `batch_size` is the flag `--batch-size`. `Option` types may be absent. An output says how the program knows what an
/// earlier run has put there, a [`Known`](crate::Known); a program that goes on where it was stopped says what it keeps for that,
/// a [`Layout`](crate::Layout) with the file `made-by`.
///
/// ```
/// use stage::{Known, Layout};
/// const STATE: Layout = Layout::of(&["made-by", "#.parquet"]);
/// const LATENTS: Known<Args> = Known::Folder(Layout::of(&["manifest.json", "#.parquet"]));
///
/// stage::arguments! {
///     /// Encode pictures as VAE latents.
///     pub struct Args: "encode", state STATE {
///         /// Folder of Parquet files with an `image` column.
///         input images: std::path::PathBuf;
///         /// Side of the pictures.
///         param image_size: u32 = 256, in 8..=2048, unit "pixels";
///         /// Folder of shards.
///         output latents: std::path::PathBuf, known LATENTS;
///     }
/// }
/// ```
#[macro_export]
macro_rules! arguments {
    ($(#[doc = $about:literal])* $vis:vis struct $name:ident: $program:literal $(, state $state:path)? {
        $($(#[doc = $help:literal])* $role:ident $field:ident: $ty:ty
            $(= $default:expr)? $(, in $range:expr)? $(, unit $unit:literal)? $(, known $known:path)?;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug)]
        $vis struct $name { $($(#[doc = $help])* pub $field: $ty,)* }

        impl $crate::Arguments for $name {
            fn spec() -> $crate::Spec {
                let arguments = vec![$({
                    let default = None::<$crate::serde_json::Value>$(.or({
                        let value: $ty = $default;
                        Some($crate::Value::json(&value))
                    }))?;
                    let bounds = None::<&dyn $crate::Bounds>$(.or(Some(&($range))))?;
                    let kind = <$ty as $crate::Value>::kind();
                    $crate::Arg {
                        name: stringify!($field).replace('_', "-"),
                        role: $crate::arguments!(@role $role),
                        kind: match bounds {
                            Some(bounds) => bounds.apply(kind),
                            None => kind,
                        },
                        required: default.is_none() && <$ty as $crate::Value>::REQUIRED,
                        default,
                        unit: None::<&str>$(.or(Some($unit)))?.map(String::from),
                        help: $crate::paragraphs(&[$($help),*]),
                    }
                }),*];
                $crate::Spec {
                    name: $program.to_string(),
                    about: $crate::paragraphs(&[$($about),*]),
                    arguments,
                    check: false,
                }
            }
            fn from_values(values: &$crate::Values) -> anyhow::Result<Self> {
                Ok(Self { $($field: values.get(&stringify!($field).replace('_', "-"))?,)* })
            }
            fn known(name: &str) -> Option<$crate::Known<Self>> {
                let name = name.replace('-', "_");
                $(if name == stringify!($field) { return $crate::arguments!(@known $role $($known)?); })*
                None
            }
            fn state() -> Option<$crate::Layout> {
                None$(.or(Some($state)))?
            }
        }
    };
    (@role input) => { $crate::Role::Input };
    (@role param) => { $crate::Role::Param };
    (@role tuning) => { $crate::Role::Tuning };
    (@role output) => { $crate::Role::Output };
    (@known output $known:path) => { Some($known) };
    (@known output) => { compile_error!("an output says how it is known: `, known PATH`") };
    (@known $role:ident) => { None };
}

/// The lines of a doc comment as text: lines of one paragraph joined, paragraphs apart.
#[doc(hidden)]
pub fn paragraphs(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).collect();
    let paragraphs = lines.split(|line| line.is_empty()).filter(|p| !p.is_empty()).map(|p| p.join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// The values given on a command line, and the defaults of the others.
#[derive(Clone, Debug, Default)]
pub struct Values(BTreeMap<String, String>);

impl Values {
    /// Values by flag name, for tests and for callers without a command line.
    ///
    /// # Errors
    /// When a name or a value does not fit the description.
    pub fn new<'a>(spec: &Spec, given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (name, text) in given {
            let arg = spec.argument(name).ok_or_else(|| {
                let near = nearest(name, spec.arguments.iter().map(|a| a.name.as_str()));
                let hint = near.map(|n| format!("; did you mean --{n}?")).unwrap_or_default();
                BadInput(format!("{} has no --{name}{hint}", spec.name))
            })?;
            arg.kind.check(text).map_err(|e| BadInput(format!("--{name}: {e}")))?;
            values.insert(name.to_string(), text.to_string());
        }
        for arg in &spec.arguments {
            if let Some(default) = &arg.default {
                values.entry(arg.name.clone()).or_insert_with(|| plain(default));
            }
        }
        Ok(Self(values))
    }

    /// Parses a command line. `None` when `--help`, `--version` or `--describe` was asked for and answered.
    ///
    /// # Errors
    /// Exit code 2, after the mistake has been printed on one line.
    pub fn from_command_line(
        spec: &Spec,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, ExitCode> {
        Self::parse(spec, &[], arguments)
    }

    /// The same for a program that answers questions, so that `--help` lists them.
    pub(crate) fn parse(
        spec: &Spec,
        questions: &[Question],
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<Self>, ExitCode> {
        let program = std::iter::once(OsString::from(&spec.name));
        let matches = match command(spec, questions).try_get_matches_from(program.chain(arguments)) {
            Ok(matches) => matches,
            Err(e) if e.use_stderr() => {
                let text = e.render().to_string();
                let line: Vec<_> =
                    text.lines().take_while(|l| !l.starts_with("Usage")).map(str::trim).collect();
                eprintln!("{}; see `{} --help`", line.join(" ").trim_end(), spec.name);
                return Err(ExitCode::from(2));
            }
            Err(e) => {
                // `--help` into a closed pipe is no failure.
                let _ = e.print();
                return Ok(None);
            }
        };
        if matches.get_flag("describe") {
            // A reader that closes the pipe early has seen enough.
            let _ = writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(spec).unwrap_or_default());
            return Ok(None);
        }
        let given = spec.arguments.iter().filter_map(|arg| {
            let explicit = matches.value_source(&arg.name) == Some(clap::parser::ValueSource::CommandLine);
            let text = matches.get_one::<String>(&arg.name).filter(|_| explicit)?;
            Some((arg.name.as_str(), text.as_str()))
        });
        Self::new(spec, given).map(Some).map_err(|e| {
            eprintln!("error: {e:#}");
            ExitCode::from(2)
        })
    }

    /// The text of an argument, given or default.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The typed value of an argument.
    ///
    /// # Errors
    /// When it is required and missing, or does not parse.
    pub fn get<T: Value>(&self, name: &str) -> Result<T> {
        match self.text(name) {
            Some(text) => Ok(T::parse(text).map_err(|e| BadInput(format!("--{name}: {e}")))?),
            None => Ok(T::absent().ok_or_else(|| BadInput(format!("--{name} is missing")))?),
        }
    }
}

/// The text of a default as it would stand on a command line.
fn plain(json: &Json) -> String {
    match json {
        Json::String(s) => s.clone(),
        Json::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn command(spec: &Spec, questions: &[Question]) -> clap::Command {
    let describe = clap::Arg::new("describe")
        .long("describe")
        .action(clap::ArgAction::SetTrue)
        .exclusive(true)
        .help("Print the arguments as JSON: roles, types, ranges, defaults, units");
    let mut command = clap::Command::new(spec.name.clone())
        .about(spec.about.clone())
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "An output is put in its place when it is whole. What is there already is replaced where this program made it, and \
             refused (exit code 2) where it holds anything else; so is an output that is, holds or lies in an input.\n\
             Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 75 try again (also when stopped by SIGTERM).\n\
             Environment: PIPELINE_EVENTS names a file for progress as JSON lines, PIPELINE_STATE a folder to resume from.",
        )
        .arg(describe);
    for question in questions {
        let flag = clap::Arg::new(question.name).long(question.name).help(question.help);
        command = command.arg(flag.action(clap::ArgAction::SetTrue).help_heading("Questions"));
    }
    for arg in &spec.arguments {
        let notes = [
            arg.kind.range(),
            arg.unit.clone(),
            arg.default.as_ref().map(|d| format!("default {}", plain(d))),
        ];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        let mut help = match notes.as_slice() {
            [] => arg.help.clone(),
            notes => format!("{} [{}]", arg.help, notes.join("; ")),
        };
        arg.kind.meanings().for_each(|(word, meaning)| help += &format!("\n- {word}: {meaning}"));
        let mut flag = clap::Arg::new(arg.name.clone())
            .long(arg.name.clone())
            .value_name(arg.kind.placeholder())
            .allow_hyphen_values(matches!(arg.kind, Kind::Integer { .. } | Kind::Number { .. }))
            .required(arg.required)
            .help(help)
            .help_heading(match arg.role {
                Role::Input => "Inputs",
                Role::Param => "Parameters (change the result)",
                Role::Tuning => "Tuning (changes only the speed)",
                Role::Output => "Outputs",
            });
        if arg.kind == Kind::Flag {
            flag = flag.num_args(0..=1).default_missing_value("true");
        }
        command = command.arg(flag);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
