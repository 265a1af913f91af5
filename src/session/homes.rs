//! Where stage programs stand: folders of their own, so that nothing called `train` or `sample` has to be on `PATH`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Names folders of stage programs that come before those of the installation, as `PATH` does.
pub const VARIABLE: &str = "PIPELINE_STAGES";

/// A folder of stage programs.
#[derive(Clone, Debug, PartialEq)]
pub struct Home {
    pub folder: PathBuf,
    pub source: Source,
}

/// Why a folder is looked into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// `build.programs` of the study.
    Build,
    /// [`VARIABLE`].
    Environment,
    /// `libexec/pipeline` of the prefix that has the runner in `bin`.
    Installed,
    /// The folder that cargo built the runner into, which has the stages that it built too.
    BesideRunner,
}

impl Source {
    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "the study's build",
            Self::Environment => VARIABLE,
            Self::Installed => "installed with the runner",
            Self::BesideRunner => "built with the runner",
        }
    }
}

/// The folders in the order in which a program is looked for, after that of a study's build.
pub fn homes(build: Option<PathBuf>) -> Vec<Home> {
    let runner = std::env::current_exe().ok();
    let runner = runner.as_deref().and_then(Path::parent);
    let named = std::env::var_os(VARIABLE).unwrap_or_default();
    // An empty entry would be whatever folder one stands in.
    let named = std::env::split_paths(&named).filter(|path| path.is_absolute()).collect();
    in_order(build, named, runner)
}

fn in_order(build: Option<PathBuf>, named: Vec<PathBuf>, runner: Option<&Path>) -> Vec<Home> {
    let installed = runner.filter(|folder| folder.ends_with("bin")).and_then(Path::parent);
    let installed = installed.map(|prefix| prefix.join("libexec/pipeline"));
    // `target/release`, or `target/TRIPLE/release`: cargo marks what it makes, and locks where it builds.
    let marked = |folder: &&Path| {
        let tagged = folder.ancestors().skip(1).take(2).any(|a| a.join("CACHEDIR.TAG").is_file());
        tagged || folder.join(".cargo-lock").is_file()
    };
    let beside = runner.filter(marked).map(Path::to_path_buf);
    let build = build.map(|folder| (folder, Source::Build));
    let named = named.into_iter().map(|folder| (folder, Source::Environment));
    let installed = installed.map(|folder| (folder, Source::Installed));
    let beside = beside.map(|folder| (folder, Source::BesideRunner));
    let mut homes: Vec<Home> = Vec::new();
    for (folder, source) in build.into_iter().chain(named).chain(installed).chain(beside) {
        if homes.iter().all(|home| home.folder != folder) {
            homes.push(Home { folder, source });
        }
    }
    homes
}

/// The first program of this name in the folders.
pub fn find(name: &str, homes: &[Home]) -> Option<PathBuf> {
    homes.iter().map(|home| home.folder.join(name)).find(|path| is_program(path))
}

/// Every program in the folders by its file name, the first of each name, without the runner's own.
pub fn programs(homes: &[Home]) -> Vec<(String, PathBuf, Source)> {
    let mut found: Vec<(String, PathBuf, Source)> = Vec::new();
    for home in homes {
        let entries = std::fs::read_dir(&home.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        for name in names.into_iter().filter(|name| name != "pipeline") {
            let path = home.folder.join(&name);
            if is_program(&path) && found.iter().all(|(known, ..)| *known != name) {
                found.push((name, path, home.source));
            }
        }
    }
    found
}

/// What is said to who looks for a stage program where there are none at all: a release has another archive with the stages.
pub fn alone(homes: &[Home]) -> Option<String> {
    programs(homes).is_empty().then(|| {
        format!(
            "this is the runner alone, and `switch-dit-{}-x86_64-linux.tar.gz` of the same release has the stages of \
             Switch-DiT beside it",
            env!("CARGO_PKG_VERSION")
        )
    })
}

/// Whether a path is a file that may be executed.
pub fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(homes: &[Home]) -> Vec<(&str, Source)> {
        homes.iter().map(|home| (home.folder.to_str().unwrap_or_default(), home.source)).collect()
    }

    #[test]
    fn the_study_comes_first_and_no_folder_twice() {
        let homes = in_order(Some("/s/programs".into()), vec!["/a".into(), "/s/programs".into()], None);
        assert_eq!(shown(&homes), [("/s/programs", Source::Build), ("/a", Source::Environment)]);
        let homes = in_order(None, vec![], Some(Path::new("/usr/local/bin")));
        assert_eq!(shown(&homes), [("/usr/local/libexec/pipeline", Source::Installed)]);
    }

    #[test]
    fn beside_the_runner_only_where_cargo_built_it() {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("target/release");
        std::fs::create_dir_all(&release).unwrap();
        assert_eq!(in_order(None, vec![], Some(&release)), []);
        // A folder that was there before cargo has no tag.
        for mark in ["target/CACHEDIR.TAG", "target/release/.cargo-lock"] {
            let mark = folder.path().join(mark);
            std::fs::write(&mark, "").unwrap();
            let homes = in_order(None, vec![], Some(&release));
            assert_eq!(shown(&homes), [(release.to_str().unwrap(), Source::BesideRunner)]);
            std::fs::remove_file(&mark).unwrap();
        }
    }
}
