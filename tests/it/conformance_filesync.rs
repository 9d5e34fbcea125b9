//! `tests/conformance/filesync.json`: the entries that the reference sender announces.

use bk_sync::filesync::{FilterLists, Source, Tree, Walk, WalkError};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use serde_json::{Value, json};
use std::{fs, os::unix::net::UnixListener, path::Path};

const CORPUS: &str = include_str!("../conformance/filesync.json");

fn cases() -> Vec<Value> {
    serde_json::from_str(CORPUS).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn make(root: &Path, tree: &[Value]) {
    for item in tree {
        let path = root.join(text(item, "path"));
        match text(item, "type") {
            "dir" => fs::create_dir(&path).unwrap(),
            "file" => fs::write(&path, text(item, "content")).unwrap(),
            "symlink" => std::os::unix::fs::symlink(text(item, "target"), &path).unwrap(),
            "hardlink" => fs::hard_link(root.join(text(item, "target")), &path).unwrap(),
            "fifo" => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
            }
            "socket" => drop(UnixListener::bind(&path).unwrap()),
            other => panic!("what is a {other}?"),
        }
    }
    for item in tree.iter().rev() {
        let path = root.join(text(item, "path"));
        if let (Some(mode), true) = (item["mode"].as_str(), item["type"] != "symlink") {
            let mode = Mode::from(u32::from_str_radix(mode, 8).unwrap());
            rustix::fs::chmod(&path, mode).unwrap();
        }
        if let Some(mtime) = item["mtime"].as_i64() {
            let time = Timespec {
                tv_sec: mtime.div_euclid(1_000_000_000),
                tv_nsec: mtime.rem_euclid(1_000_000_000),
            };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
}

fn list(case: &Value, key: &str) -> Vec<String> {
    let items = case[key].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn announced(root: &Path, lists: &FilterLists) -> Result<Vec<Value>, WalkError> {
    let tree = Tree::open(&Source::Directory(root.to_owned()))?;
    let mut walk = Walk::new(&tree, lists)?;
    let mut stats = Vec::new();
    while let Some(entry) = walk.next_entry()? {
        let stat = entry.stat;
        assert_eq!((stat.uid, stat.gid), (0, 0));
        let mut value = json!({
            "path": stat.path, "mode": stat.mode, "size": stat.size, "mod_time": stat.mod_time,
        });
        if !stat.linkname.is_empty() {
            value["linkname"] = stat.linkname.into();
        }
        stats.push(value);
    }
    Ok(stats)
}

#[test]
fn trees_are_announced_as_the_reference_announces_them() {
    for case in cases() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), case["tree"].as_array().unwrap());
        let lists = FilterLists {
            include: list(&case, "include"),
            exclude: list(&case, "exclude"),
            follow: list(&case, "follow"),
        };
        let name = text(&case, "name");
        match announced(root.path(), &lists) {
            Ok(stats) => {
                let expected = case["expect"]["stats"].as_array().unwrap();
                assert_eq!(&stats, expected, "{name}");
            }
            Err(error) => {
                assert!(!case["expect"]["error"].is_null(), "{name}: {error}");
            }
        }
    }
}
