//! Typed arguments, declared once.

use crate::spec::Spec;
use crate::{Known, Layout, Values};
use anyhow::Result;

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

/// Declares a stage's arguments: role, name, type, default, range, unit, with the help as a doc comment.
///
/// A field `batch_size` is the flag `--batch-size`. `Option` types may be absent. An output says how the program knows what an
/// earlier run has put there, a [`Known`](crate::Known); a program that goes on where it was stopped says what it keeps for that,
/// a [`Layout`](crate::Layout) with the file `made-by`. What `--check` looks at beside the parameters is a `judged_input` or a
/// `judged_tuning`.
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
                        judged: $crate::arguments!(@judged $role),
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
    (@role judged_input) => { $crate::Role::Input };
    (@role judged_tuning) => { $crate::Role::Tuning };
    (@role param) => { $crate::Role::Param };
    (@role tuning) => { $crate::Role::Tuning };
    (@role output) => { $crate::Role::Output };
    (@judged judged_input) => { true };
    (@judged judged_tuning) => { true };
    (@judged $role:ident) => { false };
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

#[cfg(test)]
mod tests;
