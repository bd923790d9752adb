//! Sends what the first line of its input says: METHOD URL [NAME:VALUE]…; the rest of the input is the body.
//!
//! `$NAME` in a value is an environment variable. It writes the status and the body, or the error; with `TIMES n` before
//! the method it sends n times and writes the last.

#[path = "../../../examples/program/sealspace_http.rs"]
mod sealspace_http;

use sealspace_http::{fetch, Request};
use std::io::{Read, Write};

fn main() {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).unwrap();
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8(input[..end].to_vec()).unwrap();
    let mut words: Vec<&str> = line.split(' ').collect();
    let mut times = 1;
    if words[0] == "TIMES" {
        times = words[1].parse().unwrap();
        words.drain(..2);
    }
    let pairs: Vec<(String, String)> = words[2..]
        .iter()
        .map(|word| {
            let (name, value) = word.split_once(':').unwrap();
            let value = value.strip_prefix('$').map_or(value.into(), |name| std::env::var(name).unwrap());
            (name.into(), value)
        })
        .collect();
    let headers: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let body = input.get(end + 1..).unwrap_or(&[]);
    let request = Request { method: words[0], url: words[1], headers: &headers, body };
    let mut answer = fetch(&request);
    for _ in 1..times {
        answer = fetch(&request);
    }
    let mut out = std::io::stdout();
    match answer {
        Err(error) => write!(out, "{error:?}").unwrap(),
        Ok(response) => {
            write!(out, "{}\n", response.status).unwrap();
            for (name, value) in &response.headers {
                write!(out, "{name}: {value}\n").unwrap();
            }
            out.write_all(b"\n").unwrap();
            out.write_all(&response.body).unwrap();
        }
    }
}
