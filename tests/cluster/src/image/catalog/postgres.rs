//! An image of the PostgreSQL that is installed on this machine: the commonest of the protocols in which the server speaks
//! first or the client begins with something that is neither TLS nor HTTP.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::image::{Entry, Image, Settings, program};

/// An installed PostgreSQL, as Debian lays it out.
pub(super) struct Installation {
    version: String,
}

impl Installation {
    /// The newest, if there is one.
    pub(super) fn find() -> Option<Self> {
        let entries = fs::read_dir(PROGRAMS).ok()?.filter_map(Result::ok);
        let versions = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let newest = versions.max_by_key(|version| version.parse::<u32>().unwrap_or_default())?;
        let found = Self { version: newest };
        found.program("postgres").exists().then_some(found)
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        Path::new(PROGRAMS).join(&self.version).join("bin").join(name)
    }

    pub(super) fn image(&self, scratch: &TempDir) -> Result<Image> {
        let programs = self.program("");
        let settings = Settings {
            entrypoint: vec!["/start".to_owned()],
            environment: vec![format!("PATH={}:/bin", programs.display())],
            user: USER.to_owned(),
            ..Settings::default()
        };
        let mut image = Image::new(&format!("postgres:{}", self.version), settings);
        super::put_shell(&mut image)?;
        let users = format!("root:x:0:0::/:/bin/sh\npostgres:x:{USER}:{USER}::/data:/bin/sh\n");
        image.put("/etc/passwd", Entry::Text(users, 0o644));
        image.put("/data", Entry::Folder(0o1777));
        image.put("/start", Entry::Text(START.to_owned(), 0o755));
        for name in ["postgres", "initdb", "psql", "pgbench"] {
            let source = self.program(name);
            let at = source.display().to_string();
            program::put(&mut image, &at, &source, scratch)
                .with_context(|| format!("take {at} into the image"))?;
        }
        let libraries = Path::new(PROGRAMS).join(&self.version).join("lib");
        for name in LIBRARIES {
            let library = libraries.join(name);
            program::put_libraries(&mut image, &library)?;
            image.put(library.clone(), Entry::Copy(library));
        }
        put_tree(&mut image, &Path::new(DATA).join(&self.version))?;
        Ok(image)
    }
}

fn put_tree(image: &mut Image, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !LEFT_OUT.iter().any(|name| path.ends_with(name)) {
                put_tree(image, &path)?;
            }
        } else {
            // Some are links to /etc; the image has what they lead to.
            image.put(path.clone(), Entry::Copy(path));
        }
    }
    Ok(())
}

const PROGRAMS: &str = "/usr/lib/postgresql";
const DATA: &str = "/usr/share/postgresql";
/// What a new database takes.
const LIBRARIES: [&str; 3] = ["dict_snowball.so", "plpgsql.so", "libpqwalreceiver.so"];
const LEFT_OUT: [&str; 2] = ["man", "locale"];
const USER: &str = "999";
const START: &str = r#"#!/bin/sh
set -e
if [ ! -s /data/main/PG_VERSION ]; then
    initdb --pgdata=/data/main --username=postgres --auth=trust --no-sync --locale=C --encoding=UTF8
    echo "host all all all trust" >> /data/main/pg_hba.conf
fi
exec postgres -D /data/main -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/tmp "$@"
"#;
