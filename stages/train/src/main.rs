//! The program `train`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match train::answer(&arguments) {
        None => stage::main(train::train),
        Some(Ok(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Some(Err(e)) => {
            eprintln!("error: {e:#}");
            ExitCode::from(stage::exit_code(&e))
        }
    }
}
