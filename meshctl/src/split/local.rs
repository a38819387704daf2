//! Changes weights on a local mesh: in the file that it follows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use heddle_local::mesh::Mesh;

use crate::failure::Failure;
use crate::split::arguments::DryRun;
use crate::split::file;
use crate::split::plan::Change;

/// Edits the file, or says what is to be edited where. Gives the file that was, or would be, written.
pub async fn set(
    socket: &Path,
    change: &Change,
    dry_run: Option<DryRun>,
) -> Result<PathBuf, Failure> {
    let path = path(socket, change).await?;
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| {
            let remedy = "check that the file is there, and that you may read it";
            Failure::new(format!("cannot read {}", path.display()), remedy).because(&error)
        })
    };
    let before = read(&path)?;
    let after = file::with_weights(&before, change).map_err(|why| by_hand(&path, change, why))?;
    if dry_run.is_some() || after == before {
        return Ok(path);
    }
    // An editor may have written it meanwhile.
    if read(&path)? != before {
        let remedy = "look at it, and try again";
        return Err(Failure::new(format!("somebody has just changed {}", path.display()), remedy));
    }
    replace(&path, &after).map_err(|error| {
        let remedy = "check that you may write there, and that the disk has room";
        Failure::new(format!("cannot write {}", path.display()), remedy).because(&error)
    })?;
    Ok(path)
}

/// The file in the directory that the mesh was started from, whatever links lead there.
async fn path(socket: &Path, change: &Change) -> Result<PathBuf, Failure> {
    let relative = Path::new(&change.file);
    let unknown = |why: &str| {
        let remedy = format!("edit {} of {} there", change.place.pointer(), change.title());
        let failure =
            Failure::new(format!("cannot tell which file of yours has {}", change.title()), remedy);
        failure.because_of(format!("the control plane reads it from {}; {why}", change.file))
    };
    if change.file.is_empty() || change.file.starts_with('.') {
        return Err(unknown("which is none of yours"));
    }
    let state = socket.parent().unwrap_or(Path::new("."));
    let mesh = Mesh::attach(state.to_owned()).await;
    let mesh =
        mesh.map_err(|error| unknown(&format!("no local mesh answers beside it: {error}")))?;
    let status = mesh.status().await;
    let status =
        status.map_err(|error| unknown(&format!("the local mesh does not answer: {error}")))?;
    let path = status.directory.join(relative);
    path.canonicalize().map_err(|error| unknown(&format!("{}: {error}", path.display())))
}

fn by_hand(path: &Path, change: &Change, why: String) -> Failure {
    let weights: Vec<String> =
        change.weights.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
    let remedy = format!(
        "edit {} of {} in {} by hand: {}",
        change.place.pointer(),
        change.title(),
        path.display(),
        weights.join(", ")
    );
    Failure::new(format!("the weights in {} cannot be changed safely", path.display()), remedy)
        .because_of(why)
}

/// In one step: whoever reads sees the old content or the new one. The half of it that exists for a moment has a hidden
/// name, which no local mesh reads.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = fs::write(&part, text)
        .and_then(|()| fs::set_permissions(&part, fs::metadata(path)?.permissions()))
        .and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}
