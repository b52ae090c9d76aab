//! The store: hash before use, every source in order, and a message that says what was where.

use std::fs;
use std::path::Path;

use super::support::packages;
use crate::store::{Outcome, Snapshot, Source, Store};
use crate::{ImageError, Package};

struct Place {
    dir: tempfile::TempDir,
    package: Package,
    bytes: Vec<u8>,
}

impl Place {
    fn new() -> Self {
        let (package, bytes) = packages().remove(0);
        Self { dir: tempfile::tempdir().unwrap(), package, bytes }
    }

    fn store(&self) -> Store {
        Store {
            cache: self.dir.path().join("cache"),
            directories: vec![self.dir.path().join("one"), self.dir.path().join("two")],
            mirror: false,
            snapshot: None,
        }
    }

    fn put(&self, place: &str, bytes: &[u8]) {
        let path = self.dir.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn fetch(&self, store: &Store) -> (Result<Vec<u8>, ImageError>, Vec<Source>) {
        let mut sources = Vec::new();
        let result = store.fetch(&self.package, &mut |step| sources.push(step.source));
        (result, sources)
    }

    fn cached(&self) -> String {
        format!("cache/inputs/{}.deb", self.package.sha256)
    }

    fn outcomes(&self, store: &Store) -> Vec<Outcome> {
        match self.fetch(store).0 {
            Err(ImageError::NoInput { tried, .. }) => {
                tried.into_iter().map(|attempt| attempt.outcome).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn takes_the_cache_first_then_directories_in_order() {
    let place = Place::new();
    let name = &place.package.file_names()[0];
    place.put(&format!("two/{name}"), &place.bytes);
    let (found, sources) = place.fetch(&place.store());
    assert_eq!(found.unwrap(), place.bytes);
    assert_eq!(sources, [Source::Directory(place.dir.path().join("two"))]);
    place.put(&place.cached(), &place.bytes);
    assert_eq!(place.fetch(&place.store()).1, [Source::Cache]);
}

#[test]
fn a_folder_of_a_directory_is_searched() {
    let place = Place::new();
    let name = &place.package.file_names()[0];
    place.put(&format!("one/qemu/{name}"), &place.bytes);
    assert_eq!(place.fetch(&place.store()).0.unwrap(), place.bytes);
}

#[test]
fn a_folder_two_levels_below_is_not_searched() {
    let place = Place::new();
    let name = &place.package.file_names()[0];
    place.put(&format!("one/some/more/{name}"), &place.bytes);
    assert_eq!(place.outcomes(&place.store())[1], Outcome::NotThere);
}

#[test]
fn a_wrong_file_is_passed_over_and_named() {
    let place = Place::new();
    let name = &place.package.file_names()[1];
    let mut other = place.bytes.clone();
    other[100] ^= 1;
    place.put(&place.cached(), &place.bytes[1..]);
    place.put(&format!("one/{name}"), &other);
    let outcomes = place.outcomes(&place.store());
    assert_eq!(outcomes[0], Outcome::Size { got: place.package.size - 1 });
    assert_eq!(outcomes[1], Outcome::Hash { got: crate::bytes::sha256(&other) });
    assert_eq!(outcomes[2], Outcome::NotThere);
    place.put(&format!("two/{name}"), &place.bytes);
    assert_eq!(place.fetch(&place.store()).0.unwrap(), place.bytes);
}

#[test]
fn a_longer_file_is_not_read_to_its_end() {
    let place = Place::new();
    let mut longer = place.bytes.clone();
    longer.extend_from_slice(&[0; 1000]);
    place.put(&place.cached(), &longer);
    let got = place.package.size + 1;
    assert_eq!(place.outcomes(&place.store())[0], Outcome::Size { got });
}

#[test]
fn the_message_names_package_hash_places_and_what_to_do() {
    let place = Place::new();
    let error = place.fetch(&place.store()).0.unwrap_err();
    let text = error.to_string();
    for part in ["firmware 1:2.3-4 (all)", &place.package.sha256.to_string(), "the cache", "/two"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert_eq!(error.code(), "E-IMAGE-INPUT");
    assert!(error.next_step().contains("CHRYSALIS_INPUTS"));
    assert!(error.next_step().contains("--snapshot"));
}

#[test]
fn refuses_a_snapshot_that_is_no_plain_url() {
    for bad in ["", "ftp://x/", "file://x", "https://x y", "-o", "https://x\n", "https://\u{e9}/"] {
        assert!(bad.parse::<Snapshot>().is_err(), "{bad:?}");
    }
    assert!("https://x/".parse::<Snapshot>().is_ok());
    assert!(format!("https://{}", "x".repeat(1017)).parse::<Snapshot>().is_err());
}

/// A local archive as a snapshot, through the distribution's own client.
fn snapshot(place: &Place) -> Option<Store> {
    if !Path::new("/usr/lib/apt/apt-helper").exists() {
        eprintln!("skipped: this machine has no apt");
        return None;
    }
    let base = format!("file://{}/archive/", place.dir.path().display());
    Some(Store { snapshot: Some(base.parse().unwrap()), ..place.store() })
}

#[test]
fn a_snapshot_is_asked_last_and_what_it_gives_is_cached() {
    let place = Place::new();
    let Some(store) = snapshot(&place) else { return };
    place.put(&format!("archive/{}", place.package.filename), &place.bytes);
    let (found, sources) = place.fetch(&store);
    assert_eq!(found.unwrap(), place.bytes);
    assert!(matches!(&sources[..], [Source::Url(url)] if url.ends_with(&place.package.filename)));
    assert_eq!(fs::read(place.dir.path().join(place.cached())).unwrap(), place.bytes);
    assert!(!fs::symlink_metadata(place.dir.path().join(place.cached())).unwrap().is_symlink());
    assert_eq!(place.fetch(&store).1, [Source::Cache]);
}

#[test]
fn a_snapshot_that_gives_something_else_leaves_nothing_in_the_cache() {
    let place = Place::new();
    let Some(store) = snapshot(&place) else { return };
    let mut other = place.bytes.clone();
    other[100] ^= 1;
    place.put(&format!("archive/{}", place.package.filename), &other);
    let outcomes = place.outcomes(&store);
    let last = outcomes.last().unwrap();
    assert!(matches!(last, Outcome::Failed { reason } if reason.contains("Hash Sum mismatch")));
    assert!(!place.dir.path().join(place.cached()).exists());
    // Nor does a partial file of an earlier run stand in the way of the right one.
    place.put(&place.cached().replace(".deb", ".partial"), b"half of something");
    place.put(&format!("archive/{}", place.package.filename), &place.bytes);
    assert_eq!(place.fetch(&store).0.unwrap(), place.bytes);
}
