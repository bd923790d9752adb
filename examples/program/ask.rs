//! Asks a service, with an API key that is a secret: its input is the URL.
//!
//!     rustc --target=wasm32-wasip1 -O --edition=2021 ask.rs -o ask.wasm
//!     rustc --target=wasm32-wasip2 -O --edition=2021 -C link-arg=--component-type=http.wit ask.rs -o ask.wasm
//!
//! Its manifest names the secret and the host: {"secrets": ["API_KEY"], "hosts": ["api.example.com"]}

mod sealspace_http;

use sealspace_http::{fetch, Request};

fn main() {
    let url = std::io::read_to_string(std::io::stdin()).expect("a URL on standard input");
    let key = std::env::var("API_KEY").expect("the secret API_KEY");
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", &authorization[..]), ("user-agent", "ask/1")];
    match fetch(&Request { method: "GET", url: url.trim(), headers: &headers, body: b"" }) {
        Ok(response) => println!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(error) => {
            eprintln!("no answer: {error:?}");
            std::process::exit(1);
        }
    }
}
