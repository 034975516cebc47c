//! A directory with files, and the example `http` that serves it.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::answer::{Answer, shown};
use crate::example::{Example, path_of, start_client};
use crate::support;

/// What `hello.txt` holds.
pub const HELLO: &[u8] = b"hello, world\n";

/// What stands outside of the directory, and what no answer may hold.
pub const SECRET: &[u8] = b"nobody may see this";

/// So long is `large.bin`: more than a socket takes at once.
pub const LARGE: usize = 300_000;

/// A site that is served. The server and the files end with this value.
pub struct Site {
    pub server: Example,
    place: Place,
}

impl Site {
    pub fn start() -> Site {
        Site::start_with(&[])
    }

    /// Starts the server with these options besides.
    pub fn start_with(options: &[&str]) -> Site {
        Site::start_command(Command::new(path_of("http")), options)
    }

    /// Starts the server with what these options of ulimit(1) set.
    pub fn start_limited(limit: &str) -> Site {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit $0 && exec \"$@\"", limit]).arg(path_of("http"));
        Site::start_command(shell, &[])
    }

    fn start_command(mut command: Command, options: &[&str]) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = std::env::temp_dir().join(format!("oneloop-http-{}-{count}", process::id()));
        let files = place.join("files");
        fs::create_dir_all(files.join("directory")).unwrap();
        fs::create_dir(files.join("list")).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(files.join(name), bytes).unwrap();
        write("hello.txt", HELLO);
        write("index.html", b"<h1>index</h1>\n");
        write("directory/index.html", b"<h1>directory</h1>\n");
        write("list/<a> & b.txt", b"a");
        write("empty.txt", b"");
        write("with space.txt", b"space");
        write("large.bin", &support::pattern(LARGE));
        fs::write(place.join("secret.txt"), SECRET).unwrap();
        std::os::unix::fs::symlink("../secret.txt", files.join("link.txt")).unwrap();
        command.arg(files).arg("127.0.0.1:0").args(options);
        Site { server: Example::start_command(&mut command), place: Place(place) }
    }

    /// The directory that is served.
    pub fn files(&self) -> PathBuf {
        self.place.0.join("files")
    }

    /// A place for what a client writes.
    pub fn place(&self) -> &Path {
        &self.place.0
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    /// What curl(1) prints with these arguments, which must not fail.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Vec<u8> {
        let url = self.url(path);
        let own = ["--silent", "--show-error", "--max-time", "15", "--path-as-is", &url];
        start_client("curl", &[&own, arguments].concat(), Stdio::null()).output()
    }

    /// The one answer that curl(1) got, or with `100 Continue` the one after it.
    pub fn ask(&self, path: &str, arguments: &[&str]) -> Answer {
        let is_head = arguments.contains(&"--head");
        let printed = self.curl(path, &[&["--include", "--raw"], arguments].concat());
        let method = if is_head { "HEAD" } else { "GET" };
        let mut bytes = &printed[..];
        loop {
            let (answer, length) = Answer::read(bytes, method, true)
                .unwrap_or_else(|| panic!("not whole: {}", shown(bytes)));
            bytes = &bytes[length..];
            if answer.status >= 200 {
                assert!(bytes.is_empty(), "and more: {}", shown(bytes));
                return answer;
            }
        }
    }

    /// All that comes for these bytes until the server ends the connection, which it has to.
    pub fn exchange(&self, sent: &[u8]) -> Vec<u8> {
        let mut client = self.connect();
        client.write_all(sent).unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        received
    }

    pub fn connect(&self) -> TcpStream {
        let client = support::connect(self.server.address);
        client.set_read_timeout(Some(support::DEADLINE)).unwrap();
        client
    }
}

/// A directory that ends with this value.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        // What is left over in a directory for temporary files harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Asks again and again until it is so.
///
/// # Panics
///
/// After the deadline, naming what did not happen.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < support::DEADLINE, "waited in vain until {what}");
    }
}
