//! The store beside a study: blobs by digest, results by action key, and everything a run leaves behind.
//!
//! ```text
//! .pipeline/
//!   format               version of this layout
//!   blobs/3f/…           file contents, read only; `.x` when they may be executed
//!   trees/3f/…           manifests of folders
//!   views/…              folders made of links to blobs; out/ leads here
//!   results/3f/KEY/…     what an action gave; only this makes a result exist
//!   last/STUDY/STAGE.json  the newest success of each stage, for `plan` and `why`
//!   attempts/KEY/        working folder of a running action
//!   state/KEY/           what an interrupted action can go on from; KEY.spent: how long its attempts ran
//!   damaged/ refused/    what was not what its name says; what could not be taken in
//!   logs/RUN/            of each stage STAGE.log, STAGE.events, STAGE.places: what a person calls the paths in both
//!   locks/ runs/ describe/ builds/ statcache
//! ```

pub mod contents;
pub mod digest;
mod error;
mod heal;
pub mod ignore;
mod ingest;
mod kept;
mod key;
mod layout;
mod learned;
pub mod link;
mod links;
mod listing;
pub mod lock;
pub mod manifest;
pub mod name;
mod objects;
pub mod process;
pub mod record;
pub mod small_path;
pub mod statcache;
mod under_way;
pub mod verify;
pub mod walk;

pub use error::{Error, IoContext, Result};
pub use key::{Key, NoKey};
pub use layout::{Area, Store};
pub use objects::{Member, Produced, labels};
