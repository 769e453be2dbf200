//! Asking the hub: requests with its token, redirects, and what went wrong, sorted by what can be done about
//! it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ureq::http::header::{AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use ureq::http::{Method, Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::Settings;

/// So long may it take to be connected, and so long may nothing be heard.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;
/// No answer of the interface is longer than this (64 MiB): a listing of some 200,000 files.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Why a request gave nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nobody answered, or not to the end, or is busy: another time it may be different.
    Away(String),
    /// The hub said no: the status, and its word for the reason (`GatedRepo`, `RevisionNotFound` …).
    Refused(u16, String),
}

/// Speaks to one hub.
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    authorization: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Client> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WAIT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .accept_encoding("identity")
            .user_agent(concat!("mynah/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.certificates {
            let read = || -> Result<RootCerts> {
                let mut certificates = Vec::new();
                for item in parse_pem(&std::fs::read(path)?) {
                    if let PemItem::Certificate(certificate) = item? {
                        certificates.push(certificate);
                    }
                }
                ensure!(!certificates.is_empty(), "no certificate is in it");
                Ok(certificates.into())
            };
            let roots = read().with_context(|| format!("SSL_CERT_FILE: cannot use {}", path.display()))?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        let authorization = settings.token.as_ref().map(|token| {
            // Neither the message nor a log may show it.
            let value = HeaderValue::from_str(&format!("Bearer {}", token.0));
            value.ok().context("the token of the hub (HF_TOKEN) has characters that no token has")
        });
        let mut authorization = authorization.transpose()?;
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
        Ok(Client { agent: config.build().into(), endpoint: settings.endpoint.clone(), authorization })
    }

    /// The whole answer of the interface at `path`, which begins with `/api/`.
    pub(super) fn ask(&self, path: &str) -> Result<Vec<u8>, Trouble> {
        let mut answer = self.send(&Method::GET, path, 0)?;
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        body.map_err(|error| Trouble::Away(error.to_string()))
    }

    /// What the hub says about the file at `path`: headers, its own and not those of a store that it refers
    /// to.
    pub(super) fn describe(&self, path: &str) -> Result<Response<Body>, Trouble> {
        self.send(&Method::HEAD, path, 0)
    }

    /// The file at `path` from byte `from` on, or the whole of it (200) where only that is to be had.
    pub(super) fn download(&self, path: &str, from: u64) -> Result<Response<Body>, Trouble> {
        self.send(&Method::GET, path, from)
    }

    fn send(&self, method: &Method, path: &str, from: u64) -> Result<Response<Body>, Trouble> {
        let mut url = format!("{}{path}", self.endpoint);
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = origin(&url) == origin(&self.endpoint);
            let mut request = Request::builder().method(method).uri(&url);
            if let Some(authorization) = self.authorization.as_ref().filter(|_| at_hub) {
                request = request.header(AUTHORIZATION, authorization);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let away = |error: &dyn std::fmt::Display| Trouble::Away(format!("{}: {error}", origin(&url)));
            let request = request.body(()).map_err(|error| away(&error))?;
            let answer = self.agent.run(request).map_err(|error| away(&with_advice(&error)))?;
            let status = answer.status().as_u16();
            match status {
                200 | 206 | 416 => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => {
                    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                    let next = location.and_then(|location| join(&url, location));
                    let next = next.ok_or_else(|| away(&"a redirect to nowhere"))?;
                    // The store does not know what the hub knows: its description of the file is this answer.
                    if method == Method::HEAD && origin(&next) != origin(&self.endpoint) {
                        return Ok(answer);
                    }
                    url = next;
                }
                // A store may refuse an address that has become too old; the hub then gives another one.
                429 | 500..=599 => return Err(away(&format!("status {status}"))),
                _ if !at_hub => return Err(away(&format!("status {status}"))),
                _ => {
                    let code = answer.headers().get("x-error-code").and_then(|code| code.to_str().ok());
                    return Err(Trouble::Refused(status, code.unwrap_or_default().to_owned()));
                }
            }
        }
        Err(Trouble::Away(format!("{}: more than {MAX_REDIRECTS} redirects", origin(&url))))
    }
}

/// A failed connection, and what may help where that is known.
fn with_advice(error: &ureq::Error) -> String {
    let mut text = error.to_string();
    if text.contains("invalid peer certificate") {
        text += "; in a network that looks into connections, set SSL_CERT_FILE to its certificates";
    }
    text
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> &str {
    let host_at = url.find("://").map_or(0, |at| at + 3);
    let end = url[host_at..].find(['/', '?', '#']).map_or(url.len(), |length| host_at + length);
    &url[..end]
}

/// Where a redirect leads.
fn join(url: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        Some(location.to_owned())
    } else if location.starts_with('/') && !location.starts_with("//") {
        Some(format!("{}{location}", origin(url)))
    } else {
        None
    }
}

/// A path as it is written in an address: all but letters, digits and `-_.~/` as `%XX`.
pub(super) fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                text.push(byte.into())
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(origin("https://host:80/a/b?c"), "https://host:80");
        assert_eq!(origin("http://host"), "http://host");
        assert_eq!(join("https://host/a/b", "/c?d").as_deref(), Some("https://host/c?d"));
        assert_eq!(join("https://host/a", "http://other/x").as_deref(), Some("http://other/x"));
        for nowhere in ["//other/x", "c", "", "file:///etc/passwd"] {
            assert_eq!(join("https://host/a", nowhere), None, "{nowhere}");
        }
        assert_eq!(escaped("data/ü 1%.txt"), "data/%C3%BC%201%25.txt");
    }
}
