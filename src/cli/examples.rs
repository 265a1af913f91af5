//! How each command is used.

/// The commands in the order of their use, each with lines that can be typed.
pub const EXAMPLES: [(&str, &str); 25] = [
    (
        "run",
        "  pipeline run                                  the whole study, with the scores at the end
  pipeline run evaluate                         a stage and what it needs
  pipeline run --set train.iterations=2000      another value, for this run
  pipeline run --variant '*' --keep-going       every variant, whatever fails
  pipeline run --with train.checkpoints=PATH    your files in a stage's place",
    ),
    (
        "plan",
        "  pipeline plan                         every stage: cached, to run or waiting, and why
  pipeline plan --set encode.size=64    what another value would run
  pipeline plan --json                  the same for programs, with keys and files",
    ),
    ("why", "  pipeline why train"),
    (
        "log",
        "  pipeline log train                of its newest attempt, or of what made its restored result
  pipeline log 'score[step-2000]'   of one entry
  pipeline log build",
    ),
    ("check", "  pipeline check\n  pipeline --file other.yaml check --variant '*'"),
    (
        "clusters",
        "  pipeline clusters                  presets for `engine: cluster`
  pipeline clusters grid-engine > ~/.config/pipeline/clusters/grid-engine.yaml",
    ),
    (
        "graph",
        "  pipeline graph                                          Mermaid, for a README
  pipeline graph --format dot | dot -Tsvg > study.svg",
    ),
    (
        "runs",
        "  pipeline runs                  one line each
  pipeline runs baseline         all that is known of the run of `run --name baseline`",
    ),
    (
        "table",
        "  pipeline table --sort fid                              the variants of the study
  pipeline table --filter 'fid<10' --markdown            some of them, for a README
  pipeline table --latex --lowest fid --columns variant,experts,fid
  pipeline table baseline wider                          two past runs",
    ),
    (
        "ui",
        "  pipeline ui                    in the browser, until Ctrl-C
  pipeline ui --port 7000 --no-open        on another machine, then `ssh -L 7000:localhost:7000` to it
  pipeline ui --export site      the same as files, for a repository's pages",
    ),
    (
        "diff",
        "  pipeline diff small large                     two variants
  pipeline diff 20260101T1200 20260102T0900     two runs, by the beginnings of their names",
    ),
    (
        "watch",
        "  pipeline watch evaluate             beside a run of `train` in another terminal
  pipeline watch evaluate --once      what is there now",
    ),
    (
        "stage",
        "  pipeline stage --list                   what there is, and the folders where it is looked for
  pipeline stage train --help             everything behind the name is the program's
  pipeline stage sample --checkpoints out/train/checkpoints --samples pictures",
    ),
    ("accept", "  pipeline accept train               a comment in its program changes nothing"),
    (
        "lock",
        "  pipeline lock && git add pipeline.lock\n  pipeline run --locked     after `lock`: fails where an output is another one",
    ),
    ("push", "  pipeline push --cache s3://bucket/team\n  pipeline push train"),
    ("pull", "  pipeline pull --cache /mnt/team\n  pipeline pull evaluate"),
    (
        "export",
        "  pipeline export digits digits.tar.zst      the study, by its name
  pipeline export 20260101T1200 run.tar.zst  a run, by the beginning of its name",
    ),
    ("import", "  pipeline import digits.tar.zst && pipeline run"),
    ("verify", "  pipeline verify && echo everything is whole"),
    ("gc", "  pipeline gc --dry-run\n  pipeline gc --max-size 20GiB --grace 7d"),
    ("init", "  pipeline init && pipeline run"),
    ("completions", "  pipeline completions bash > ~/.local/share/bash-completion/completions/pipeline"),
    ("schema", "  pipeline schema > pipeline.schema.json"),
    ("man", "  pipeline man > ~/.local/share/man/man1/pipeline.1"),
];
