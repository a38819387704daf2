//! Everything that was saved of earlier fuzzing still holds.

use std::path::Path;

use heddle_fuzz::CHECKS;

#[test]
fn the_saved_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for check in CHECKS {
        let folder = corpus.join(check.name);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(files.len() >= 10, "{} has only {} files", folder.display(), files.len());
        for file in files {
            eprintln!("{}", file.display());
            (check.run)(&std::fs::read(file).unwrap());
        }
    }
}
