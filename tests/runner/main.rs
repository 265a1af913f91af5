//! The runner from outside: the real binary with stages of a few lines.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod across;
mod archive;
mod caching;
mod cluster;
mod consoles;
mod cost;
mod disks;
mod environment;
mod events;
mod everyday;
mod faults;
mod folders;
mod forged;
mod hosts;
mod inputs;
mod judged;
mod keys;
mod kills;
mod locks;
mod lost;
mod mistakes;
mod names;
mod packs;
mod pages;
mod pipelines;
mod places;
mod processes;
mod programs;
mod ranks;
mod record;
mod secrets;
mod seeds;
mod shared;
mod slurm;
mod stages;
mod study;
mod table;
mod temp;
mod terminals;
mod ui;
mod variants;
mod watch;
mod words;
mod workflow;
