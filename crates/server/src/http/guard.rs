//! Who may ask: names, origins, keys.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::ApiError;
use crate::settings::Settings;

/// Wrong keys of one address in a minute, at most.
const WRONG_KEYS: u32 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses whose wrong keys are counted, at most.
const ADDRESSES: usize = 10_000;

/// What is compared with each request.
pub(crate) struct Guard {
    port: u16,
    /// Whether every address of this machine is listened at.
    is_everywhere: bool,
    /// Names and their ports; none for the server's own or the protocol's.
    hosts: Vec<(String, Option<u16>)>,
    origins: Vec<String>,
    keys: Vec<blake3::Hash>,
    wrong: Mutex<BTreeMap<IpAddr, (Instant, u32)>>,
}

impl Guard {
    /// For a server that listens at `address`.
    pub(crate) fn new(settings: &Settings, address: SocketAddr) -> Guard {
        let ip = match address.ip() {
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        };
        let own = [ip.as_str(), "127.0.0.1", "localhost", "[::1]"]
            .map(|name| (name.to_owned(), Some(address.port())));
        let further = settings.allow_hosts.iter().map(|host| match host.parse::<Authority>() {
            Ok(authority) => (authority.host().to_ascii_lowercase(), authority.port_u16()),
            Err(_) => (host.to_ascii_lowercase(), None),
        });
        Guard {
            port: address.port(),
            is_everywhere: address.ip().is_unspecified(),
            hosts: own.into_iter().chain(further).collect(),
            origins: settings
                .allow_origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_owned())
                .collect(),
            keys: settings.keys.iter().map(|key| blake3::hash(key.as_bytes())).collect(),
            wrong: Mutex::default(),
        }
    }

    /// Whether a request is for this server: a name that resolves here from elsewhere is not its own.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
        let mut hosts = headers.get_all(HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        let named = first.and_then(|host| host.to_str().ok()).filter(|_| second.is_none());
        let authority = named.and_then(|host| host.parse::<Authority>().ok());
        let is_own = |authority: &Authority| self.is_own(authority.host(), authority.port_u16());
        if authority.as_ref().is_some_and(is_own) && uri.authority().is_none_or(is_own) {
            return Ok(());
        }
        Err(ApiError::misdirected(
            "this server does not answer to that Host: start it with --allow-host NAME",
        ))
    }

    fn is_own(&self, host: &str, port: Option<u16>) -> bool {
        let host = host.to_ascii_lowercase();
        let fits = |wanted: Option<u16>| match wanted {
            Some(wanted) => port.unwrap_or(80) == wanted,
            // A proxy before the server has the protocol's port.
            None => port.is_none_or(|port| [self.port, 80, 443].contains(&port)),
        };
        let is_address =
            || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() && port == Some(self.port);
        self.hosts.iter().any(|(name, wanted)| *name == host && fits(*wanted))
            || (self.is_everywhere && is_address())
    }

    /// Whether the page that asks may: none, this server's own, or one that was allowed. What is allowed is
    /// given.
    ///
    /// # Errors
    /// It may not.
    pub(crate) fn check_origin(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<String>, ApiError> {
        let refused =
            || ApiError::forbidden("pages of other origins may not ask: start it with --allow-origin ORIGIN");
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().map_err(|_| refused())).transpose()?;
        if let Some(origin) = origin {
            if self.origins.iter().any(|allowed| allowed == origin) {
                return Ok(Some(origin.to_owned()));
            }
            let own = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            let own = own.and_then(|host| host.parse::<Authority>().ok());
            let is_own = own.is_some_and(|own| self.is_own(own.host(), own.port_u16()));
            return if is_own { Ok(None) } else { Err(refused()) };
        }
        let is_safe = [Method::GET, Method::HEAD].contains(method);
        let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
        match site {
            None | Some(b"same-origin" | b"none") => Ok(None),
            Some(_) if is_safe => Ok(None),
            Some(_) => Err(refused()),
        }
    }

    /// Who asks, by the number of the key; 0 where none is needed.
    ///
    /// # Errors
    /// The key is missing or wrong; too many wrong ones came from this address.
    pub(crate) fn check_key(&self, address: IpAddr, headers: &HeaderMap) -> Result<u64, ApiError> {
        if self.keys.is_empty() {
            return Ok(0);
        }
        let given = self.bearer(address, headers)?;
        // Hashes are compared in constant time.
        let is =
            |known: &blake3::Hash| given.as_ref().is_some_and(|key| *known == blake3::hash(key.as_bytes()));
        match (1..).zip(&self.keys).find(|(_, known)| is(known)) {
            Some((number, _)) => Ok(number),
            None if headers.contains_key(AUTHORIZATION) => Err(self.wrong_key(address)),
            None => Err(ApiError::unauthorized()),
        }
    }

    /// What is given as a key or a token.
    ///
    /// # Errors
    /// Too many wrong ones came from this address.
    pub(crate) fn bearer(&self, address: IpAddr, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
        if self.has_guessed(address) {
            return Err(ApiError::busy("too many wrong keys came from this address", 60));
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, given) = header.and_then(|value| value.split_once(' ')).unwrap_or_default();
        Ok(scheme.eq_ignore_ascii_case("bearer").then(|| given.trim().to_owned()))
    }

    pub(crate) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Counts a wrong key, which is what the error says.
    pub(crate) fn wrong_key(&self, address: IpAddr) -> ApiError {
        self.count_wrong(address);
        ApiError::unauthorized()
    }

    fn has_guessed(&self, address: IpAddr) -> bool {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.get(&address).is_some_and(|(since, count)| *count >= WRONG_KEYS && since.elapsed() < MINUTE)
    }

    fn count_wrong(&self, address: IpAddr) {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= ADDRESSES {
            wrong.retain(|_, (since, _)| since.elapsed() < MINUTE);
        }
        let (since, count) = wrong.entry(address).or_insert((Instant::now(), 0));
        if since.elapsed() >= MINUTE {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn guard(host: &str, change: impl FnOnce(&mut Settings)) -> Guard {
        let mut settings = Settings::default();
        change(&mut settings);
        Guard::new(&settings, SocketAddr::new(host.parse().unwrap(), 8000))
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_own_names_are_answered_to() {
        let root: Uri = "/".parse().unwrap();
        let local = guard("127.0.0.1", |settings| settings.allow_hosts = vec!["mynah.example".into()]);
        let everywhere = guard("0.0.0.0", |_| {});
        for (hosts, is_local, is_everywhere) in [
            (vec!["127.0.0.1:8000"], true, true),
            (vec!["localhost:8000"], true, true),
            (vec!["LOCALHOST:8000"], true, true),
            (vec!["[::1]:8000"], true, true),
            (vec!["192.168.1.2:8000"], false, true),
            (vec!["mynah.example"], true, false),
            (vec!["mynah.example:443"], true, false),
            (vec!["mynah.example:1"], false, false),
            (vec!["evil.example"], false, false),
            (vec!["evil.example:8000"], false, false),
            (vec!["localhost"], false, false),
            (vec!["localhost:11434"], false, false),
            (vec![":8000"], false, false),
            (vec![""], false, false),
            (vec!["localhost:8000 "], false, false),
            (vec!["user@localhost:8000"], true, true),
            (vec![], false, false),
            (vec!["localhost:8000", "localhost:8000"], false, false),
        ] {
            let headers = headers(&hosts.iter().map(|host| ("host", *host)).collect::<Vec<_>>());
            assert_eq!(local.check_host(&root, &headers).is_ok(), is_local, "{hosts:?}");
            assert_eq!(everywhere.check_host(&root, &headers).is_ok(), is_everywhere, "{hosts:?}");
        }
        let absolute: Uri = "http://evil.example/v1/models".parse().unwrap();
        assert!(local.check_host(&absolute, &headers(&[("host", "localhost:8000")])).is_err());
    }

    #[test]
    fn pages_of_other_origins_may_not_ask() {
        let guard =
            guard("127.0.0.1", |settings| settings.allow_origins = vec!["https://app.example/".into()]);
        let check =
            |method: Method, of: &[(&'static str, &str)]| match guard.check_origin(&method, &headers(of)) {
                Ok(allowed) => allowed.unwrap_or("yes".into()),
                Err(error) => error.status().to_string(),
            };
        let (get, post) = (Method::GET, Method::POST);
        assert_eq!(check(post.clone(), &[]), "yes");
        assert_eq!(check(post.clone(), &[("sec-fetch-site", "same-origin")]), "yes");
        assert_eq!(check(post.clone(), &[("sec-fetch-site", "cross-site")]), "403");
        assert_eq!(check(post.clone(), &[("sec-fetch-site", "same-site")]), "403");
        assert_eq!(check(get.clone(), &[("sec-fetch-site", "cross-site")]), "yes");
        assert_eq!(check(post.clone(), &[("origin", "http://localhost:8000")]), "yes");
        for origin in
            ["null", "file://", "http://localhost:3000", "http://localhost", "http://evil.example:8000"]
        {
            assert_eq!(check(post.clone(), &[("origin", origin)]), "403", "{origin}");
            assert_eq!(check(get.clone(), &[("origin", origin)]), "403", "{origin}");
        }
        assert_eq!(
            check(post, &[("origin", "https://app.example"), ("sec-fetch-site", "cross-site")]),
            "https://app.example"
        );
    }

    #[test]
    fn keys_are_told_apart_and_guessing_is_slow() {
        let guard = guard("127.0.0.1", |settings| settings.keys = vec!["one".into(), "two".into()]);
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let check = |n: u8, of: &[(&'static str, &str)]| {
            guard.check_key(address(n), &headers(of)).map_err(|error| error.status())
        };
        assert_eq!(check(1, &[("authorization", "Bearer one")]), Ok(1));
        assert_eq!(check(1, &[("authorization", "bearer two")]), Ok(2));
        for wrong in ["Bearer three", "Basic one", "one", "Bearer", "Bearer one two"] {
            assert_eq!(check(1, &[("authorization", wrong)]), Err(401), "{wrong}");
        }
        assert_eq!(check(1, &[]), Err(401));
        for _ in 0..5 {
            assert_eq!(check(1, &[("authorization", "Bearer guess")]), Err(401));
        }
        assert_eq!(check(1, &[("authorization", "Bearer one")]), Err(429), "ten wrong ones came from here");
        assert_eq!(check(2, &[("authorization", "Bearer one")]), Ok(1));
    }
}
