//! `pipeline init`.

use super::output::print;
use crate::cli::Global;
use crate::error::{Error, Result};
use store::record;

/// A study that runs as it stands and shows most of what there is.
const STUDY: &str = r#"# A study: programs, what they read, and what they write.
#
#     pipeline plan      says what would run, and why
#     pipeline run       runs it; what is unchanged is taken from the cache
name: example

stages:
  numbers:                        # any program; no shell runs unless it is written
    command: sh -c 'seq "$1" > "$2"' -- ${params.last} ${outputs.list}
    params: {last: 10}            # values that change the result are part of the cache key
    outputs: [list]               # appears as out/numbers/list

  sum:
    command: >
      sh -c 'awk "{ s += \$1 } END { print \"{\\\"sum\\\": \" s \"}\" }" "$1" > "$2"' --
      ${inputs.list} ${outputs.result}
    inputs: {list: numbers.list}  # another stage's output, or a path beside this file
    outputs: {result: result.json}
    show: [result]                # printed when the run is done
    resources: {cpus: 1}          # how many stages fit on the machine at a time

# A stage program that answers --describe needs no command: `run: train` gives it one flag for each input, parameter
# and output, and its parameters are checked before anything runs. `build:` names the command that makes such programs.
"#;

/// Writes a commented study, never over one that is there.
pub fn init(global: &Global) -> Result<()> {
    if global.file.exists() {
        return Err(Error::Exists(global.file.clone()));
    }
    record::write_bytes(&global.file, STUDY.as_bytes(), false)?;
    print(&format!("{}: `pipeline run` runs it\n", global.file.display()))
}
