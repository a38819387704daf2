//! A program of this machine in an image: without what only debuggers read, and with the libraries that it loads.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Entry, Image};

/// Puts a program at a path of the image. Stripped copies are kept in `scratch` until the image is written.
pub fn put(image: &mut Image, at: &str, program: &Path, scratch: &TempDir) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let stripped = scratch.path().join(name);
    let status = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&stripped)
        .arg(program)
        .status()
        .context("start strip")?;
    ensure!(status.success(), "strip {}: {status}", program.display());
    image.put(at, Entry::Copy(stripped));
    put_libraries(image, program)
}

/// Puts the libraries of a program or library where the loader looks for them.
pub fn put_libraries(image: &mut Image, program: &Path) -> Result<()> {
    for library in libraries(program)? {
        let source = library.canonicalize();
        let source = source.with_context(|| format!("find {}", library.display()))?;
        image.put(library, Entry::Copy(source));
    }
    Ok(())
}

/// The loader and the libraries of a program; none of one that is linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    // It ends with an error for programs that load nothing.
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("not found"), "{} lacks a library:\n{text}", program.display());
    Ok(parse(&text))
}

/// Lines such as `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x1f)` and `/lib64/ld-linux-x86-64.so.2 (0x1f)`.
fn parse(listing: &str) -> Vec<PathBuf> {
    let words = listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_all_libraries_are_found() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x1)\n\t/lib64/ld-linux-x86-64.so.2 (0x2)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse(listing), expected.map(PathBuf::from));
        assert!(parse("\tnot a dynamic executable\n").is_empty());
    }
}
