//! One program for everything a test wants a guest to do: the first line of its input names it.
//!
//! Built for both targets with the standard library alone.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static CALLS: AtomicU32 = AtomicU32::new(0);

fn main() {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]).into_owned();
    let rest = input.get(end + 1..).unwrap_or(&[]);
    let words: Vec<&str> = line.split(' ').collect();
    let number = |index: usize| words[index].parse::<u64>().unwrap() as usize;
    match words[0] {
        "echo" => std::io::stdout().write_all(rest).unwrap(),
        "env" => print!("{}", variables(&words[1..])),
        "names" => print!("{}", std::env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(" ")),
        "arguments" => print!("{}", std::env::args().count()),
        "files" => print!("{}", files(&words[1..])),
        "sockets" => print!("{}", sockets(words[1])),
        "random" => print!("{:016x}", RandomState::new().build_hasher().finish()),
        "clocks" => print!("{} {}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(), ticks()),
        "calls" => print!("{}", CALLS.fetch_add(1, Ordering::SeqCst) + 1),
        "sleep" => std::thread::sleep(Duration::from_millis(number(1) as u64)),
        "compute" => print!("{}", compute(words[1].parse().unwrap())),
        "take" => print!("{}", take(number(1))),
        "flood" => flood(&mut std::io::stdout(), number(1), number(2)),
        "complain" => flood(&mut std::io::stderr(), number(1), number(2)),
        "exit" => std::process::exit(number(1) as i32),
        "panic" => panic!("timeout: limit of memory and instructions exceeded"),
        other => panic!("no such thing: {other}"),
    }
}

fn variables(names: &[&str]) -> String {
    let value = |name: &str| std::env::var(name).map_or("null".into(), |value| format!("{value:?}"));
    let members: Vec<String> = names.iter().map(|name| format!("{name:?}:{}", value(name))).collect();
    format!("{{{}}}", members.join(","))
}

fn files(paths: &[&str]) -> usize {
    let reached = |path: &&&str| {
        std::fs::read(path).is_ok()
            || std::fs::read_dir(path).is_ok()
            || std::fs::write(path, b"x").is_ok()
            || std::fs::metadata(path).is_ok()
            || std::fs::create_dir(path).is_ok()
    };
    paths.iter().filter(reached).count()
}

fn sockets(address: &str) -> usize {
    [
        TcpStream::connect(address).is_ok(),
        TcpListener::bind("127.0.0.1:0").is_ok(),
        UdpSocket::bind("0.0.0.0:0").is_ok_and(|socket| socket.send_to(b"x", address).is_ok()),
        ("localhost", 80).to_socket_addrs().is_ok(),
    ]
    .iter()
    .filter(|&&reached| reached)
    .count()
}

fn ticks() -> u128 {
    let begun = Instant::now();
    while begun.elapsed().is_zero() {}
    begun.elapsed().as_nanos()
}

fn compute(rounds: u64) -> u64 {
    (0..rounds).fold(1, |sum, round| (sum ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7))
}

/// Take so many MiB and touch each page.
fn take(mebibytes: usize) -> usize {
    let mut taken = vec![0u8; mebibytes << 20];
    taken.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    taken.iter().map(|&byte| byte as usize).sum()
}

fn flood(stream: &mut dyn Write, total: usize, at_once: usize) {
    let part = vec![b'x'; at_once];
    let mut left = total;
    while left > 0 {
        let now = left.min(at_once);
        let _ = stream.write_all(&part[..now]);
        left -= now;
    }
    let _ = stream.flush();
}
