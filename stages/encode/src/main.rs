//! Encode pictures as VAE latents.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::main(encode::encode)
}
