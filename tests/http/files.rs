//! Files and directories, asked for with curl(1).

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use crate::answer::Answer;
use crate::site::{HELLO, LARGE, SECRET, Site, until};
use crate::support::pattern;

#[test]
fn a_file_is_served_with_all_that_describes_it() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &[]);
    assert_eq!((answer.status, &answer.body[..]), (200, HELLO));
    assert_eq!(answer.must_have("content-length"), "13");
    assert!(answer.must_have("content-type").starts_with("text/plain"));
    assert_eq!(answer.must_have("accept-ranges"), "bytes");
    assert!(answer.must_have("etag").ends_with('"'));
    assert!(answer.must_have("last-modified").ends_with(" GMT"));
}

#[test]
fn head_is_get_without_the_body() {
    let site = Site::start();
    for path in ["/hello.txt", "/", "/nothing", "/large.bin"] {
        let (get, head) = (site.ask(path, &[]), site.ask(path, &["--head"]));
        assert_eq!(head.body, b"");
        let but_date = |fields: &[(String, String)]| {
            fields.iter().filter(|(name, _)| name != "date").cloned().collect::<Vec<_>>()
        };
        assert_eq!((get.status, but_date(&get.fields)), (head.status, but_date(&head.fields)));
    }
}

#[test]
fn the_content_type_follows_from_the_name() {
    let site = Site::start();
    for (name, expected) in [
        ("a.html", "text/html"),
        ("a.css", "text/css"),
        ("a.js", "text/javascript"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.svg", "image/svg+xml"),
        ("A.JPEG", "image/jpeg"),
        ("a.wasm", "application/wasm"),
        ("a.unheardof", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ] {
        fs::write(site.files().join(name), "x").unwrap();
        let answer = site.ask(&format!("/{name}"), &[]);
        let type_of = answer.must_have("content-type");
        assert_eq!(type_of.split(';').next(), Some(expected), "{name}");
    }
}

#[test]
fn a_directory_has_its_index() {
    let site = Site::start();
    assert_eq!(site.ask("/", &[]).body, b"<h1>index</h1>\n");
    assert_eq!(site.ask("/directory/", &[]).body, b"<h1>directory</h1>\n");
    // Relative links in it would otherwise mean something else.
    let answer = site.ask("/directory", &[]);
    assert!(matches!(answer.status, 301 | 308), "{answer:?}");
    assert!(answer.must_have("location").ends_with("/directory/"));
    assert_eq!(site.curl("/directory", &["--location"]), b"<h1>directory</h1>\n");
}

#[test]
fn names_are_percent_encoded_and_a_query_is_no_part_of_them() {
    let site = Site::start();
    for path in ["/with%20space.txt", "/%77ith%20space%2etxt", "/with%20space.txt?a=b&c=/../d"] {
        let answer = site.ask(path, &[]);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"space"[..]), "{path}");
    }
    // No name has a slash in it, and who takes an escaped one for none sees another path.
    for path in ["/with%2", "/with%zz", "/with%", "/directory%2findex.html", "/directory%2F"] {
        assert_eq!(site.ask(path, &[]).status, 400, "{path}");
    }
}

#[test]
fn an_empty_file_is_no_error() {
    let site = Site::start();
    let answer = site.ask("/empty.txt", &[]);
    assert_eq!((answer.status, answer.must_have("content-length")), (200, "0"));
    assert_eq!(answer.body, b"");
}

/// Around the lengths from which on a file is sent in another way; and where there are no memory files.
#[test]
fn files_of_all_lengths_are_sent_whole_and_in_parts() {
    const STEPS: [usize; 4] = [16 << 10, 64 << 10, 128 << 10, 256 << 10];
    for site in [Site::start(), Site::start_limited("-n 60")] {
        let lengths: Vec<usize> =
            STEPS.iter().flat_map(|step| [step - 1, *step, step + 1]).collect();
        let mut asked = String::new();
        for length in &lengths {
            fs::write(site.files().join(format!("{length}")), pattern(*length)).unwrap();
            let head = format!("GET /{length} HTTP/1.1\r\nHost: a\r\n");
            // The second time it is in memory.
            asked += &format!("{head}\r\n{head}Range: bytes=1-\r\n\r\n{head}\r\n");
        }
        let last = "GET /hello.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let received = site.exchange((asked + last).as_bytes());
        let answers = Answer::read_all(&received, &vec!["GET"; 3 * lengths.len() + 1]);
        for (length, answers) in lengths.iter().zip(answers.chunks(3)) {
            let file = pattern(*length);
            for (answer, expected) in answers.iter().zip([&file[..], &file[1..], &file[..]]) {
                assert!(answer.body == *expected, "{length}: {:?}", answer.fields);
            }
        }
        assert_eq!(answers.last().unwrap().body, HELLO);
    }
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_large_file() {
    const SIZE: usize = 8 << 20;
    let site = Site::start();
    let sent = pattern(SIZE);
    fs::write(site.files().join("huge.bin"), &sent).unwrap();
    let received = site.place().join("received");
    let received_name = received.to_str().unwrap();
    // curl(1) stops reading now and then to keep to it.
    site.curl("/huge.bin", &["--limit-rate", "6M", "--output", received_name]);
    assert!(fs::read(&received).unwrap() == sent);
    // What has come so far is kept, and the rest is asked for.
    fs::write(&received, &sent[..SIZE / 3]).unwrap();
    site.curl("/huge.bin", &["--continue-at", "-", "--output", received_name]);
    assert!(fs::read(&received).unwrap() == sent);
}

#[test]
fn a_file_that_is_replaced_is_served_anew() {
    let site = Site::start();
    let old = site.ask("/hello.txt", &[]);
    let new = site.files().join("new");
    fs::write(&new, "something else").unwrap();
    fs::rename(new, site.files().join("hello.txt")).unwrap();
    // It may be remembered for a moment.
    until("the new file is served", || {
        let answer = site.ask("/hello.txt", &[]);
        answer.body == b"something else" && answer.must_have("etag") != old.must_have("etag")
    });
}

/// As cp(1) does with `-p`, and rsync(1) with `-t`.
#[test]
fn a_file_that_is_replaced_by_one_of_the_same_length_and_time_is_served_anew() {
    let site = Site::start();
    let path = site.files().join("hello.txt");
    let old = site.ask("/hello.txt", &[]);
    assert_eq!(old.body, HELLO);
    let (other, new) = (HELLO.to_ascii_uppercase(), site.files().join("new"));
    fs::write(&new, &other).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    fs::rename(new, &path).unwrap();
    until("the new file is served", || site.ask("/hello.txt", &[]).body == other);
    // Also to somebody who has the old one.
    let is_known = format!("If-None-Match: {}", old.must_have("etag"));
    assert_eq!(site.ask("/hello.txt", &["--header", &is_known]).status, 200);
    // In its place, too.
    fs::write(&path, HELLO).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    until("the file is served as it is now", || site.ask("/hello.txt", &[]).body == HELLO);
}

/// As of an archive that was unpacked, whose directories then take each other's place.
#[test]
fn files_of_one_time_and_one_length_have_tags_of_their_own() {
    let site = Site::start();
    let paths = ["one", "other"].map(|name| site.files().join(name).join("flag.txt"));
    paths.iter().for_each(|path| fs::create_dir(path.parent().unwrap()).unwrap());
    until("both are written within one tick of the clock", || {
        for (path, text) in paths.iter().zip(["on \n", "off\n"]) {
            // Not written over: a file whose time was asked for has finer ones from then on.
            let _ = fs::remove_file(path);
            fs::write(path, text).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
        let [one, other] = paths.each_ref().map(|path| fs::metadata(path).unwrap());
        (one.ctime(), one.ctime_nsec()) == (other.ctime(), other.ctime_nsec())
    });
    let tag = |path| site.ask(path, &[]).must_have("etag").to_string();
    assert_ne!(tag("/one/flag.txt"), tag("/other/flag.txt"));
}

#[test]
fn nothing_outside_of_the_directory_is_served() {
    let site = Site::start();
    fs::create_dir(site.place().join("files-of-others")).unwrap();
    fs::write(site.place().join("files-of-others/secret.txt"), SECRET).unwrap();
    for path in [
        "/../secret.txt",
        "/directory/../../secret.txt",
        "/./.././secret.txt",
        "//../secret.txt",
        "/%2e%2e/secret.txt",
        "/.%2E/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/directory/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/%252e%252e/secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/../files-of-others/secret.txt",
        "/%2e%2e/files-of-others/secret.txt",
        "/link.txt",
        "/secret.txt",
        "/hello.txt%00",
        "/..%00/secret.txt",
        "/hello.txt/",
        "/hello.txt/../../secret.txt",
        &format!("{}", site.place().join("secret.txt").display()),
        &format!("/%2f{}", site.place().join("secret.txt").display()),
    ] {
        let answer = site.ask(path, &[]);
        assert!(matches!(answer.status, 400 | 403 | 404), "{path}: {answer:?}");
        assert!(!answer.body.windows(SECRET.len()).any(|bytes| bytes == SECRET), "{path}");
    }
}

#[test]
fn a_path_that_stays_inside_may_go_up_and_down() {
    let site = Site::start();
    for path in ["/directory/../hello.txt", "/./hello.txt", "/directory/%2e%2e/hello.txt"] {
        let answer = site.ask(path, &[]);
        // Whether it is served is a matter of taste; what is, is the right one.
        match answer.status {
            200 => assert_eq!(answer.body, HELLO, "{path}"),
            status => assert!(matches!(status, 400 | 403 | 404), "{path}: {answer:?}"),
        }
    }
}

#[test]
fn what_is_not_there_is_not_found_and_what_may_not_be_read_is_forbidden() {
    let site = Site::start();
    assert_eq!(site.ask("/nothing", &[]).status, 404);
    assert_eq!(site.ask("/nothing/at/all", &[]).status, 404);
    assert_eq!(site.ask(&format!("/{}", "a".repeat(300)), &[]).status, 404);
    assert_eq!(site.ask("/link.txt", &[]).status, 403);
}

#[test]
fn a_large_file_is_sent_whole() {
    let site = Site::start();
    let answer = site.ask("/large.bin", &[]);
    assert_eq!(answer.must_have("content-length"), LARGE.to_string());
    assert!(answer.body == pattern(LARGE));
}

#[test]
fn links_that_lead_in_a_circle_lead_nowhere() {
    let site = Site::start();
    for (link, to) in [("one", "other"), ("other", "one")] {
        std::os::unix::fs::symlink(to, site.files().join(link)).unwrap();
    }
    for path in ["/one", "/one/", "/other/hello.txt"] {
        assert_eq!(site.ask(path, &[]).status, 404, "{path}");
    }
}

/// RFC 9110, section 8.6: an answer to HEAD has the length of the one to GET, or none.
#[test]
fn a_list_of_names_has_no_length_that_it_does_not_have() {
    let site = Site::start();
    for version in ["--http1.0", "--http1.1"] {
        let (get, head) =
            (site.ask("/list/", &[version]), site.ask("/list/", &[version, "--head"]));
        assert_eq!((get.status, head.status), (200, 200));
        assert_eq!(get.field("content-type"), head.field("content-type"));
        let length = head.field("content-length");
        assert!(length.is_none() || length == get.field("content-length"), "{length:?}");
    }
}

#[test]
fn a_list_of_names_is_in_their_order_and_says_when_there_are_more() {
    const SHOWN: usize = 10_000;
    let site = Site::start();
    fs::create_dir(site.files().join("names")).unwrap();
    for i in 0..=SHOWN {
        fs::write(site.files().join(format!("names/{i:05}")), "").unwrap();
    }
    let page = || String::from_utf8(site.ask("/names/", &[]).body).unwrap();
    let more = page();
    let items: Vec<_> = more.lines().filter(|line| line.starts_with("<li><a ")).collect();
    assert_eq!(items.len(), SHOWN);
    assert!(items.is_sorted());
    assert!(more.contains("and more"));
    fs::remove_file(site.files().join("names/00000")).unwrap();
    assert!(!page().contains("and more"));
}

/// Its length was promised, so that an end before that tells the client; what was sent before it is not lost.
#[test]
fn a_file_that_becomes_shorter_on_its_way_ends_the_connection_in_good_order() {
    let site = Site::start();
    let huge = site.files().join("huge.bin");
    let sent = pattern(16 << 20);
    fs::write(&huge, &sent).unwrap();
    let mut client = site.connect();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.write_all((get("/hello.txt") + &get("/huge.bin")).as_bytes()).unwrap();
    let mut received = vec![0; 4096]; // more than the first answer
    client.read_exact(&mut received).unwrap();
    // Not all of it fits into the sockets, so it is under way. Nothing is left of it: of a page that is cut, the rest would
    // become zeros also where the kernel has it to send.
    fs::File::options().write(true).open(&huge).unwrap().set_len(0).unwrap();
    client.read_to_end(&mut received).expect("an end that is no reset");
    let (answer, length) = Answer::read(&received, "GET", true).unwrap();
    assert_eq!(answer.body, HELLO);
    let (head, head_length) = Answer::read_head(&received[length..], "GET").unwrap();
    assert_eq!(head.must_have("content-length"), sent.len().to_string());
    let body = &received[length + head_length..];
    assert!(body.len() < sent.len() && sent.starts_with(body), "{} bytes", body.len());
}
