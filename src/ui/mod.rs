//! The page of a study: what `pipeline ui` serves to a browser, or writes as files.
//!
//! It shows, and does nothing else: no program of the study is started, no result or record changed. What it tells the page is one
//! JSON value for each name (`resources.rs`), and a stream of what changes (`watcher.rs`).

mod assets;
mod by_hand;
mod content;
mod curves;
mod export;
mod growing;
mod guard;
mod journals;
mod known;
pub mod log;
mod long;
mod parquet;
mod parts;
mod past;
mod picture;
mod plain;
mod resources;
mod row;
mod server;
mod site;
mod slug;
mod state;
mod step;
mod tabled;
mod task;
mod tensors;
mod watcher;

pub use export::export;
pub use parquet::{WORD as PARQUET, main as read_parquet};
pub use server::{Served, serve};
