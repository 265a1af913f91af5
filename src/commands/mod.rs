//! One file for each command.

mod accept;
mod check;
mod clusters;
mod cost;
mod diff;
mod export;
mod gc;
mod graph;
mod init;
mod lock;
mod log;
mod output;
mod plan;
mod pull;
mod push;
mod run;
mod runs;
mod stage;
mod table;
mod transfers;
mod ui;
mod verify;
mod watch;
mod why;

use crate::cli::{Cli, Command};
use crate::error::{Error, Result};
use output::{print, print_json};

/// Does what the command line says.
pub fn call(cli: &Cli) -> Result<()> {
    let global = &cli.global;
    match &cli.command {
        Command::Run(arguments) => run::run(global, arguments),
        Command::Clusters { name } => clusters::clusters(global, name.as_deref()),
        Command::Accept { stages } => accept::accept(global, stages),
        Command::Plan { stages, cost } => plan::plan(global, stages, *cost),
        Command::Push { stages } => push::push(global, stages),
        Command::Pull { stages } => pull::pull(global, stages),
        Command::Watch { stages, once } => watch::watch(global, stages, *once),
        Command::Export { what, archive } => export::export(global, what, archive),
        Command::Import { archive } => export::import(global, archive),
        Command::Why { stage } => why::why(global, stage),
        Command::Diff { a, b } => diff::diff(global, a, b),
        Command::Runs { run, all } => runs::runs(global, run.as_deref(), *all),
        Command::Table(arguments) => table::table(global, arguments),
        Command::Ui(arguments) => ui::ui(global, arguments),
        Command::Graph { format } => graph::graph(global, *format),
        Command::Log { stage, rank } => log::log(global, stage, *rank),
        Command::Stage { list: true, .. } => stage::list(global),
        Command::Stage { words, .. } => stage::stage(global, words),
        Command::Check => check::check(global),
        Command::Gc(limits) => gc::gc(global, limits),
        Command::Verify => verify::verify(global),
        Command::Lock => lock::lock(global),
        Command::Init => init::init(global),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut Cli::grammar(), "pipeline", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Schema => print_json(&study::schema::schema()),
        Command::Man => {
            let mut text = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::grammar()).render(&mut text);
            rendered.map_err(Error::Manual)?;
            print(&String::from_utf8_lossy(&text))
        }
    }
}
