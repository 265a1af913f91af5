//! `pipeline watch STAGE`.

use crate::cli::Global;
use crate::engine::stop::Stop;
use crate::error::{Error, Result};
use crate::run::stream::Stream;
use crate::run::watch::{self, Watched};
use crate::run::{build, run_name};
use crate::screen::Screen;
use crate::session::Session;
use store::lock;

/// Runs stages on what a running stage has published so far, again and again until it is done; then once more on
/// all that it gave.
pub fn watch(global: &Global, stages: &[String], once: bool) -> Result<()> {
    let mut session = Session::open(&global.options(stages))?;
    session.store.writable()?;
    let places = watch::streams(&session, stages)?;
    let stop = Stop::on_signals()?;
    let screen = Screen::new(false);
    let busy = || screen.say("waiting for a gc of the store");
    let shared = lock::wait(&session.store.lock_of_store(), true, busy, || stop.asked())?;
    let Some(_shared) = shared else { return Err(Error::Interrupted) };
    build::build(&session, &run_name(), &mut Stream::new(Screen::new(false)), &stop)?;
    session.find_programs(false)?;
    let jobs = global.jobs.map(|n| n as usize);
    watch::watch(&mut session, &Watched { stages, places, once, jobs }, &screen, &stop)
}
