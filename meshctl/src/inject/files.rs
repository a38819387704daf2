//! What `-f` names: a file, standard input, or the YAML and JSON files of a directory, in the order of their names.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::arguments::Files;
use crate::failure::Failure;

/// One text, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its path, or `standard input`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Reads everything that is named.
pub fn read(files: &Files) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    for path in &files.filename {
        if path == Path::new("-") {
            let mut text = String::new();
            let read = io::stdin().lock().take(SIZE_LIMIT_BYTES).read_to_string(&mut text);
            read.map_err(|error| unreadable("standard input", &error))?;
            inputs.push(Input { name: "standard input".to_owned(), text });
            continue;
        }
        for path in below(path, files.recursive)? {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&name, &error))?;
            inputs.push(Input { name, text });
        }
    }
    Ok(inputs)
}

/// The file itself, or the files of the directory.
fn below(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| unreadable(&name, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&name, &error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&name, &error))?;
            let path = entry.path();
            if kind.is_dir() && recursive {
                folders.push(path);
            } else if !kind.is_dir() && is_manifest(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        let remedy = "name a file, or a directory with files that end in .yaml, .yml or .json (-R looks below)";
        return Err(Failure::new(format!("there is nothing to read in {name}"), remedy));
    }
    Ok(found)
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot read {name}"), "check the path and its permissions").because(error)
}

/// Of standard input: more is no manifest.
const SIZE_LIMIT_BYTES: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn files(paths: &[&Path], recursive: bool) -> Files {
        Files { filename: paths.iter().map(|path| (*path).to_owned()).collect(), recursive }
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_names() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("below")).unwrap();
        for name in ["b.yaml", "a.json", "c.txt", "below/d.yml"] {
            fs::write(place.path().join(name), name).unwrap();
        }
        let texts = |recursive| {
            let inputs = read(&files(&[place.path()], recursive)).unwrap();
            inputs.into_iter().map(|input| input.text).collect::<Vec<_>>()
        };
        assert_eq!(texts(false), ["a.json", "b.yaml"]);
        assert_eq!(texts(true), ["a.json", "b.yaml", "below/d.yml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let place = tempfile::tempdir().unwrap();
        let absent = place.path().join("absent.yaml");
        for path in [place.path(), absent.as_path()] {
            let failure = read(&files(&[path], false)).unwrap_err().to_string();
            assert!(failure.contains(&path.display().to_string()), "{failure}");
        }
    }
}
