//! Asks a service for a counter that two secrets of the requester select, and writes it as the result of a task.
//!
//!     rustc --target=wasm32-wasip1 -O --edition=2021 counter.rs -o counter.wasm
//!
//! Its argument is the address of the service, whose host its manifest names: {"hosts": ["counter.example"]}

mod sealspace_http;

use sealspace_http::{fetch, Request};
use std::{env, error::Error, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let service = env::args().nth(1).ok_or("the argument is the address of the service")?;
    let (namespace, key) = (env::var("IEXEC_REQUESTER_SECRET_1")?, env::var("IEXEC_REQUESTER_SECRET_2")?);
    let url = format!("{service}/hit/{namespace}/{key}");
    let answer = fetch(&Request { method: "GET", url: &url, headers: &[], body: b"" })
        .map_err(|error| format!("no answer: {error:?}"))?;
    let out = env::var("IEXEC_OUT")?;
    fs::write(format!("{out}/result.txt"), answer.body)?;
    let computed = format!(r#"{{"deterministic-output-path": "{out}/result.txt"}}"#);
    Ok(fs::write(format!("{out}/computed.json"), computed)?)
}
