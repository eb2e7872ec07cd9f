//! `hub:` sources, against a small server on this machine that answers as the Hugging Face hub does.
//!
//! hf-hub takes its settings from the environment. Changing that of a running test process would
//! disturb the other tests, so each case runs [`resolve_in_child`] in a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use biformer::weights::resolve;

#[test]
fn a_path_stays_a_path() {
    assert_eq!(resolve("runs/best.safetensors").unwrap(), Path::new("runs/best.safetensors"));
}

#[test]
fn downloads_the_default_file_once() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/main/model.safetensors", b"the weights");
    let path = hub.resolve("hub:rayleizhu/biformer").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"the weights");
    assert!(path.starts_with(hub.home.path().to_string_lossy().as_ref()), "{path}");

    let requests = hub.requests();
    assert_eq!(hub.resolve("hub:rayleizhu/biformer").unwrap(), path);
    assert_eq!(hub.requests(), requests, "the cache should have answered");
    assert!(
        requests.iter().all(|request| request.contains("authorization: bearer secret")),
        "{requests:?}"
    );
}

#[test]
fn falls_back_to_the_pytorch_file() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/main/pytorch_model.bin", b"a pickle");
    for _ in 0..2 {
        let path = hub.resolve("hub:rayleizhu/biformer").unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"a pickle");
    }
    let asked: Vec<_> = hub.requests().iter().map(|request| request[..60].to_owned()).collect();
    assert!(asked[0].contains("model.safetensors") && asked.len() == 3, "{asked:?}");
}

#[test]
fn takes_a_revision_and_a_file() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/v1.0/small/best.pth", b"small");
    let path = hub.resolve("hub:rayleizhu/biformer@v1.0/small/best.pth").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"small");
}

/// Large files of the real hub lie on another host, to which its answer redirects.
#[test]
fn follows_the_redirect_to_large_files() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/main/model.safetensors", b"elsewhere");
    let path = hub.resolve("hub:rayleizhu/biformer").unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"elsewhere");
    assert!(hub.requests().iter().any(|request| request.starts_with("get /blob ")));
}

#[test]
fn failures_say_what_to_do() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/main/refused.safetensors", b"401");
    let missing = hub.resolve("hub:rayleizhu/biformer").unwrap_err();
    for part in [
        "hub:rayleizhu/biformer",
        "404",
        "model.safetensors",
        "pytorch_model.bin",
        "check the spelling",
    ] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
    let refused = hub.resolve("hub:rayleizhu/biformer/refused.safetensors").unwrap_err();
    assert!(refused.contains("401") && refused.contains("HF_TOKEN"), "{refused}");
}

#[test]
fn a_download_that_breaks_off_is_not_taken_for_the_file() {
    let hub = Hub::serving("/rayleizhu/biformer/resolve/main/model.safetensors", b"broken off");
    let broken = hub.resolve("hub:rayleizhu/biformer").unwrap_err();
    assert!(broken.contains("HF_HOME") || broken.contains("check the network"), "{broken}");
}

#[test]
fn without_a_network_it_fails_at_once() {
    let hub = Hub::serving("/", b"");
    let unused_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for endpoint in [format!("http://{unused_port}"), "http://hub.invalid".to_owned()] {
        let start = Instant::now();
        let error = hub.resolve_at(&endpoint, "hub:rayleizhu/biformer").unwrap_err();
        assert!(error.contains("cannot reach") && error.contains("check the network"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

/// Without TLS in hf-hub's client nothing would be sent; with it, a handshake (record type 22) is.
#[test]
fn https_is_compiled_in() {
    let hub = Hub::serving("/", b"");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let first_byte = std::thread::spawn(move || {
        let mut byte = [0];
        listener.accept().unwrap().0.read_exact(&mut byte).map(|()| byte[0])
    });
    let error = hub.resolve_at(&endpoint, "hub:rayleizhu/biformer").unwrap_err();
    assert!(error.contains("cannot reach https://"), "{error}");
    assert_eq!(first_byte.join().unwrap().unwrap(), 22);
}

#[test]
fn invalid_names_are_refused_without_asking() {
    for name in [
        "",
        "biformer",
        "/biformer",
        "owner/",
        "../x",
        "o/n/../../x",
        "o/n//x",
        "o/n@",
        "o/n?x",
        "o/n@a b",
    ] {
        let source = format!("hub:{name}");
        let message = resolve(&source).unwrap_err().to_string();
        assert!(
            message.contains(&source) && message.contains("expected `hub:owner/name`"),
            "{message}"
        );
    }
}

/// Not a test of its own: the part of the others that runs with an environment of its own.
#[test]
fn resolve_in_child() {
    match std::env::var("BIFORMER_TEST_HUB_SOURCE").map(|source| resolve(&source)) {
        Ok(Ok(path)) => println!("\nRESOLVED {}", path.display()),
        Ok(Err(error)) => println!("\nFAILED {error}"),
        Err(_) => {}
    }
}

/// A hub with one file, and a cache to download it to.
struct Hub {
    endpoint: String,
    home: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// Content `401` is refused, `broken off` cut after its first bytes, `elsewhere` redirected to.
    fn serving(path: &'static str, content: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = answer(stream.unwrap(), path, content, &log);
            }
        });
        Self { endpoint, home: tempfile::tempdir().unwrap(), requests }
    }

    fn resolve(&self, source: &str) -> Result<String, String> {
        self.resolve_at(&self.endpoint, source)
    }

    fn resolve_at(&self, endpoint: &str, source: &str) -> Result<String, String> {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "resolve_in_child", "--nocapture"]);
        child.env("BIFORMER_TEST_HUB_SOURCE", source).env("HF_TOKEN", "secret");
        child.env("HF_ENDPOINT", endpoint).env("HF_HOME", self.home.path());
        for proxy in
            ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
        {
            child.env_remove(proxy);
        }
        let output = child.output().unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(line) = output.lines().find_map(|line| line.strip_prefix("RESOLVED ")) {
            return Ok(line.to_owned());
        }
        let failed = output.lines().find_map(|line| line.strip_prefix("FAILED "));
        Err(failed.unwrap_or_else(|| panic!("{output}")).to_owned())
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// One request: hf-hub first asks for the byte range 0-0 to learn the size, then for all from 0.
fn answer(
    mut stream: TcpStream,
    path: &str,
    content: &[u8],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut request)? > 2 {} // up to the empty line
    let request = request.to_ascii_lowercase();
    log.lock().unwrap().push(request.clone());
    let found = [path, "/blob"].iter().any(|path| request.starts_with(&format!("get {path} ")));
    let size = content.len();
    let (status, body) = match content {
        _ if !found => ("404 Not Found", &b""[..]),
        b"401" => ("401 Unauthorized", &b""[..]),
        b"elsewhere" if !request.starts_with("get /blob ") => ("302 Found", &b""[..]),
        _ if request.contains("range: bytes=0-0") => ("206 Partial Content", &content[..1]),
        _ => ("206 Partial Content", content),
    };
    let sent = if content == b"broken off" { &body[..body.len().min(4)] } else { body };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes 0-{}/{size}\r\n\
         location: http://localhost:{}/blob\r\netag: \"0123\"\r\nx-repo-commit: abcdef\r\nconnection: close\r\n\r\n",
        body.len(),
        body.len().saturating_sub(1),
        stream.local_addr()?.port(),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(sent)
}
