//! What the kernel's notices say of a watched directory: which files may have another content, or that anything may be
//! different. Reading is in `scan.rs`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use crate::source::listing::{is_read_directory, is_read_file};

/// What may be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Notice {
    /// Nothing.
    #[default]
    Nothing,
    /// What these files say, each relative to the directory.
    Files(BTreeSet<String>),
    /// Anything.
    Anything,
}

/// What is at a path now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or a file with nothing but itself to it.
    Plain,
    /// A link, a directory, or what cannot be told.
    Other,
}

impl Notice {
    /// What an event says of a directory, `find` telling what is at a path.
    pub fn of(root: &Path, event: &Event, find: impl Fn(&Path) -> Found) -> Self {
        if event.need_rescan() {
            return Self::Anything;
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(
                RenameMode::From | RenameMode::To | RenameMode::Both,
            ))
            | EventKind::Modify(ModifyKind::Metadata(_))
            | EventKind::Create(_) => {
                let mut all = Self::Nothing;
                for path in &event.paths {
                    all.add(Self::of_path(root, path, &find));
                }
                all
            }
            // Writes count when the file is closed, since what is half written is not meant yet.
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => Self::Nothing,
            EventKind::Modify(ModifyKind::Name(_) | ModifyKind::Any | ModifyKind::Other)
            | EventKind::Remove(_)
            | EventKind::Any
            | EventKind::Other => Self::Anything,
        }
    }

    fn of_path(root: &Path, path: &Path, find: impl Fn(&Path) -> Found) -> Self {
        match relative(root, path) {
            Some(Name::Read(file)) => Self::Files(BTreeSet::from([file])),
            // What editors and atomic writers leave for a moment; but links to files may lead through such names.
            Some(Name::Other) => match find(path) {
                Found::Plain => Self::Nothing,
                Found::Other => Self::Anything,
            },
            None => Self::Anything,
        }
    }

    /// Both.
    pub fn add(&mut self, other: Self) {
        match (self, other) {
            (Self::Anything, _) | (_, Self::Nothing) => {}
            (Self::Files(files), Self::Files(more)) => files.extend(more),
            (this, other) => *this = other,
        }
    }
}

enum Name {
    /// Of a file that is read, relative to the directory.
    Read(String),
    /// Of one that is not.
    Other,
}

/// `None`: it is none below the directory.
fn relative(root: &Path, path: &Path) -> Option<Name> {
    let below = path.strip_prefix(root).ok()?;
    let mut names = Vec::new();
    for component in below.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => {
                return None;
            }
        }
    }
    let (file, directories) = names.split_last()?;
    let is_read = is_read_file(file) && directories.iter().all(|name| is_read_directory(name));
    Some(if is_read { Name::Read(names.join("/")) } else { Name::Other })
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;

    fn files(names: &[&str]) -> Notice {
        Notice::Files(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn an_event_says_what_may_be_different() {
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let renamed = |mode| EventKind::Modify(ModifyKind::Name(mode));
        for (case, kind, paths, expected) in [
            ("written", written, vec!["/m/a.yaml"], files(&["a.yaml"])),
            ("further below", written, vec!["/m/b/c.yml"], files(&["b/c.yml"])),
            ("generated", written, vec!["/m/.generated/a.json"], files(&[".generated/a.json"])),
            ("a part", written, vec!["/m/.a.yaml.part"], Notice::Nothing),
            ("another kind of file", written, vec!["/m/README"], Notice::Nothing),
            ("in a hidden directory", written, vec!["/m/.git/a.yaml"], Notice::Nothing),
            (
                "put in place",
                renamed(RenameMode::Both),
                vec!["/m/.a.yaml.part", "/m/a.yaml"],
                files(&["a.yaml"]),
            ),
            (
                "another name",
                renamed(RenameMode::Both),
                vec!["/m/a.yaml", "/m/b.yaml"],
                files(&["a.yaml", "b.yaml"]),
            ),
            ("a link", renamed(RenameMode::To), vec!["/m/..data"], Notice::Anything),
            (
                "a directory",
                EventKind::Create(CreateKind::Folder),
                vec!["/m/new"],
                Notice::Anything,
            ),
            ("elsewhere", written, vec!["/n/a.yaml"], Notice::Anything),
            (
                "itself",
                EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)),
                vec!["/m"],
                Notice::Anything,
            ),
            ("gone", EventKind::Remove(RemoveKind::File), vec!["/m/a.yaml"], Notice::Anything),
            ("not known", EventKind::Any, vec![], Notice::Anything),
            (
                "half written",
                EventKind::Modify(ModifyKind::Data(DataChange::Any)),
                vec!["/m/a.yaml"],
                Notice::Nothing,
            ),
        ] {
            let event =
                paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()));
            let find = |path: &Path| match path.to_str() {
                Some("/m/..data" | "/m/new") => Found::Other,
                Some(_) | None => Found::Plain,
            };
            assert_eq!(Notice::of(Path::new("/m"), &event, find), expected, "case: {case}");
        }
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(Notice::of(Path::new("/m"), &lost, |_| Found::Plain), Notice::Anything);
    }

    #[test]
    fn notices_add_up() {
        for (case, one, other, expected) in [
            ("nothing", Notice::Nothing, Notice::Nothing, Notice::Nothing),
            ("a file", Notice::Nothing, files(&["a"]), files(&["a"])),
            ("and nothing", files(&["a"]), Notice::Nothing, files(&["a"])),
            ("two", files(&["a"]), files(&["b"]), files(&["a", "b"])),
            ("anything", files(&["a"]), Notice::Anything, Notice::Anything),
            ("no more than that", Notice::Anything, files(&["a"]), Notice::Anything),
        ] {
            let mut both = one;
            both.add(other);
            assert_eq!(both, expected, "case: {case}");
        }
    }
}
