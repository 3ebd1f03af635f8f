//! A server for one reader on this machine.
//!
//! It listens on 127.0.0.1 only. Whoever asks must name that address as `Host` (a page of another site that was made to
//! resolve to it does not) and give the token of the address that was printed, which other users and pages do not know.

use crate::{View, Weights, page};
use oxrt_tensor::{Context, Error, Result};
use std::hash::{BuildHasher, Hasher};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longest request that is read.
const LONGEST_REQUEST: u64 = 16 << 10;

/// A page that is ready to be served.
pub struct Server {
    listener: TcpListener,
    port: u16,
    token: String,
    page: String,
    data: Vec<u8>,
    view: View,
}

/// Prepares a server; `port` 0 takes a free one.
///
/// # Errors
/// When the port is taken.
pub fn serve(view: View, port: u16) -> Result<Server> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| {
        Error::invalid(format!("127.0.0.1:{port} cannot be listened on: {e}")).help("`--port 0` takes a free one")
    })?;
    let port = listener.local_addr().at(|| "the server's address")?.port();
    // The keys of the standard library's hash are random per process and thread.
    let random = || std::hash::RandomState::new().build_hasher().finish();
    let token = format!("{:016x}{:016x}", random(), random());
    let (page, data) = (page::html(&view.left.name, None), view.data(Weights::OnDemand)?);
    Ok(Server { listener, port, token, page, data, view })
}

impl Server {
    /// The address to open.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/?token={}", self.port, self.token)
    }

    /// Answers until the process ends.
    ///
    /// # Errors
    /// Never in practice: a connection that fails is dropped.
    pub fn run(self) -> Result<()> {
        let server = Arc::new(self);
        for stream in server.listener.incoming().flatten() {
            let server = server.clone();
            std::thread::spawn(move || server.answer(stream));
        }
        Ok(())
    }

    fn answer(&self, stream: TcpStream) {
        // A reader that goes away is no error.
        let _ = self.try_answer(stream);
    }

    fn try_answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        let mut reader = BufReader::new(stream.try_clone()?.take(LONGEST_REQUEST));
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let target = line.strip_prefix("GET ").and_then(|l| l.split(' ').next()).unwrap_or_default().to_string();
        let mut host = String::new();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("host")) {
                let _ = name;
                host = value.trim().to_string();
            }
        }
        let (status, kind, extra, body) = self.respond(&target, &host);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{extra}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    }

    fn respond(&self, target: &str, host: &str) -> (&'static str, &'static str, &'static str, Vec<u8>) {
        let refuse = |status, text: &str| (status, "text/plain; charset=utf-8", "", text.as_bytes().to_vec());
        if ![format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)].iter().any(|h| h == host) {
            return refuse("403 Forbidden", "this server answers its own address only");
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !query.split('&').any(|p| p.strip_prefix("token=") == Some(&self.token)) {
            return refuse("403 Forbidden", "open the address that `oxrt view` printed, with its token");
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts[..] {
            [""] => ("200 OK", "text/html; charset=utf-8", "", self.page.clone().into_bytes()),
            ["data"] => ("200 OK", "application/octet-stream", "", self.data.clone()),
            ["weight", document, weight] => {
                let document = match document {
                    "0" => Some(&self.view.left),
                    "1" => self.view.right.as_ref().map(|(d, _)| d),
                    _ => None,
                };
                match document.zip(weight.parse().ok()).and_then(|(d, w)| d.weight_json(w)) {
                    Some(json) => ("200 OK", "application/json", "", json),
                    None => refuse("404 Not Found", "there is no such weight"),
                }
            }
            _ => refuse("404 Not Found", "there is no such page"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Document;

    #[test]
    fn only_the_right_host_with_the_token_is_answered() {
        let s = serve(View { left: Document::default(), right: None }, 0).unwrap();
        let host = format!("127.0.0.1:{}", s.port);
        let with = format!("/?token={}", s.token);
        assert_eq!(s.respond(&with, &host).0, "200 OK");
        assert_eq!(s.respond(&format!("/data?token={}", s.token), &host).0, "200 OK");
        for (target, host) in [("/", host.as_str()), ("/?token=1", &host), (&with, "evil.example"), (&with, "")] {
            assert_eq!(s.respond(target, host).0, "403 Forbidden", "{target} {host}");
        }
        assert_eq!(s.respond(&format!("/weight/0/7?token={}", s.token), &host).0, "404 Not Found");
    }
}
