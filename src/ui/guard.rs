//! Who is answered: whoever has the token, asks this server by a name that is its own, and only looks.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

/// What the page may do in a browser: nothing but what this server gives it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The secret of a server, and its names.
pub struct Guard {
    token: String,
    cookie: String,
    host: IpAddr,
    /// The machine's own name.
    machine: String,
}

impl Guard {
    /// A new secret.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(host: IpAddr, port: u16) -> io::Result<Self> {
        let mut bytes = [0; 24];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let machine = store::process::host().to_lowercase();
        Ok(Self { token, cookie: format!("pipeline-{port}"), host, machine })
    }

    /// What is asked for with the first request.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The machine's own name.
    pub fn machine(&self) -> &str {
        &self.machine
    }

    fn is_token(&self, given: &str) -> bool {
        // Hashes are compared in the same time wherever they differ.
        blake3::hash(given.as_bytes()) == blake3::hash(self.token.as_bytes())
    }

    /// Whether a `Host` names this server. A page of somebody else's can make its own name lead here; it cannot make a
    /// number or `localhost` its own.
    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.to_lowercase();
        match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || !self.host.is_loopback(),
            Err(_) => name == "localhost" || (!self.host.is_loopback() && name == self.machine),
        }
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        all.flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(name, value)| name == self.cookie && self.is_token(value))
    }

    /// What is answered instead of what was asked for, if anything.
    fn refuse(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(host) = text(header::HOST).filter(|host| self.is_ours(host)) else {
            return Some(said(StatusCode::FORBIDDEN, "this server is not called so"));
        };
        let own = |origin: &str| origin == format!("http://{host}");
        if headers.contains_key(header::ORIGIN) && !text(header::ORIGIN).is_some_and(own) {
            return Some(said(StatusCode::FORBIDDEN, "a page of another origin asks for nothing here"));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "this page only shows");
            refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(refused);
        }
        if let Some(token) = query(request.uri(), "token").filter(|token| self.is_token(token)) {
            let cookie = format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", self.cookie);
            // The token does not stay in the address.
            let to = request.uri().path().to_string();
            let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, to)];
            return Some((StatusCode::SEE_OTHER, headers).into_response());
        }
        if !self.has_cookie(headers) {
            let text = "open the address that `pipeline ui` printed, with its token";
            return Some(said(StatusCode::FORBIDDEN, text));
        }
        None
    }
}

fn said(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

/// A value of the query.
pub fn query<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Answers those who may ask, and says to every browser what it may do with the answer.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refuse(&request) {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let given = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    for (name, value) in given {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_have_are_ours() {
        let here = Guard::new("127.0.0.1".parse().unwrap(), 1).unwrap();
        for host in ["127.0.0.1:1", "localhost:7", "LOCALHOST", "[::1]:1", "127.0.0.2"] {
            assert!(here.is_ours(host), "{host}");
        }
        for host in ["evil.example:1", "localhost.evil.example", "10.0.0.1:1", "", "127.0.0.1.evil.example"] {
            assert!(!here.is_ours(host), "{host}");
        }
        let open = Guard::new("0.0.0.0".parse().unwrap(), 1).unwrap();
        assert!(open.is_ours("10.0.0.1:1") && !open.is_ours("evil.example"));
    }

    #[test]
    fn two_servers_have_two_tokens() {
        let new = || Guard::new("127.0.0.1".parse().unwrap(), 1).unwrap();
        let (a, b) = (new(), new());
        assert!(a.is_token(a.token()) && !a.is_token(b.token()) && !a.is_token(""));
    }
}
