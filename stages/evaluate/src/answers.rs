//! The question whether the arguments can be used here, answered without pictures and networks.

use crate::Args;
use stage::check::{Check, judge};
use stage::{CHECK, Question};
use torch::device;

/// What `evaluate` answers in place of scoring.
pub const QUESTIONS: [Question; 1] = [Question {
    name: CHECK,
    help: "Judge the parameters among the other flags, and --device, and print those in force as JSON; needs no pictures",
    answer: |words| {
        judge(words, |args: &Args, _| {
            Ok(Check { warnings: device::missing(args.device).into_iter().collect(), ..Check::default() })
        })
    },
}];
