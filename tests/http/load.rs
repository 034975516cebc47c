//! Load: wrk(1), ab(1) and h2load(1) end without an error. How fast it is, `benches/http` says.

use crate::example::run_client;
use crate::site::Site;

fn run(program: &str, arguments: &str, url: &str) -> String {
    let arguments: Vec<_> = arguments.split(' ').chain([url]).collect();
    String::from_utf8(run_client(program, &arguments, b"")).unwrap()
}

/// The number that follows `name` in what a program printed.
fn number(printed: &str, name: &str) -> u64 {
    let (_, rest) = printed.split_once(name).unwrap_or_else(|| panic!("no {name}: {printed}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn wrk_finds_no_error() {
    let site = Site::start();
    for path in ["/hello.txt", "/large.bin"] {
        let printed = run("wrk", "-t1 -c64 -d1s --timeout 10s", &site.url(path));
        assert!(!printed.contains("Socket errors"), "{printed}");
        assert!(!printed.contains("Non-2xx"), "{printed}");
        assert!(printed.contains(" requests in "), "{printed}");
    }
}

/// It speaks HTTP/1.0.
#[test]
fn ab_finds_no_error() {
    let site = Site::start();
    let url = site.url("/hello.txt");
    let kept = run("ab", "-q -k -n 3000 -c 50", &url);
    assert_eq!(number(&kept, "Keep-Alive requests:"), 3_000, "{kept}");
    let closed = run("ab", "-q -n 1000 -c 50", &url);
    let posted = {
        let body = site.place().join("body");
        std::fs::write(&body, "[1,2,3]").unwrap();
        let post = format!("-q -k -n 1000 -c 50 -T application/json -p {}", body.display());
        run("ab", &post, &site.url("/api/echo"))
    };
    for (printed, count) in [(kept, 3_000), (closed, 1_000), (posted, 1_000)] {
        assert_eq!(number(&printed, "Complete requests:"), count, "{printed}");
        assert_eq!(number(&printed, "Failed requests:"), 0, "{printed}");
        assert!(!printed.contains("Non-2xx"), "{printed}");
    }
}

/// It pipelines.
#[test]
fn h2load_finds_no_error() {
    let site = Site::start();
    for path in ["/hello.txt", "/large.bin", "/api/stats"] {
        let printed = run("h2load", "--h1 -n 2000 -c 20 -m 10", &site.url(path));
        let done =
            "requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored";
        assert!(printed.contains(done), "{printed}");
        assert!(printed.contains("status codes: 2000 2xx"), "{printed}");
    }
}
