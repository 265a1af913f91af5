//! `download` from folders as people have them.

#![expect(clippy::unwrap_used, reason = "a test whose set-up fails has failed")]

mod annotations;
mod columns;
mod files;
mod folders;
mod limits;
mod splits;
mod support;
