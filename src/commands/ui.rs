//! `pipeline ui`.

use super::output::{print, print_address};
use crate::cli::{Global, UiArguments};
use crate::error::Result;
use crate::ui::{self, Served};

/// Serves the page of the study until somebody stops it, or writes it as files.
pub fn ui(global: &Global, arguments: &UiArguments) -> Result<()> {
    let choice = global.choice();
    if let Some(folder) = &arguments.export {
        let written = ui::export(choice, folder)?;
        return print(&format!("{written}\n"));
    }
    let (host, port, open) = (arguments.host, arguments.port, !arguments.no_open);
    ui::serve(choice, &Served { host, port, open }, print_address)
}
