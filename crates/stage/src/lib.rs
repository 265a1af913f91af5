//! The contract every stage keeps with the runner and with a person at a shell.
//!
//! A stage declares its arguments once, with [`arguments!`]; from that one list come the command line, its
//! `--help`, the checks of types and ranges, and the JSON of `--describe` by which the runner refuses a wrong
//! `pipeline.yaml` before any work. `main` is then the same few lines everywhere:
//!
//! ```no_run
//! # mod encode {
//! #     stage::arguments! {
//! #         /// Encode pictures.
//! #         pub struct Args: "encode" {
//! #             /// Pictures.
//! #             input images: std::path::PathBuf;
//! #         }
//! #     }
//! #     pub fn encode(_: &Args, _: &stage::Context) -> anyhow::Result<()> { Ok(()) }
//! # }
//! fn main() -> std::process::ExitCode {
//!     stage::main(encode::encode)
//! }
//! ```
//!
//! Before any work, what stands at an output is looked at: an earlier output of the same program is replaced when the new one is
//! whole, everything else is refused, as is an output that is, holds or lies in an input. Each output of a declaration says how
//! the program knows its own.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or bad input, 75 try again (also after SIGTERM).

mod arguments;
pub mod check;
mod choice;
mod context;
mod contract;
mod error;
mod files;
mod hash;
mod impostor;
mod layout;
mod place;
mod program;
mod question;
pub mod sharding;
mod spec;
mod staged;
mod staging;
mod state;
mod text;
mod value;
mod values;

pub use arguments::Arguments;
pub use choice::Choice;
pub use context::{Context, Event};
pub use error::{BadInput, BadInputExt, Stopped, TryAgain, exit_code};
pub use files::{read_json, write_atomically, write_json};
pub use hash::{digest, sha256, sha256_while};
pub use impostor::refuse_impostor;
pub use layout::{Known, Layout, MARK as STATE_MARK};
pub use program::{bench, main, main_with};
pub use question::{CHECK, Question};
pub use spec::{Arg, Kind, Role, Spec, nearest};
pub use staged::Staged;
pub use text::{NoText, read_text, text};
pub use value::{Bounds, Value};
pub use values::Values;

#[doc(hidden)]
pub use arguments::paragraphs;
#[doc(hidden)]
pub use {serde, serde_json};
