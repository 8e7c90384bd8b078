//! The file store on a real directory.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use datastore::{FileStore, Manifest, Store, StoreError, StoreUpdate};
use resource::{Key, Kind, parse_file};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Longer than any update takes on a loaded machine; reached only where one is missing.
const PATIENCE: Duration = Duration::from_secs(20);

fn node(name: &str, address: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: {name}\nspec:\n  bgp:\n    ipv4Address: {address}\n"
    )
}

fn manifests(text: &str) -> Vec<Manifest> {
    let parsed = parse_file("given.yaml", text);
    assert_eq!(parsed.mistakes, []);
    let documents = parsed.documents.into_iter();
    documents.map(|document| Manifest { text: text[document.range.clone()].to_owned(), document }).collect()
}

async fn next(updates: &mut Receiver<StoreUpdate>) -> StoreUpdate {
    timeout(PATIENCE, updates.recv()).await.expect("an update").expect("the watch to run")
}

async fn next_names(updates: &mut Receiver<StoreUpdate>) -> Vec<String> {
    let loaded = next(updates).await.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    loaded.snapshot.nodes.into_iter().map(|node| node.name).collect()
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

#[tokio::test]
async fn the_watch_yields_the_state_and_every_change_of_it() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "a.yaml", &node("a", "10.0.0.1/24"));
    write(directory.path(), "notes.txt", "not a resource");
    write(directory.path(), ".hidden.yaml", "[");
    let store = FileStore::open(directory.path()).unwrap();
    let mut updates = store.watch().unwrap();
    assert_eq!(next_names(&mut updates).await, ["a"]);

    write(directory.path(), "b.yml", &node("b", "10.0.0.2/24"));
    assert_eq!(next_names(&mut updates).await, ["a", "b"]);

    fs::create_dir(directory.path().join("more")).unwrap();
    write(directory.path(), "more/c.yaml", &node("c", "10.0.0.3/24"));
    assert_eq!(next_names(&mut updates).await, ["a", "b", "c"]);

    fs::remove_file(directory.path().join("a.yaml")).unwrap();
    assert_eq!(next_names(&mut updates).await, ["b", "c"]);
}

#[tokio::test]
async fn an_invalid_reload_yields_its_mistakes_and_a_corrected_one_the_state() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.yaml");
    write(directory.path(), "a.yaml", &node("a", "10.0.0.1/24"));
    let mut updates = FileStore::open(directory.path()).unwrap().watch().unwrap();
    assert_eq!(next_names(&mut updates).await, ["a"]);
    write(directory.path(), "a.yaml", &node("a", "nowhere"));
    let mistakes = next(&mut updates).await.unwrap_err();
    assert_eq!((mistakes[0].file.as_str(), mistakes[0].line), (path.to_str().unwrap(), 7));
    write(directory.path(), "a.yaml", &node("b", "10.0.0.1/24"));
    assert_eq!(next_names(&mut updates).await, ["b"]);
}

#[tokio::test]
async fn a_rule_broken_with_an_unchanged_file_is_reported_with_the_lines_of_both() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.yaml");
    let put = |text: &str| {
        write(directory.path(), ".a.new", text);
        fs::rename(directory.path().join(".a.new"), &path).unwrap();
    };
    let nodes = |addresses: [&str; 3]| {
        let names = ["a", "b", "c"].iter().zip(addresses);
        names.map(|(name, address)| node(name, address)).collect::<Vec<_>>().join("---\n")
    };
    put(&nodes(["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"]));
    let mut updates = FileStore::open(directory.path()).unwrap().watch().unwrap();
    assert_eq!(next_names(&mut updates).await, ["a", "b", "c"]);
    // Twice, so that what was recalled is recalled again; with a line more before it.
    put(&format!("# a comment\n{}", nodes(["10.0.0.1/24", "10.0.0.2/24", "10.0.0.4/24"])));
    let loaded = next(&mut updates).await.unwrap();
    assert_eq!(loaded.snapshot.nodes[2].ipv4, Some("10.0.0.4/24".parse().unwrap()));
    put(&format!("# a comment\n{}", nodes(["10.0.0.1/24", "10.0.0.2/24", "10.0.0.2/24"])));
    let mistakes: Vec<String> = next(&mut updates)
        .await
        .unwrap_err()
        .iter()
        .map(|m| m.to_string().replace(path.to_str().unwrap(), "F"))
        .collect();
    assert_eq!(mistakes.len(), 1);
    assert!(
        mistakes[0].starts_with("F:24: spec.bgp.ipv4Address") && mistakes[0].contains("F:16"),
        "{mistakes:?}"
    );
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_read_again() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("resources");
    fs::create_dir(&directory).unwrap();
    write(&directory, "a.yaml", &node("a", "10.0.0.1/24"));
    let mut updates = FileStore::open(&directory).unwrap().watch().unwrap();
    assert_eq!(next_names(&mut updates).await, ["a"]);
    fs::rename(&directory, parent.path().join("old")).unwrap();
    let mistakes = next(&mut updates).await.unwrap_err();
    assert!(mistakes[0].to_string().contains("no such directory"), "{mistakes:?}");
    let next_directory = parent.path().join("next");
    fs::create_dir(&next_directory).unwrap();
    write(&next_directory, "b.yaml", &node("b", "10.0.0.1/24"));
    fs::rename(&next_directory, &directory).unwrap();
    assert_eq!(next_names(&mut updates).await, ["b"]);
}

#[tokio::test]
async fn links_are_followed_once_and_their_targets_watched() {
    let directory = TempDir::new().unwrap();
    let elsewhere = TempDir::new().unwrap();
    write(elsewhere.path(), "target.yaml", &node("a", "10.0.0.1/24"));
    symlink(elsewhere.path().join("target.yaml"), directory.path().join("a.yaml")).unwrap();
    symlink(directory.path(), directory.path().join("loop")).unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let mut updates = store.watch().unwrap();
    assert_eq!(next_names(&mut updates).await, ["a"]);
    write(elsewhere.path(), "target.yaml", &node("b", "10.0.0.1/24"));
    assert_eq!(next_names(&mut updates).await, ["b"]);
    // A put goes to the target: the link stays one.
    store.put(manifests(&node("b", "10.0.0.9/24")), None).await.unwrap();
    assert!(directory.path().join("a.yaml").is_symlink());
    assert!(fs::read_to_string(elsewhere.path().join("target.yaml")).unwrap().contains("10.0.0.9/24"));
}

#[tokio::test]
async fn put_and_delete_change_the_files_and_keep_the_other_documents() {
    let directory = TempDir::new().unwrap();
    let both = format!("# ours\n{}---\n{}", node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24"));
    write(directory.path(), "all.yaml", &both);
    let store = FileStore::open(directory.path()).unwrap();
    store.put(manifests(&node("b", "10.0.0.7/24")), None).await.unwrap();
    let text = fs::read_to_string(directory.path().join("all.yaml")).unwrap();
    assert_eq!(text, both.replace("10.0.0.2", "10.0.0.7"));

    store.put(manifests(&node("c", "10.0.0.3/24")), None).await.unwrap();
    assert_eq!(fs::read_to_string(directory.path().join("Node-c.yaml")).unwrap(), node("c", "10.0.0.3/24"));
    let key = |name: &str| Key { kind: Kind::Node, name: name.into() };
    store.delete(vec![key("c"), key("b")], None).await.unwrap();
    assert!(!directory.path().join("Node-c.yaml").exists());
    assert_eq!(
        fs::read_to_string(directory.path().join("all.yaml")).unwrap(),
        format!("# ours\n{}", node("a", "10.0.0.1/24"))
    );
    assert!(matches!(store.delete(vec![key("c")], None).await, Err(StoreError::NotFound(_))));
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["all.yaml"], "no temporary file stays");
}

#[tokio::test]
async fn a_put_that_would_break_a_rule_changes_nothing() {
    let directory = TempDir::new().unwrap();
    write(directory.path(), "a.yaml", &node("a", "10.0.0.1/24"));
    let store = FileStore::open(directory.path()).unwrap();
    let error = store.put(manifests(&node("b", "10.0.0.1/24")), None).await.unwrap_err();
    let StoreError::Invalid(mistakes) = error else { panic!("{error:?}") };
    let older = directory.path().join("a.yaml");
    assert_eq!(
        mistakes[0].to_string(),
        format!(
            "given.yaml:7: spec.bgp.ipv4Address: must be unique: 10.0.0.1 is also a's, at {}:7",
            older.display()
        )
    );
    assert_eq!(store.load().await.unwrap().documents.len(), 1);
}

#[tokio::test]
async fn a_put_against_an_old_revision_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let old = store.load().await.unwrap().state.revision;
    let new = store.put(manifests(&node("a", "10.0.0.1/24")), Some(old.clone())).await.unwrap();
    let error = store.put(manifests(&node("b", "10.0.0.2/24")), Some(old)).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    store.put(manifests(&node("b", "10.0.0.2/24")), Some(new)).await.unwrap();
}

#[test]
fn a_path_that_is_not_a_directory_or_not_text_is_named() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing");
    assert_eq!(
        FileStore::open(&missing).unwrap_err().to_string(),
        format!("{}: no such directory: create it, or correct datastore.file", missing.display())
    );
    fs::write(directory.path().join("bad.yaml"), b"a: 1\n\xff\n").unwrap();
    nix::unistd::mkfifo(&directory.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mistakes = FileStore::open(directory.path()).unwrap().read().unwrap_err();
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    let at = |name: &str| directory.path().join(name).display().to_string();
    assert_eq!(
        lines,
        [
            format!("{}:2: is not UTF-8 text", at("bad.yaml")),
            format!("{}: is not a regular file", at("pipe.yaml")),
        ]
    );
}
