//! The shared cache in stores other than folders and S3, each made-believe: pushed, pushed again, pulled and verified, and what
//! a runner left there that knew no packs.
//!
//! Google's is spoken to in the form that its XML interface shares with S3, by the object store of the bench `remote`.
//! `WSGIDAV` and `AZURITE` name the programs `wsgidav` (of PyPI, with `cheroot`) and `azurite-blob` (of npm).

#[path = "../../benches/remote/bucket.rs"]
mod bucket;

use crate::packs::{objects, old_cache};
use crate::study::{Study, said};
use object_store::ObjectStoreExt;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Small files in packs, one by itself, and one that travels in parts where the store takes them.
const MIXED: &str = r#"name: mixed
stages:
  a:
    command: >
      sh -c 'echo a >> ran; mkdir -p $1/in; for i in $(seq 300); do printf "%01024d" $i > $1/in/$i; done;
      yes middle | head -c 900000 > $1/middle; yes large | head -c 20000000 > $1/large; : > $1/empty' -- ${outputs.d}
    outputs: [d]
"#;

/// The account that every Azurite has, as its manual says.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes a container: `node -e CONTAINER PORT NAME ACCOUNT KEY`.
const CONTAINER: &str = r"
const [port, name, account, key] = process.argv.slice(1);
const version = '2021-08-06', date = new Date().toUTCString();
const signed = ['PUT', ...Array(11).fill(''), `x-ms-date:${date}`, `x-ms-version:${version}`,
    `/${account}/${account}/${name}`, 'restype:container'].join('\n');
const signature = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(signed).digest('base64');
const headers = {'x-ms-date': date, 'x-ms-version': version, 'Content-Length': 0,
    Authorization: `SharedKey ${account}:${signature}`};
require('http').request({host: '127.0.0.1', port, path: `/${account}/${name}?restype=container`, method: 'PUT', headers},
    answer => process.exit(answer.statusCode == 201 ? 0 : 1)).end();
";

/// A store, and what the runner is told of it.
struct Place {
    url: String,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    /// Calls the runner with the cache in a folder of the store.
    fn call(&self, study: &Study, words: &[&str], folder: &str) -> String {
        let cache = format!("{}/{folder}", self.url);
        let mut command = study.command(&[words, &["--cache", &cache]].concat());
        let output = command.envs(self.variables.iter().cloned()).output().unwrap();
        assert!(output.status.success() && !said(&output).contains("warning"), "{}", said(&output));
        said(&output)
    }

    /// Puts files into a folder of the store.
    fn put(&self, folder: &str, files: BTreeMap<String, Vec<u8>>) {
        let url = format!("{}/{folder}", self.url).parse().unwrap();
        let options = self.variables.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
        // A second installation is refused, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = options.chain([("allow_http".to_string(), "true".to_string())]);
        let (store, base) = object_store::parse_url_opts(&url, options).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (name, bytes) in files {
            let place = name.split('/').fold(base.clone(), |place, part| place.join(part));
            runtime.block_on(store.put(&place, bytes.into())).unwrap();
        }
    }

    fn serves_two_machines_and_what_an_older_one_left(&self) {
        let contents = |study: &Study| objects(&study.path("out/a/d"));
        let (a, b, c) = (Study::new(MIXED), Study::new(MIXED), Study::new(MIXED));
        a.run(&[]);
        let pushed = self.call(&a, &["push"], "new");
        assert!(pushed.contains("sent"), "{pushed}");
        let again = self.call(&a, &["push"], "new");
        assert!(again.contains("in the cache already") && !again.contains("sent"), "{again}");
        self.call(&b, &["pull"], "new");
        assert!(!b.exists("ran"));
        assert_eq!((contents(&b).len(), contents(&b) == contents(&a)), (303, true));
        let verified = b.call(&["verify"]);
        assert!(verified.status.success() && said(&verified).contains("0 damaged"), "{}", said(&verified));

        let old = tempfile::tempdir().unwrap();
        old_cache(&a.path(".pipeline"), old.path());
        self.put("old", objects(old.path()));
        let plan = self.call(&c, &["plan"], "old");
        assert!(plan.contains("to fetch") && !plan.contains("to run"), "{plan}");
        self.call(&c, &["run"], "old");
        assert!(!c.exists("ran") && contents(&c) == contents(&a));
    }
}

/// A program that serves on a port, and ends with its owner.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program that a variable names, and waits until it serves on the port in its arguments.
fn server(variable: &str, port: u16, arguments: &[&str], folder: &Path) -> Server {
    let program =
        PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    let serves = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    assert!(
        (0..300).any(|_| serves() || {
            std::thread::sleep(Duration::from_millis(100));
            false
        }),
        "{variable} does not serve"
    );
    server
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_bucket_of_googles() {
    let folder = tempfile::tempdir().unwrap();
    let address = bucket::serve(folder.path());
    let key = format!(
        r#"{{"gcs_base_url": "http://{address}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}"#
    );
    let variables = vec![("GOOGLE_SERVICE_ACCOUNT_KEY", key)];
    Place { url: "gs://bucket".into(), variables }.serves_two_machines_and_what_an_older_one_left();
}

#[test]
#[ignore = "wants wsgidav in WSGIDAV"]
fn a_webdav() {
    let folder = tempfile::tempdir().unwrap();
    // A server makes no folder above a file by itself, and clients make them one by one.
    std::fs::create_dir(folder.path().join("team")).unwrap();
    let port = free_port();
    let root = folder.path().to_str().unwrap();
    let number = port.to_string();
    let arguments = [
        "--host",
        "127.0.0.1",
        "--port",
        &number,
        "--root",
        root,
        "--auth",
        "anonymous",
        "--server",
        "cheroot",
    ];
    let _server = server("WSGIDAV", port, &arguments, folder.path());
    let url = format!("http://127.0.0.1:{port}/team");
    Place { url, variables: Vec::new() }.serves_two_machines_and_what_an_older_one_left();
}

#[test]
#[ignore = "wants azurite-blob in AZURITE, and node"]
fn a_container_of_azures() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let number = port.to_string();
    let arguments = ["--blobPort", &number, "--location", ".", "--silent", "--skipApiVersionCheck"];
    let _server = server("AZURITE", port, &arguments, folder.path());
    let made = Command::new("node").args(["-e", CONTAINER, &number, "team", ACCOUNT, KEY]).status().unwrap();
    assert!(made.success());
    let variables = vec![
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.into()),
        ("AZURE_STORAGE_ACCOUNT_KEY", KEY.into()),
        ("AZURE_STORAGE_ENDPOINT", format!("http://127.0.0.1:{port}/{ACCOUNT}")),
        ("AZURE_ALLOW_HTTP", "true".into()),
    ];
    Place { url: "az://team".into(), variables }.serves_two_machines_and_what_an_older_one_left();
}
