//! A task's program: it reads and writes files as its arguments say.
//!
//! Built for both targets with the standard library alone.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    match words[1] {
        "task" => task(&words[2..]),
        "attempts" => print!("{}", attempts(words[2])),
        "open" => print!("{}", words[2..].iter().filter(|path| reached(path)).count()),
        "write" => fs::write(words[2], words[3]).unwrap(),
        "names" => print!("{}", names(words[2])),
        "many" => (0..number(2)).for_each(|n| fs::write(format!("/iexec_out/{n}"), b"").unwrap()),
        "deep" => deep(number(2)),
        "endless" => endless(),
        "parts" => parts(number(2), number(3) as usize),
        "sparse" => sparse(number(2)),
        "wait" => loop {},
        other => panic!("no such thing: {other}"),
    }
}

/// What a program of iExec does: read the input, the variables and the arguments; write a result.
fn task(rest: &[&str]) {
    let folder = std::env::var("IEXEC_IN").unwrap();
    let out = std::env::var("IEXEC_OUT").unwrap();
    let file = std::env::var("IEXEC_DATASET_FILENAME").unwrap();
    let data = fs::read_to_string(Path::new(&folder).join(file)).unwrap();
    let secret = std::env::var("IEXEC_REQUESTER_SECRET_1").unwrap();
    fs::create_dir(format!("{out}/folder")).unwrap();
    fs::write(format!("{out}/folder/first"), b"first").unwrap();
    fs::rename(format!("{out}/folder/first"), format!("{out}/moved")).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(format!("{out}/moved")).unwrap();
    file.write_all(b" and second").unwrap();
    file.sync_all().unwrap();
    fs::write(format!("{out}/result.txt"), format!("{data}|{secret}|{}", rest.join(","))).unwrap();
    let computed = format!("{{\"deterministic-output-path\": \"{out}/result.txt\"}}");
    fs::write(format!("{out}/computed.json"), computed).unwrap();
    print!("{}", names(&out));
}

fn names(folder: &str) -> String {
    let mut found: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    found.join(" ")
}

fn reached(path: &str) -> bool {
    fs::read(path).is_ok()
        || fs::read_dir(path).is_ok()
        || fs::write(path, b"x").is_ok()
        || fs::create_dir(path).is_ok()
        || fs::metadata(path).is_ok()
}

/// Return the names of the forbidden operations that succeeded.
fn attempts(given: &str) -> String {
    let (data, own) = (format!("/iexec_in/{given}"), "/iexec_out/own");
    fs::write(own, b"own").unwrap();
    let all: Vec<(&str, bool)> = vec![
        ("write input", fs::write(&data, b"x").is_ok()),
        ("open input to write", fs::OpenOptions::new().write(true).open(&data).is_ok()),
        ("truncate input", fs::OpenOptions::new().write(true).truncate(true).open(&data).is_ok()),
        ("new in input", fs::write("/iexec_in/new", b"x").is_ok()),
        ("folder in input", fs::create_dir("/iexec_in/folder").is_ok()),
        ("remove input", fs::remove_file(&data).is_ok()),
        ("move input", fs::rename(&data, "/iexec_out/taken").is_ok()),
        ("move into input", fs::rename(own, "/iexec_in/taken").is_ok()),
        ("link to input", fs::hard_link(&data, "/iexec_out/link").is_ok()),
        ("link to own", fs::hard_link(own, "/iexec_out/link").is_ok()),
        ("remove input folder", fs::remove_dir("/iexec_in").is_ok()),
        ("beside", fs::write("/iexec_out/../beside", b"x").is_ok()),
        ("input through output", fs::read(format!("/iexec_out/../input/{given}")).is_ok()),
        ("name with NUL", fs::write("/iexec_out/a\0b", b"x").is_ok()),
        ("long name", fs::write(format!("/iexec_out/{}", "n".repeat(256)), b"x").is_ok()),
        ("long path", fs::write(format!("/iexec_out/{}", "n/".repeat(4000)), b"x").is_ok()),
    ];
    all.iter().filter(|(_, done)| *done).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn deep(levels: u64) {
    let mut path = String::from("/iexec_out");
    for _ in 0..levels {
        path += "/d";
        fs::create_dir(&path).unwrap();
    }
}

fn endless() {
    let mut file = fs::File::create("/iexec_out/endless").unwrap();
    let part = vec![b'x'; 1 << 16];
    loop {
        file.write_all(&part).unwrap();
    }
}

/// Write so many files of so many bytes.
fn parts(count: u64, size: usize) {
    let part = vec![b'x'; size];
    for n in 0..count {
        fs::write(format!("/iexec_out/{n}"), &part).unwrap();
    }
}

fn sparse(size: u64) {
    let mut file = fs::File::create("/iexec_out/sparse").unwrap();
    file.seek(SeekFrom::Start(size)).unwrap();
    file.write_all(b"x").unwrap();
}
