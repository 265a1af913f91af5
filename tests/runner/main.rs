//! The runner from outside: the real binary with stages of a few lines.

mod caching;
mod faults;
mod mistakes;
mod processes;
mod study;
