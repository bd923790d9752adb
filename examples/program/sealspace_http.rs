//! `fetch` of `sealspace:http/client@0.1.0` for both targets; copy this file beside your program.
//!
//! For `wasm32-wasip2` the linker has to know the interface: `-C link-arg=--component-type=http.wit`, which is in
//! `spec/runner`. The function is called here as the component model lays it out in memory; `wit-bindgen` makes the
//! same from the same file.
#![allow(dead_code)] // a program may leave something unread

/// What to send.
pub struct Request<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// What the service answered.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why there is no response, in the order of the interface.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub enum Error {
    RequestInvalid,
    HostRefused,
    AddressRefused,
    NameUnknown,
    ConnectionFailed,
    CertificateRefused,
    ResponseInvalid,
    ResponseTooLarge,
    TimedOut,
    RequestsExhausted,
}

impl Error {
    fn numbered(number: u8) -> Error {
        use Error::*;
        let all = [
            RequestInvalid, HostRefused, AddressRefused, NameUnknown, ConnectionFailed, CertificateRefused,
            ResponseInvalid, ResponseTooLarge, TimedOut, RequestsExhausted,
        ];
        all[number as usize]
    }
}

pub use imported::fetch;

#[cfg(target_env = "p1")]
mod imported {
    use super::{Error, Request, Response};

    #[link(wasm_import_module = "sealspace:http/client@0.1.0")]
    extern "C" {
        #[link_name = "fetch"]
        fn fetch_message(message: *const u8, length: usize) -> i32;
        fn read(into: *mut u8, length: usize) -> usize;
    }

    /// Have the runner make a request.
    pub fn fetch(request: &Request) -> Result<Response, Error> {
        let mut message = Vec::new();
        let mut add = |part: &[u8]| {
            message.extend_from_slice(&(part.len() as u32).to_le_bytes());
            message.extend_from_slice(part);
        };
        add(request.method.as_bytes());
        add(request.url.as_bytes());
        for (name, value) in request.headers {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(request.body);
        let length = unsafe { fetch_message(message.as_ptr(), message.len()) };
        if length < 0 {
            return Err(Error::numbered((-1 - length) as u8));
        }
        let mut answer = vec![0; length as usize];
        unsafe { read(answer.as_mut_ptr(), answer.len()) };
        let mut parts = Vec::new();
        let mut left = &answer[..];
        while let Some((length, rest)) = left.split_first_chunk() {
            let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            parts.push(part.to_vec());
            left = rest;
        }
        let text = |part: &Vec<u8>| String::from_utf8_lossy(part).into_owned();
        let body = parts.pop().unwrap();
        let headers = parts[1..].chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        Ok(Response { status: text(&parts[0]).parse().unwrap(), headers, body })
    }
}

#[cfg(target_env = "p2")]
mod imported {
    use super::{Error, Request, Response};

    /// A text or a list of bytes.
    #[repr(C)]
    struct Part {
        data: *mut u8,
        length: usize,
    }

    impl Part {
        fn of(text: &str) -> Part {
            Part { data: text.as_ptr() as *mut u8, length: text.len() }
        }
    }

    #[repr(C)]
    struct Answer {
        is_error: u8,
        error_or_status: AnswerHead,
        headers: *mut [Part; 2],
        count: usize,
        body: Part,
    }

    #[repr(C, align(4))]
    union AnswerHead {
        error: u8,
        status: u16,
    }

    #[link(wasm_import_module = "sealspace:http/client@0.1.0")]
    extern "C" {
        #[link_name = "fetch"]
        fn fetch_lowered(
            method: *const u8, method_length: usize, url: *const u8, url_length: usize,
            headers: *const [Part; 2], count: usize, body: *const u8, body_length: usize, answer: *mut Answer,
        );
    }

    /// Take over what the host allocated for the program.
    unsafe fn owned(part: &Part) -> Vec<u8> {
        if part.length == 0 { Vec::new() } else { Vec::from_raw_parts(part.data, part.length, part.length) }
    }

    /// Have the runner make a request.
    pub fn fetch(request: &Request) -> Result<Response, Error> {
        let (method, url, body) = (request.method, request.url, request.body);
        let pair = |&(name, value): &(&str, &str)| [Part::of(name), Part::of(value)];
        let headers: Vec<[Part; 2]> = request.headers.iter().map(pair).collect();
        let mut space = std::mem::MaybeUninit::<Answer>::uninit();
        unsafe {
            fetch_lowered(
                method.as_ptr(), method.len(), url.as_ptr(), url.len(),
                headers.as_ptr(), headers.len(), body.as_ptr(), body.len(), space.as_mut_ptr(),
            );
            let answer = space.as_ptr();
            if (*answer).is_error == 1 {
                return Err(Error::numbered((*answer).error_or_status.error));
            }
            let mut headers = Vec::new();
            if (*answer).count > 0 {
                let pairs = Vec::from_raw_parts((*answer).headers, (*answer).count, (*answer).count);
                let text = |part: &Part| String::from_utf8_lossy(&owned(part)).into_owned();
                headers = pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
            }
            Ok(Response { status: (*answer).error_or_status.status, headers, body: owned(&(*answer).body) })
        }
    }
}
