//! The page of `pipeline ui` in a real browser: Chromium, driven by WebDriver.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod compare;
mod contents;
mod digits;
mod driver;
mod exported;
mod follows;
mod hostile;
mod live;
mod logs;
mod page;
mod tables;

#[path = "../runner/study.rs"]
#[expect(dead_code, reason = "the runner's tests use the rest of it")]
mod study;
