//! Performs the storage operations of its input, one in a line: FUNCTION [ARGUMENT]…, separated by tabs; writes a line for
//! each.
//!
//! `$NAME` in an argument is an environment variable, `*N` is N times the letter x. `REPEAT N` before the function performs
//! it N times, and writes the last result. `WAIT` reads the clock for ever.
#![cfg(target_env = "p2")]

use std::io::{Read, Write};

#[repr(C)]
struct Part {
    data: *mut u8,
    length: usize,
}

/// A tuple that ends with an error text, as the component model lays it out in memory.
#[repr(C)]
struct Answer<T> {
    first: T,
    error: Part,
}

#[repr(C)]
struct Exchanged {
    is_done: bool,
    current: Part,
    error: Part,
}

#[link(wasm_import_module = "near:storage/api@0.1.0")]
extern "C" {
    #[link_name = "set"]
    fn set(key: *const u8, key_length: usize, value: *const u8, length: usize, error: *mut Part);
    #[link_name = "get"]
    fn get(key: *const u8, length: usize, answer: *mut Answer<Part>);
    #[link_name = "has"]
    fn has(key: *const u8, length: usize) -> bool;
    #[link_name = "delete"]
    fn delete(key: *const u8, length: usize) -> bool;
    #[link_name = "list-keys"]
    fn list_keys(prefix: *const u8, length: usize, answer: *mut Answer<Part>);
    #[link_name = "set-if-absent"]
    fn set_if_absent(key: *const u8, key_length: usize, value: *const u8, length: usize, answer: *mut Answer<bool>);
    #[link_name = "set-if-equals"]
    fn set_if_equals(
        key: *const u8, key_length: usize, expected: *const u8, expected_length: usize, value: *const u8, length: usize,
        answer: *mut Exchanged,
    );
    #[link_name = "increment"]
    fn increment(key: *const u8, length: usize, delta: i64, answer: *mut Answer<i64>);
    #[link_name = "decrement"]
    fn decrement(key: *const u8, length: usize, delta: i64, answer: *mut Answer<i64>);
}

/// Take over what the host allocated for the program.
unsafe fn owned(part: &Part) -> String {
    if part.length == 0 {
        return String::new();
    }
    let bytes = Vec::from_raw_parts(part.data, part.length, part.length);
    String::from_utf8_lossy(&bytes).into_owned()
}

unsafe fn answered<T>(call: impl FnOnce(*mut T)) -> T {
    let mut space = std::mem::MaybeUninit::uninit();
    call(space.as_mut_ptr());
    space.assume_init()
}

unsafe fn performed(words: &[String]) -> String {
    let text = |index: usize| (words[index].as_ptr(), words[index].len());
    let (key, length) = if words.len() > 1 { text(1) } else { text(0) };
    let number = || words[2].parse::<i64>().unwrap();
    let shown = |value: &dyn std::fmt::Display, error: &Part| {
        let error = owned(error);
        if error.is_empty() { value.to_string() } else { format!("error: {error}") }
    };
    match &words[0][..] {
        "set" => {
            let (value, size) = text(2);
            shown(&"", &answered(|error| set(key, length, value, size, error)))
        }
        "get" => {
            let answer: Answer<Part> = answered(|answer| get(key, length, answer));
            shown(&owned(&answer.first), &answer.error)
        }
        "has" => has(key, length).to_string(),
        "delete" => delete(key, length).to_string(),
        "list-keys" => {
            let answer: Answer<Part> = answered(|answer| list_keys(key, length, answer));
            shown(&owned(&answer.first), &answer.error)
        }
        "set-if-absent" => {
            let (value, size) = text(2);
            let answer: Answer<bool> = answered(|answer| set_if_absent(key, length, value, size, answer));
            shown(&answer.first, &answer.error)
        }
        "set-if-equals" => {
            let ((expected, expected_size), (value, size)) = (text(2), text(3));
            let answer: Exchanged =
                answered(|answer| set_if_equals(key, length, expected, expected_size, value, size, answer));
            shown(&format!("{} {}", answer.is_done, owned(&answer.current)), &answer.error)
        }
        "increment" => {
            let answer: Answer<i64> = answered(|answer| increment(key, length, number(), answer));
            shown(&answer.first, &answer.error)
        }
        "decrement" => {
            let answer: Answer<i64> = answered(|answer| decrement(key, length, number(), answer));
            shown(&answer.first, &answer.error)
        }
        _ => loop {
            let _ = std::time::Instant::now();
        },
    }
}

fn main() {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input).unwrap();
    for line in input.lines() {
        let mut words: Vec<String> = line
            .split('\t')
            .map(|word| match (word.strip_prefix('$'), word.strip_prefix('*')) {
                (Some(name), _) => std::env::var(name).unwrap(),
                (_, Some(count)) => "x".repeat(count.parse().unwrap()),
                _ => word.into(),
            })
            .collect();
        let mut times = 1;
        if words[0] == "REPEAT" {
            times = words[1].parse().unwrap();
            words.drain(..2);
        }
        let mut result = String::new();
        for _ in 0..times {
            result = unsafe { performed(&words) };
        }
        writeln!(std::io::stdout(), "{result}").unwrap();
    }
}
