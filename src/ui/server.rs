//! The server: answers what the page asks for, until somebody stops it.

use crate::error::{Error, Result};
use crate::stderr;
use crate::ui::assets::ASSETS;
use crate::ui::content::{self, Form};
use crate::ui::guard::{Guard, guard, query};
use crate::ui::known::Known;
use crate::ui::log::Part;
use crate::ui::site::{Message, Site};
use crate::ui::watcher::Watcher;
use crate::ui::{picture, plain, resources};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Named, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::digest::Kind;
use study::Choice;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

/// The port where none is given, and that is free.
const PORT: u16 = 7474;
/// A silent stream is spoken on so often, so that whoever went away is noticed.
const ALIVE: Duration = Duration::from_secs(15);
/// How long browsers may take to let go at the end.
const GRACE: Duration = Duration::from_secs(1);
/// An HTML output may show what is in it, and do nothing.
const SANDBOX: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; \
                       base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// How the page is served.
pub struct Served {
    pub host: IpAddr,
    /// The usual one, where none is given.
    pub port: Option<u16>,
    /// In a browser, at once.
    pub open: bool,
}

#[derive(Clone)]
struct Server {
    site: Arc<Site>,
    /// Whether it ends.
    ends: watch::Receiver<bool>,
}

/// Has all threads take memory from one place. A look at a large study is made by whichever thread comes, and memory that each kept for
/// itself would not serve the next.
fn share_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a setting of the allocator, which may change at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Serves the page until a signal; `tell` is given its address, with the token.
pub fn serve(choice: Choice, served: &Served, tell: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    share_memory();
    let known = Known::read(&choice, false)?;
    let site = Arc::new(Site::new(choice, false, known));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_io()
        .enable_time()
        .build()
        .map_err(Error::Serve)?;
    runtime.block_on(async {
        let listener = listen(served).await?;
        let port = listener.local_addr().map_err(Error::Serve)?.port();
        let shield = Arc::new(Guard::new(served.host, port).map_err(Error::Serve)?);
        let name = match served.host {
            host if host.is_unspecified() => shield.machine().to_string(),
            IpAddr::V6(host) => format!("[{host}]"),
            host => host.to_string(),
        };
        let address = format!("http://{name}:{port}/?token={}", shield.token());
        let stopped = Arc::new(AtomicBool::new(false));
        let (watcher, ended) = (Watcher::new(Arc::clone(&site)), Arc::clone(&stopped));
        let watching = std::thread::spawn(move || watcher.watch(&ended));
        let (end, ends) = watch::channel(false);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Error::Serve)?;
        let told = Arc::clone(&site);
        std::thread::spawn(move || {
            for (count, _) in signals.forever().enumerate() {
                told.tell("bye", &json!({}));
                // Nobody may listen any more.
                let _ = end.send(true);
                if count > 0 {
                    std::process::exit(130);
                }
            }
        });
        tell(&address)?;
        if served.open && !open(&address) {
            stderr::line("no browser could be opened; open the address by hand");
        }
        let mut waits = ends.clone();
        let server = Server { site: Arc::clone(&site), ends };
        let app = router(server).layer(axum::middleware::from_fn_with_state(shield, guard));
        let over = async move {
            // Where the sender is gone it ends as well.
            let _ = waits.wait_for(|ends| *ends).await;
        };
        let mut over_for_good = over_after(&site, GRACE);
        let serving = axum::serve(listener, app).with_graceful_shutdown(over).into_future();
        tokio::select! {
            served = serving => served.map_err(Error::Serve)?,
            () = &mut over_for_good => {}
        }
        stopped.store(true, Ordering::Relaxed);
        // It panics nowhere; what it last looked at does not matter any more.
        let _ = watching.join();
        Ok(())
    })
}

/// Over so long after the page said good-bye.
fn over_after(site: &Arc<Site>, grace: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let mut messages = site.listen();
    Box::pin(async move {
        loop {
            match messages.recv().await {
                Ok(Message { event: "bye", .. }) | Err(broadcast::error::RecvError::Closed) => break,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
        tokio::time::sleep(grace).await;
    })
}

async fn listen(served: &Served) -> Result<TcpListener> {
    let at = |port| SocketAddr::new(served.host, port);
    let usual = served.port.unwrap_or(PORT);
    match TcpListener::bind(at(usual)).await {
        // Another study's page may have it.
        Err(_) if served.port.is_none() => TcpListener::bind(at(0)).await,
        bound => bound,
    }
    .map_err(|source| Error::Listen { address: at(usual), source })
}

/// Opens an address in the browser of whoever sits before this machine.
fn open(address: &str) -> bool {
    let there = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let mut command = Command::new("xdg-open");
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Some(mut child) = there.then(|| command.spawn().ok()).flatten() else { return false };
    // It ends when it has handed the address on, or with the browser.
    std::thread::spawn(move || child.wait());
    true
}

fn router(server: Server) -> Router {
    Router::new()
        .route("/", get(|| async { asset("index.html") }))
        .route("/events", get(events))
        .route("/plain.html", get(plain_page))
        .route("/api/{*name}", get(api))
        .route("/raw/{file}", get(raw))
        .route("/picture/{file}", get(pictured))
        .route("/{file}", get(|Named(file): Named<String>| async move { asset(&file) }))
        .fallback(|| async { nothing() })
        .with_state(server)
}

fn asset(name: &str) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, bytes)) => ([(header::CONTENT_TYPE, *kind)], *bytes).into_response(),
        None => nothing(),
    }
}

fn nothing() -> Response {
    refused(StatusCode::NOT_FOUND, "there is nothing of this name")
}

fn refused(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json!({ "error": text }).to_string())
        .into_response()
}

/// Does something that takes a while on a thread where that disturbs nobody.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}

async fn api(State(server): State<Server>, Named(name): Named<String>, uri: Uri) -> Response {
    let number = |name: &str| query(&uri, name).map(str::parse::<u64>).transpose();
    let (Ok(from), Ok(before)) = (number("from"), number("before")) else {
        return refused(StatusCode::BAD_REQUEST, "a place in a log is a number of bytes");
    };
    let part = Part::asked(from, before);
    let answer = aside(move || resources::text(&server.site, &name, part));
    match answer.await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Some(Err(text)) => refused(StatusCode::NOT_FOUND, text),
        None => refused(StatusCode::INTERNAL_SERVER_ERROR, "this could not be read"),
    }
}

async fn plain_page(State(server): State<Server>) -> Response {
    let html = aside(move || plain::page(&server.site)).await;
    match html {
        Some(html) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        None => nothing(),
    }
}

/// A content as it is.
async fn raw(State(server): State<Server>, Named(file): Named<String>) -> Response {
    let found = aside(move || {
        let (hex, ending) = file.split_once('.')?;
        let now = server.site.now();
        let store = &now.known.session.store;
        let digest = content::find(store, hex).filter(|digest| digest.kind != Kind::Tree)?;
        let path: PathBuf = store.place(&digest);
        let form = Form::of(&path);
        (form.served().0 == ending).then_some((path, form))
    });
    let Some((path, form)) = found.await.flatten() else { return nothing() };
    let Ok(file) = tokio::fs::File::open(&path).await else { return nothing() };
    let length = file.metadata().await.map(|meta| meta.len()).unwrap_or_default();
    let pieces = stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; 64 << 10];
        let count = file.read(&mut piece).await?;
        piece.truncate(count);
        Ok::<_, std::io::Error>((count > 0).then(|| (Bytes::from(piece), file)))
    });
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form.served().1));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // It is called by its content, which never changes.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400, immutable"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    if form.served().1 == "application/octet-stream" {
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    response
}

/// A picture of an archive: `HEX.grid.png`, `HEX.7.png`.
async fn pictured(State(server): State<Server>, Named(file): Named<String>) -> Response {
    let png = aside(move || {
        let (hex, which) = file.strip_suffix(".png")?.split_once('.')?;
        let now = server.site.now();
        let store = &now.known.session.store;
        let digest = content::find(store, hex).filter(|digest| digest.kind == Kind::File)?;
        let path = store.place(&digest);
        match which {
            "grid" => picture::sheet(&path),
            number => picture::one(&path, number.parse().ok()?),
        }
    });
    let Some(png) = png.await.flatten() else { return nothing() };
    let kept = "private, max-age=86400, immutable";
    ([(header::CONTENT_TYPE, "image/png"), (header::CACHE_CONTROL, kept)], png).into_response()
}

/// What changes, as it changes.
async fn events(State(server): State<Server>) -> Response {
    let messages = server.site.listen();
    let hello = frame("hello", &json!({ "version": server.site.version() }).to_string());
    let stream = told(messages, server, hello);
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response()
}

fn frame(event: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}

fn told(
    messages: broadcast::Receiver<Message>,
    server: Server,
    hello: Bytes,
) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> {
    stream::unfold((messages, server, Some(hello)), |(mut messages, mut server, first)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (messages, server, None)));
        }
        let ended = *server.ends.borrow();
        let said = tokio::select! {
            biased;
            message = messages.recv() => match message {
                Ok(message) => frame(message.event, &message.data),
                // Too slow: whoever listens asks for everything again.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let version: Value = json!({ "version": server.site.version() });
                    frame("study", &version.to_string())
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            },
            _ = server.ends.changed(), if !ended => frame("bye", "{}"),
            () = std::future::ready(()), if ended => return None,
            () = tokio::time::sleep(ALIVE) => Bytes::from_static(b": still here\n\n"),
        };
        Some((Ok(said), (messages, server, None)))
    })
}
