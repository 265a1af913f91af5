//! Requests to a server: who is shown the token, and where redirects may lead.

use anyhow::{Context as _, Result, bail};
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;
use url::{Origin, Url};

/// Most redirects of one request.
const REDIRECTS: usize = 10;
/// Silence after which a server is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// All.
    All,
    /// Those that stay with the same server, as of a renamed repository; another is the answer itself.
    SameServer,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// The server refuses, with this status.
    Status(u16),
    /// It cannot be reached, or says what cannot be understood.
    Connection(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(code) => write!(f, "the server answers {code}"),
            Self::Connection(what) => f.write_str(what),
        }
    }
}

/// Asks servers; a token goes to one of them alone.
pub struct Client {
    agent: ureq::Agent,
    token: Option<(Origin, String)>,
}

impl Client {
    /// A client without a token.
    pub fn new() -> Self {
        // Redirects are followed here, so that none takes the token along.
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .timeout_connect(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .user_agent(concat!("pipeline-download/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), token: None }
    }

    /// Shows `token` to the server of `url`, and to no other.
    pub fn with_token(self, url: &Url, token: Option<String>) -> Self {
        Self { token: token.map(|token| (url.origin(), token)), ..self }
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// Why there is none.
    pub fn get(
        &self,
        url: &Url,
        headers: &[(&str, String)],
        follow: Follow,
    ) -> Result<Response<Body>, Fault> {
        let (mut url, mut sent_away) = (url.clone(), false);
        for _ in 0..REDIRECTS {
            let mut request = self.agent.get(url.as_str());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some((origin, token)) = &self.token
                && !sent_away
                && *origin == url.origin()
            {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| match e {
                ureq::Error::StatusCode(code) => Fault::Status(code),
                other => Fault::Connection(other.to_string()),
            })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get("location").and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| Some((location, url.join(location).ok()?)));
            let Some((location, target)) =
                target.filter(|(_, target)| matches!(target.scheme(), "http" | "https"))
            else {
                return Err(Fault::Connection(format!("{url} redirects to nowhere")));
            };
            // A full address may be anybody's, whatever it looks like.
            let elsewhere = location.starts_with("//") || Url::parse(location).is_ok();
            if elsewhere && follow == Follow::SameServer {
                return Ok(response);
            }
            sent_away |= elsewhere;
            url = target;
        }
        Err(Fault::Connection(format!("more than {REDIRECTS} redirects")))
    }
}

/// A header of an answer.
pub fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// An address on the web.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).with_context(|| format!("{text} is no address"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => bail!("{text} is no address on the web; it begins with https://"),
    }
}
