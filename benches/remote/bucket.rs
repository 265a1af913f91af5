//! An object store on loopback: as much of S3 as the runner and its peers ask of it, with its objects in files.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Result, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Names to the files that hold the object, one behind the other.
type Objects = BTreeMap<String, Vec<PathBuf>>;

#[derive(Default)]
struct Bucket {
    folder: PathBuf,
    objects: Mutex<Objects>,
    parts: Mutex<HashMap<String, BTreeMap<u32, PathBuf>>>,
    next: AtomicU64,
}

/// Serves on a port of its own until the process ends.
pub fn serve(folder: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let bucket = Arc::new(Bucket { folder: folder.into(), ..Bucket::default() });
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let bucket = Arc::clone(&bucket);
            // A connection that breaks is the other side's to deal with.
            std::thread::spawn(move || bucket.talk(&connection));
        }
    });
    address
}

/// A request without its body.
struct Request {
    method: String,
    /// Bucket and key.
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
}

impl Request {
    fn read(from: &mut impl BufRead) -> Result<Option<Self>> {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (decoded(name), decoded(value))
        };
        let mut request = Self {
            method: method.into(),
            path: decoded(path).trim_start_matches('/').into(),
            query: query.split('&').filter(|text| !text.is_empty()).map(pair).collect(),
            headers: HashMap::new(),
        };
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(request)) };
            request.headers.insert(name.to_ascii_lowercase(), value.trim().into());
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Copies the body, without the frames that clients put around its pieces.
    fn body(&self, from: &mut impl BufRead, to: &mut impl Write) -> Result<()> {
        let framed = self.header("transfer-encoding").contains("chunked");
        let chunked = self.header("content-encoding").contains("aws-chunked");
        if !framed && !chunked {
            let length = self.header("content-length").parse().unwrap_or(0);
            return std::io::copy(&mut from.take(length), to).map(|_| ());
        }
        if framed && chunked {
            let mut inner = Vec::new();
            pieces(from, &mut inner)?;
            return pieces(&mut inner.as_slice(), to);
        }
        pieces(from, to)
    }
}

/// Pieces behind their lengths, up to an empty one and what trails it.
fn pieces(from: &mut impl BufRead, to: &mut impl Write) -> Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = line.trim_end().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        std::io::copy(&mut from.by_ref().take(size), to)?;
        from.read_line(&mut String::new())?;
    }
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            return Ok(());
        }
    }
}

impl Bucket {
    fn talk(&self, connection: &TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(1 << 17, connection);
        let mut writer = connection;
        while let Some(request) = Request::read(&mut reader)? {
            if request.header("expect").eq_ignore_ascii_case("100-continue") {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.answer(&request, &mut reader, &mut writer)?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request, body: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
        let asks = |name: &str| request.query.contains_key(name);
        match request.method.as_str() {
            "PUT" if !request.path.contains('/') => {
                request.body(body, &mut std::io::sink())?;
                plain(out, 200, "", b"")
            }
            "PUT" => self.put(request, body, out),
            "POST" => {
                let mut text = Vec::new();
                request.body(body, &mut text)?;
                self.post(request, &String::from_utf8_lossy(&text), out)
            }
            "GET" if asks("location") => plain(out, 200, "", b"<LocationConstraint/>"),
            "GET" if !request.path.trim_end_matches('/').contains('/') => self.list(request, out),
            "HEAD" if !request.path.trim_end_matches('/').contains('/') => plain(out, 200, "", b""),
            "GET" | "HEAD" => self.get(request, out),
            "DELETE" => {
                self.remove(&request.path);
                plain(out, 204, "", b"")
            }
            _ => plain(out, 501, "", b"<Error><Code>NotImplemented</Code></Error>"),
        }
    }

    fn put(&self, request: &Request, body: &mut impl BufRead, out: &mut impl Write) -> Result<()> {
        let path = self.folder.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        request.body(body, &mut File::create(&path)?)?;
        match request.query.get("uploadId").zip(request.query.get("partNumber")) {
            Some((upload, number)) => {
                let mut parts = self.parts.lock().unwrap();
                parts.entry(upload.clone()).or_default().insert(number.parse().unwrap_or(0), path);
            }
            None => drop(self.objects.lock().unwrap().insert(request.path.clone(), vec![path])),
        }
        plain(out, 200, "ETag: \"0123456789abcdef0123456789abcdef\"\r\n", b"")
    }

    fn post(&self, request: &Request, body: &str, out: &mut impl Write) -> Result<()> {
        let (bucket, key) = request.path.split_once('/').unwrap_or((&request.path, ""));
        if request.query.contains_key("delete") {
            for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
                self.remove(&format!("{bucket}/{key}"));
            }
            return plain(out, 200, "", b"<DeleteResult></DeleteResult>");
        }
        let named = format!("<Bucket>{bucket}</Bucket><Key>{key}</Key>");
        let text = match request.query.get("uploadId") {
            None => {
                let upload = format!("u{}", self.next.fetch_add(1, Ordering::Relaxed));
                format!(
                    "<InitiateMultipartUploadResult>{named}<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                )
            }
            Some(upload) => {
                let parts = self.parts.lock().unwrap().remove(upload).unwrap_or_default();
                self.objects.lock().unwrap().insert(request.path.clone(), parts.into_values().collect());
                format!(
                    "<CompleteMultipartUploadResult>{named}<ETag>\"0123456789abcdef0123456789abcdef-1\"</ETag></CompleteMultipartUploadResult>"
                )
            }
        };
        plain(out, 200, "", text.as_bytes())
    }

    fn remove(&self, name: &str) {
        for path in self.objects.lock().unwrap().remove(name).unwrap_or_default() {
            let _ = fs::remove_file(path);
        }
    }

    fn list(&self, request: &Request, out: &mut impl Write) -> Result<()> {
        let asked = |name: &str| request.query.get(name).map_or("", String::as_str);
        let bucket = request.path.trim_end_matches('/');
        let begin = format!("{bucket}/{}", asked("prefix"));
        let after = [asked("continuation-token"), asked("start-after"), asked("marker")]
            .into_iter()
            .max()
            .unwrap_or("");
        let most = asked("max-keys").parse().unwrap_or(1000);
        let (mut rows, mut folders, mut last) = (Vec::new(), Vec::new(), None);
        for (name, files) in self.objects.lock().unwrap().range(begin.clone()..) {
            let Some(rest) = name.strip_prefix(&begin) else { break };
            let key = &name[bucket.len() + 1..];
            if !after.is_empty() && key <= after {
                continue;
            }
            if let Some((folder, _)) = rest.split_once('/').filter(|_| asked("delimiter") == "/") {
                let folder = format!("{}{folder}/", asked("prefix"));
                if folders.last() != Some(&folder) {
                    folders.push(folder);
                }
                continue;
            }
            if rows.len() == most {
                last = rows.last().map(|(key, _): &(String, u64)| key.clone());
                break;
            }
            rows.push((key.to_string(), size(files)?));
        }
        let mut text = format!(
            "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Name>{bucket}</Name><Prefix>{}</Prefix><MaxKeys>{most}</MaxKeys><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
            asked("prefix"),
            rows.len(),
            last.is_some()
        );
        if let Some(last) = last {
            let _ = write!(text, "<NextContinuationToken>{last}</NextContinuationToken>");
        }
        for (key, size) in rows {
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"0123456789abcdef0123456789abcdef\"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            );
        }
        for folder in folders {
            let _ = write!(text, "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
        }
        text += "</ListBucketResult>";
        plain(out, 200, "", text.as_bytes())
    }

    fn get(&self, request: &Request, out: &mut impl Write) -> Result<()> {
        let files = self.objects.lock().unwrap().get(&request.path).cloned();
        let Some(files) = files else {
            let body: &[u8] =
                if request.method == "HEAD" { b"" } else { b"<Error><Code>NoSuchKey</Code></Error>" };
            return plain(out, 404, "", body);
        };
        let whole = size(&files)?;
        let range = request.header("range").strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let (from, to) = match range {
            Some((from, to)) => {
                (from.parse().unwrap_or(0), to.parse::<u64>().map_or(whole, |to| whole.min(to + 1)))
            }
            None => (0, whole),
        };
        if range.is_some() && from >= to {
            return plain(out, 416, "", b"<Error><Code>InvalidRange</Code></Error>");
        }
        let (status, ranged) = match range {
            Some(_) => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{whole}\r\n", to - 1)),
            None => ("200 OK", String::new()),
        };
        write!(
            out,
            "HTTP/1.1 {status}\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n{ranged}Content-Length: {}\r\n\r\n",
            to - from
        )?;
        if request.method == "HEAD" {
            return Ok(());
        }
        let mut begin = 0;
        for path in files {
            let mut file = File::open(&path)?;
            let end = begin + file.metadata()?.len();
            let (first, last) = (from.max(begin), to.min(end));
            if first < last {
                file.seek(SeekFrom::Start(first - begin))?;
                std::io::copy(&mut file.take(last - first), out)?;
            }
            begin = end;
        }
        Ok(())
    }
}

fn size(files: &[PathBuf]) -> Result<u64> {
    files.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

fn plain(out: &mut impl Write, status: u32, headers: &str, body: &[u8]) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    out.write_all(&[head.as_bytes(), body].concat())
}

/// Without `%2F` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &more[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = more;
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
