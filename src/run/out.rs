//! Making `out/` show the newest outputs, and leaving alone what is somebody else's there.

use crate::error::Result;
use crate::session::{Session, StepOutputs};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use store::IoContext;
use store::link;
use store::lock::Lock;
use store::name;

/// So many names are tried for something that is put aside.
const TRIES: u32 = 10_000;

/// What became of `out/`.
#[derive(Debug, Default)]
pub struct Published {
    /// Something else stood there, or nothing.
    pub changed: bool,
    /// What stood there was another output of ours.
    pub replaced: bool,
    /// What was not ours, for people: each was put aside.
    pub aside: Vec<String>,
}

/// Makes `out/` show the outputs of a step, under `out/VARIANT/` for variants.
pub fn publish(session: &Session, i: usize, known: &StepOutputs) -> Result<Published> {
    let step = &session.graph.steps[i];
    let mut published = Published::default();
    for variant in &step.variants {
        let folder = session.graph.root.join(session.published_in(step, variant));
        // Where it really is, once something has to be changed there.
        let mut held: Option<Held> = None;
        for output in &step.outputs {
            let Some(produced) = known.outputs.get(&output.name) else { continue };
            let path = folder.join(&output.file);
            if output.temp && !session.store.materialize(&produced.digest)? {
                // Its content was dropped; a link to nothing would only confuse.
                if ours(session, &path) {
                    link::remove(&path)?;
                }
                continue;
            }
            let place = session.store.place(&produced.digest);
            if shows(&path, &place) {
                continue;
            }
            let held = match &held {
                Some(held) => held,
                None => held.insert(Held::new(session, variant, &step.stage, &mut published)?),
            };
            let path = held.folder.join(&output.file);
            if !shows(&path, &place) {
                let another = ours(session, &path);
                published.replaced |= another;
                if !another {
                    published.aside.extend(clear(&path, |_| false, session)?);
                }
                link::point(&path, &target(&place, &held.folder))?;
                published.changed = true;
            }
        }
    }
    Ok(published)
}

/// The folder of a stage in `out/`, which nobody else changes meanwhile.
struct Held {
    /// Where it really is.
    folder: PathBuf,
    _lock: Option<Lock>,
}

impl Held {
    /// Makes the folder. `out` may itself be a link to another disk, whose links count from where it really is. What lies
    /// in it is not: nothing is written through a link elsewhere.
    fn new(session: &Session, variant: &str, stage: &str, published: &mut Published) -> Result<Self> {
        let lock = session.store.lock_of_out(variant, stage);
        let lock = store::lock::wait(&lock, false, || {}, || false)?;
        let out = session.graph.root.join(&session.graph.out);
        fs::create_dir_all(&out).at("making", &out)?;
        let mut folder = out.canonicalize().at("finding", &out)?;
        for name in [variant, stage].into_iter().filter(|name| !name.is_empty()) {
            folder.push(name);
            published.aside.extend(clear(&folder, |there| there.is_dir(), session)?);
            fs::create_dir_all(&folder).at("making", &folder)?;
        }
        Ok(Self { folder, _lock: lock })
    }
}

/// The link by which something in a folder shows a place of the store.
fn target(place: &Path, folder: &Path) -> PathBuf {
    // There is none only where one of the two is relative.
    pathdiff::diff_paths(place, folder).unwrap_or_else(|| place.to_path_buf())
}

/// Whether a path is the link that shows a place of the store.
fn shows(path: &Path, place: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    fs::read_link(path).is_ok_and(|old| old == target(place, folder))
}

/// Whether a link leads into the store, as only we make them; also one that was moved together with its store.
fn ours(session: &Session, path: &Path) -> bool {
    let Ok(target) = fs::read_link(path) else { return false };
    let store = session.store.path.file_name();
    target.components().any(|part| matches!(part, Component::Normal(name) if Some(name) == store))
}

/// Puts aside what stands at a path, unless it may stay. Returns a line about it.
fn clear(
    path: &Path,
    stays: impl Fn(&fs::Metadata) -> bool,
    session: &Session,
) -> store::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        there => {
            if stays(&there.at("reading", path)?) {
                return Ok(None);
            }
        }
    }
    let file = path.file_name().unwrap_or_default();
    for i in 1..TRIES {
        let ending = if i == 1 { ".kept".to_string() } else { format!(".kept-{i}") };
        // A name that is cut still tells what it was.
        let mut aside = name::fit(file, name::LONGEST - ending.len());
        aside.push(ending);
        let aside = path.with_file_name(aside);
        match rename_new(path, &aside) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).at("putting aside", path),
            Ok(()) => {
                let shown = |path: &Path| {
                    let root = session.graph.root.canonicalize().unwrap_or_default();
                    path.strip_prefix(root).unwrap_or(path).display().to_string()
                };
                return Ok(Some(format!("{} is not the runner's; it is now {}", shown(path), shown(&aside))));
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("putting aside", path)
}

/// Renames something to a name that nothing has.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(e) if e == rustix::io::Errno::INVAL || e == rustix::io::Errno::NOSYS => {
            // Some network file systems cannot do both in one step.
            if fs::symlink_metadata(to).is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        Err(e) => Err(e.into()),
    }
}
