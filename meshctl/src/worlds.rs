//! Which of this user's local meshes a command means.

use std::path::PathBuf;

use heddle_local::state_directory::{self, RunningWorld};

use crate::failure::Failure;

/// The state directory of the mesh that is meant: the one named, or the only one that runs.
pub fn find(name: Option<&str>) -> Result<PathBuf, Failure> {
    let running = state_directory::running_worlds().map_err(|error| {
        let root = state_directory::default_root();
        let remedy = "run it as the user who started the mesh";
        Failure::new(format!("cannot list the local meshes in {}", root.display()), remedy)
            .because(&error)
    })?;
    choose(name, running)
}

/// A name for the mesh of a directory: its last part, without what a file name or host name may not
/// have.
pub fn name_of(directory: &std::path::Path) -> Option<String> {
    let last = directory.file_name()?.to_string_lossy().to_lowercase();
    let name: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_LIMIT)
        .collect();
    let name = name.trim_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Fails when this cannot name a mesh: it names a directory and a host.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = name.starts_with('-') || name.ends_with('-');
    if name.is_empty() || name.len() > NAME_LIMIT || edges || !name.chars().all(good) {
        return Err(Failure::new(
            format!("\"{name}\" cannot name a mesh"),
            format!("give a --name of small letters, digits and `-`, at most {NAME_LIMIT}"),
        ));
    }
    Ok(())
}

fn choose(name: Option<&str>, running: Vec<RunningWorld>) -> Result<PathBuf, Failure> {
    let start = "start one: `meshctl local up DIRECTORY`, or `meshctl demo --keep`";
    let names: Vec<_> = running.iter().map(|world| world.name.as_str()).collect();
    let names = names.join(", ");
    let Some(name) = name else {
        let mut running = running;
        return match (running.pop(), running.is_empty()) {
            (Some(only), true) => Ok(only.state_directory),
            (None, _) => Err(Failure::new("no local mesh of this user runs", start)),
            (Some(_), false) => Err(Failure::new(
                "there are several local meshes",
                format!("give the --name of one: {names}"),
            )),
        };
    };
    match running.iter().find(|world| world.name == name) {
        Some(world) => Ok(world.state_directory.clone()),
        None if running.is_empty() => {
            Err(Failure::new(format!("no local mesh \"{name}\" runs; there is none"), start))
        }
        None => Err(Failure::new(
            format!("no local mesh \"{name}\" runs"),
            format!("give the --name of one that does: {names}"),
        )),
    }
}

/// Leaves room in the path of a Unix socket, which the kernel limits to 107 bytes.
const NAME_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_mesh_that_is_meant_is_named_or_the_only_one() {
        let worlds = |names: &[&str]| -> Vec<_> {
            let world = |name: &&str| RunningWorld {
                name: (*name).to_owned(),
                state_directory: Path::new("/w").join(name),
            };
            names.iter().map(world).collect()
        };
        for (given, there, expected) in [
            (None, worlds(&["shop"]), Ok("/w/shop")),
            (Some("b"), worlds(&["a", "b"]), Ok("/w/b")),
            (None, worlds(&[]), Err("no local mesh of this user runs")),
            (None, worlds(&["a", "b"]), Err("give the --name of one: a, b")),
            (Some("c"), worlds(&["a", "b"]), Err("give the --name of one that does: a, b")),
            (Some("c"), worlds(&[]), Err("there is none")),
        ] {
            match (choose(given, there), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, Path::new(expected)),
                (Err(failure), Err(expected)) => {
                    assert!(failure.to_string().contains(expected), "{failure}");
                }
                (found, expected) => panic!("{given:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn a_mesh_is_named_after_its_directory() {
        for (directory, expected) in [
            ("install/examples/shop", Some("shop")),
            ("/srv/My Shop_2/", Some("my-shop-2")),
            ("..", None),
            ("/", None),
            ("/srv/...", None),
        ] {
            let name = name_of(Path::new(directory));
            assert_eq!(name.as_deref(), expected, "case: {directory}");
            assert!(name.is_none_or(|name| check_name(&name).is_ok()), "case: {directory}");
        }
    }

    #[test]
    fn a_name_that_is_no_directory_and_host_is_refused() {
        for name in ["", "..", "a/b", "-a", "a-", "A", &"x".repeat(41)] {
            assert!(check_name(name).is_err(), "case: {name}");
        }
        assert!(check_name("demo-1").is_ok());
    }
}
