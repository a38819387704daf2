//! Tests of what a scan finds.

use super::*;
use crate::source::Unit;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";

fn applied(scanned: &Scanned) -> Vec<String> {
    let show = |event: &Event| match event {
        Event::Applied(object) => format!("applied {}", object.place.file()),
        Event::Deleted(reference) => format!("deleted {}", reference.name),
        Event::Failed { unit: Unit::File(file), failures } => {
            format!("failed {file} {}", failures.len())
        }
        Event::Failed { unit: Unit::Object(reference), .. } => panic!("{reference}"),
        Event::Synced => "synced".to_owned(),
    };
    scanned.events.iter().map(show).collect()
}

/// The manifests are in it; the copies of good ones are beside it.
struct Root(tempfile::TempDir);

impl Root {
    fn path(&self) -> PathBuf {
        self.0.path().join("manifests")
    }

    fn copies(&self) -> PathBuf {
        self.0.path().join("last-good")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).unwrap();
    }
}

fn manifests() -> Root {
    let root = Root(tempfile::tempdir().unwrap());
    fs::create_dir(root.path()).unwrap();
    root
}

fn scan_of(directory: PathBuf, root: &Root) -> Scan {
    Scan::new(directory, LastGood::new(root.copies(), "cluster.local".parse().unwrap()))
}

fn scan(root: &Root) -> Scan {
    scan_of(root.path(), root)
}

fn now() -> SystemTime {
    heddle_runtime::clock::now()
}

/// All that it tells, whether early or not.
fn run(scan: &mut Scan, at: SystemTime) -> io::Result<Scanned> {
    let mut events = Vec::new();
    let scanned = scan.run(at, &mut |piece| events.extend(piece))?;
    events.extend(scanned.events);
    Ok(Scanned { events, again: scanned.again })
}

#[test]
fn what_there_is_at_first_is_told_in_pieces_and_once() {
    let root = manifests();
    let count = PIECE_FILES * 3 + 1;
    let twice = count - 2;
    for index in 0..count {
        let name = if index == twice { 0 } else { index };
        root.write(&format!("{index:04}.yaml"), &SERVICE.replace("a}", &format!("a{name}}}")));
    }
    for (case, news) in [("the first life", count - 1), ("another life", count - 1)] {
        let mut pieces = Vec::new();
        let mut scan = scan(&root);
        let scanned = scan.run(now(), &mut |piece| pieces.push(piece)).unwrap();
        let least =
            pieces.iter().filter(|piece| !piece.is_empty()).map(Vec::len).collect::<Vec<_>>();
        assert!(least.len() >= 3 && least.iter().all(|of| *of <= PIECE_FILES + 1), "case: {case}");
        let all = pieces.iter().flatten().chain(&scanned.events);
        let is_applied = |event: &&Event| matches!(event, Event::Applied(_));
        let failed = all.clone().filter(|event| matches!(event, Event::Failed { .. })).count();
        assert_eq!(all.filter(is_applied).count(), news, "case: {case}");
        assert_eq!(failed, 1, "case: {case}: two files define one object");
    }
}

#[test]
fn only_the_files_that_count_are_read() {
    let root = manifests();
    for (index, file) in
        ["a.yaml", ".b.yaml.tmp", ".b.yaml", "c.txt", "d/e.yml", ".git/x.yaml", ".generated/f.json"]
            .iter()
            .enumerate()
    {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, SERVICE.replace("a}", &format!("a{index}}}"))).unwrap();
    }
    let mut scan = scan(&root);
    let scanned = run(&mut scan, now()).unwrap();
    assert_eq!(
        applied(&scanned),
        ["applied a.yaml", "applied d/e.yml", "applied .generated/f.json"]
    );
}

#[test]
fn a_file_that_is_being_rewritten_does_not_lose_its_objects() {
    let root = manifests();
    let path = root.path().join("a.yaml");
    fs::write(&path, SERVICE).unwrap();
    let mut scan = scan(&root);
    assert!(run(&mut scan, now()).unwrap().again);
    fs::write(&path, "").unwrap();
    let scanned = run(&mut scan, now()).unwrap();
    assert!(scanned.again && scanned.events.is_empty());
    assert!(run(&mut scan, now() + FRESH * 2).unwrap().events.is_empty());
    let later = now() + EMPTY_PATIENCE * 2;
    assert_eq!(applied(&run(&mut scan, later).unwrap()), ["deleted a"]);
    assert!(!run(&mut scan, later).unwrap().again);
}

#[test]
fn a_directory_that_vanished_changes_nothing() {
    let root = manifests();
    let directory = root.path().join("d");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), SERVICE).unwrap();
    let mut scan = scan_of(directory.clone(), &root);
    run(&mut scan, now()).unwrap();
    fs::rename(&directory, root.path().join("e")).unwrap();
    assert!(run(&mut scan, now()).is_err());
    fs::rename(root.path().join("e"), &directory).unwrap();
    assert!(run(&mut scan, now()).unwrap().events.is_empty());
}

const SPLIT: &str = "apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: split}
spec: {service: api, backends: [{service: api-v1, weight: 90}]}
";

/// What a control plane tells that starts when the file holds `text` and was `good` before.
fn after_restart(good: &str, text: &str) -> Vec<String> {
    let root = manifests();
    fs::create_dir(root.path().join("d")).unwrap();
    root.write("d/a.yaml", good);
    run(&mut scan(&root), now()).unwrap();
    root.write("d/a.yaml", text);
    // The present life does not matter: it may end at any moment.
    run(&mut scan(&root), now()).unwrap();
    applied(&run(&mut scan(&root), now()).unwrap())
}

#[test]
fn a_restart_while_a_file_is_broken_changes_nothing() {
    let good = format!("{SERVICE}---\n{SPLIT}");
    let both = ["applied d/a.yaml", "applied d/a.yaml"];
    for (case, broken, more) in [
        ("no YAML", "{".to_owned(), "failed d/a.yaml 1"),
        ("a misspelt field", good.replace("spec:", "sepc:"), "failed d/a.yaml 1"),
        // The index refuses the newer one and keeps the first.
        ("no meaning", good.replace("90", "-1"), "applied d/a.yaml"),
        ("emptied a moment ago", String::new(), ""),
    ] {
        let mut expected = both.to_vec();
        expected.extend(Some(more).filter(|more| !more.is_empty()));
        assert_eq!(after_restart(&good, &broken), expected, "case: {case}");
    }
    assert_eq!(after_restart(&good, SERVICE), ["applied d/a.yaml"], "case: good again");
}

#[test]
fn copies_are_their_owners_alone_and_end_with_their_files() {
    use std::os::unix::fs::PermissionsExt;

    let root = manifests();
    fs::create_dir(root.path().join("d")).unwrap();
    root.write("d/a.yaml", SERVICE);
    let mut first = scan(&root);
    run(&mut first, now()).unwrap();
    let copy = root.copies().join("d/a.yaml");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&root.copies()), mode(&copy)), (0o700, 0o600));
    fs::remove_file(root.path().join("d/a.yaml")).unwrap();
    assert_eq!(applied(&run(&mut first, now()).unwrap()), ["deleted a"]);
    assert!(!copy.exists() && !root.copies().join("d").exists());

    root.write("b.yaml", SERVICE);
    run(&mut scan(&root), now()).unwrap();
    fs::remove_file(root.path().join("b.yaml")).unwrap();
    assert!(run(&mut scan(&root), now()).unwrap().events.is_empty());
    assert!(!root.copies().join("b.yaml").exists());
}

#[test]
fn a_broken_file_keeps_its_objects_when_it_gets_another_name() {
    let root = manifests();
    root.write("a.yaml", SERVICE);
    let mut first = scan(&root);
    run(&mut first, now()).unwrap();
    root.write("a.yaml", "{");
    run(&mut first, now()).unwrap();
    fs::rename(root.path().join("a.yaml"), root.path().join("b.yaml")).unwrap();
    assert_eq!(applied(&run(&mut first, now()).unwrap()), ["failed a.yaml 0", "failed b.yaml 1"]);
    assert_eq!(
        applied(&run(&mut scan(&root), now()).unwrap()),
        ["applied b.yaml", "failed b.yaml 1"]
    );
}

#[test]
fn a_directory_that_cannot_be_listed_keeps_its_files_and_holds_up_no_others() {
    let root = manifests();
    fs::create_dir(root.path().join("d")).unwrap();
    root.write("d/a.yaml", SERVICE);
    let mut scan = scan(&root);
    run(&mut scan, now()).unwrap();
    root.write("b.yaml", &SERVICE.replace("a}", "b}"));
    let mut listing = Listing { files: vec!["b.yaml".into()], ..Listing::default() };
    listing.unreadable.insert("d/".into(), io::ErrorKind::PermissionDenied.into());
    let scanned = scan.take_in(listing, now(), &mut |_| {});
    assert_eq!(applied(&scanned), ["applied b.yaml", "failed d/ 1"]);
    assert_eq!(applied(&run(&mut scan, now()).unwrap()), ["failed d/ 0"]);
}

#[test]
fn files_beyond_the_limit_are_told_of_and_known_ones_stay() {
    let root = manifests();
    root.write("m.yaml", SERVICE);
    let mut scan = scan(&root);
    scan.files_limit = 1;
    run(&mut scan, now()).unwrap();
    root.write("b.yaml", &SERVICE.replace("a}", "b}"));
    assert_eq!(applied(&run(&mut scan, now()).unwrap()), ["failed . 1"]);
    fs::remove_file(root.path().join("m.yaml")).unwrap();
    assert_eq!(
        applied(&run(&mut scan, now()).unwrap()),
        ["deleted a", "applied b.yaml", "failed . 0"]
    );
}

#[test]
fn a_symbolic_link_to_nothing_is_told_of_until_it_is_gone() {
    let root = manifests();
    std::os::unix::fs::symlink("nowhere", root.path().join("a.yaml")).unwrap();
    let mut scan = scan(&root);
    let scanned = run(&mut scan, now()).unwrap();
    assert_eq!((applied(&scanned), scanned.again), (vec!["failed a.yaml 1".to_owned()], false));
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    assert_eq!(applied(&run(&mut scan, now()).unwrap()), ["failed a.yaml 0"]);
}

fn of(files: &[&str]) -> BTreeSet<String> {
    files.iter().map(|file| (*file).to_owned()).collect()
}

#[test]
fn a_look_finds_what_a_scan_of_everything_would_find_of_these_files() {
    let root = manifests();
    root.write("a.yaml", SERVICE);
    root.write("b.yaml", &SERVICE.replace("name: a", "name: b"));
    let mut scan = scan(&root);
    let later = now() + Duration::from_secs(60);
    run(&mut scan, later).unwrap();
    let found = scan.look(&of(&["a.yaml", "b.yaml"]), later).unwrap();
    assert_eq!(applied(&found), Vec::<String>::new());
    root.write("a.yaml", &SERVICE.replace("{name: a}", "{name: a, labels: {x: y}}"));
    root.write("b.yaml", "no: object");
    let found = scan.look(&of(&["a.yaml"]), later).unwrap();
    assert_eq!(applied(&found), ["applied a.yaml"]);
    let found = scan.look(&of(&["a.yaml", "b.yaml"]), later).unwrap();
    assert_eq!(applied(&found), ["failed b.yaml 1"]);
    assert_eq!(applied(&run(&mut scan, later).unwrap()), Vec::<String>::new());
}

#[test]
fn what_follows_of_more_than_these_files_is_left_to_a_scan_of_everything() {
    let root = manifests();
    root.write("a.yaml", SERVICE);
    let mut scan = scan(&root);
    let at = now() + Duration::from_secs(60);
    assert!(scan.look(&of(&["a.yaml"]), at).is_none(), "nothing is known yet");
    run(&mut scan, at).unwrap();
    assert!(scan.look(&of(&["a.yaml"]), at).is_some());
    root.write("new.yaml", SERVICE);
    assert!(scan.look(&of(&["new.yaml"]), at).is_none(), "a new one");
    fs::remove_file(root.path().join("a.yaml")).unwrap();
    assert!(scan.look(&of(&["a.yaml"]), at).is_none(), "one is gone");
    run(&mut scan, at).unwrap();
    let link = root.path().join("link.yaml");
    std::os::unix::fs::symlink(root.path().join("new.yaml"), link).unwrap();
    run(&mut scan, at).unwrap();
    assert!(scan.look(&of(&["new.yaml"]), at).is_none(), "links lead elsewhere");
}
