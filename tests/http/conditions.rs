//! Parts of files, and files that a client has already, asked for with curl(1).

use std::fs;
use std::time::{Duration, SystemTime};

use crate::site::{HELLO, LARGE, Site};
use crate::support::pattern;

#[test]
fn a_part_of_a_file_can_be_asked_for() {
    let site = Site::start();
    for (range, content_range, body) in [
        ("0-4", "bytes 0-4/13", &b"hello"[..]),
        ("7-", "bytes 7-12/13", b"world\n"),
        ("-3", "bytes 10-12/13", b"ld\n"),
        ("12-12", "bytes 12-12/13", b"\n"),
        ("5-99999999999999999999999", "bytes 5-12/13", b", world\n"),
        ("-99", "bytes 0-12/13", HELLO),
    ] {
        let answer = site.ask("/hello.txt", &["--range", range]);
        assert_eq!((answer.status, &answer.body[..]), (206, body), "{range}");
        assert_eq!(answer.must_have("content-range"), content_range);
        assert!(answer.must_have("content-type").starts_with("text/plain"));
    }
    let answer = site.ask("/large.bin", &["--range", "100000-299998"]);
    assert!(answer.body == pattern(LARGE)[100_000..299_999]);
}

#[test]
fn several_parts_come_in_one_answer() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &["--range", "0-0, 7-8,-1"]);
    assert_eq!(answer.status, 206);
    assert_eq!(answer.field("content-range"), None);
    let parts = parts(answer.must_have("content-type"), &answer.body);
    let expected: [(&str, &[u8]); 3] =
        [("bytes 0-0/13", b"h"), ("bytes 7-8/13", b"wo"), ("bytes 12-12/13", b"\n")];
    assert_eq!(parts.len(), 3);
    for ((content_range, body), (expected_range, expected_body)) in parts.iter().zip(expected) {
        assert_eq!((&content_range[..], &body[..]), (expected_range, expected_body));
    }
    // Those that there are none of are left out; the rest may come as a part of one or as that part.
    let answer = site.ask("/hello.txt", &["--range", "99-100,0-4"]);
    assert_eq!(answer.status, 206);
    match answer.field("content-range") {
        Some(content_range) => {
            assert_eq!((content_range, &answer.body[..]), ("bytes 0-4/13", &b"hello"[..]));
        }
        None => assert!(answer.body.windows(5).any(|bytes| bytes == b"hello")),
    }
}

/// The parts of a multipart/byteranges body, RFC 9110, section 14.6: their Content-Range, and their bytes.
fn parts(content_type: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let boundary = boundary.trim_matches('"');
    let body = String::from_utf8(body.to_vec()).unwrap();
    // The line's end before a boundary is a part of it; the first one may have none.
    let body = format!("\r\n{}", body.strip_prefix("\r\n").unwrap_or(&body));
    let (body, rest) = body.split_once(&format!("\r\n--{boundary}--")).expect("its end");
    assert_eq!(rest.trim_end(), "");
    let delimiter = format!("\r\n--{boundary}\r\n");
    let mut parts = body.split(&delimiter);
    assert_eq!(parts.next(), Some(""), "nothing before the first");
    let part = |part: &str| {
        let (head, bytes) = part.split_once("\r\n\r\n").expect("a part's head");
        let fields = head.split("\r\n").map(|line| line.split_once(": ").expect("a field"));
        let range = fields.clone().find(|(name, _)| name.eq_ignore_ascii_case("content-range"));
        (range.expect("its range").1.to_string(), bytes.as_bytes().to_vec())
    };
    parts.map(part).collect()
}

#[test]
fn a_part_that_there_is_not_is_refused_with_the_length() {
    let site = Site::start();
    for range in ["13-", "99-100", "-0", "13-14,20-"] {
        let answer = site.ask("/hello.txt", &["--range", range]);
        assert_eq!(answer.status, 416, "{range}");
        assert_eq!(answer.must_have("content-range"), "bytes */13");
    }
}

/// As other servers do: a client that never takes more than so much is not told that there is an error.
#[test]
fn a_part_of_an_empty_file_is_all_of_it() {
    let site = Site::start();
    for range in ["0-0", "0-", "-5"] {
        assert_eq!(site.ask("/empty.txt", &["--range", range]).status, 200, "{range}");
    }
}

/// RFC 9110, section 14.2: as if it were not there.
#[test]
fn a_range_that_is_none_is_ignored() {
    let site = Site::start();
    for range in ["bytes=4-2", "bytes=a-b", "bytes=", "bytes", "lines=1-2", "bytes=1", "bytes=--1"]
    {
        let field = format!("Range: {range}");
        let answer = site.ask("/hello.txt", &["--header", &field]);
        assert!(matches!(answer.status, 200 | 400 | 416), "{range}: {answer:?}");
        if answer.status == 200 {
            assert_eq!(answer.body, HELLO);
        }
    }
    // Only GET knows of ranges.
    let answer = site.ask("/hello.txt", &["--head", "--range", "0-4"]);
    assert!(matches!(answer.status, 200 | 206), "{answer:?}");
}

/// RFC 9110, section 5.6.1.2.
#[test]
fn nothing_between_two_commas_is_no_part() {
    let site = Site::start();
    for range in ["0-4,", ",0-4", ", ,\t0-4 ,,"] {
        let answer = site.ask("/hello.txt", &["--header", &format!("Range: bytes={range}")]);
        assert_eq!((answer.status, &answer.body[..]), (206, &b"hello"[..]), "{range}");
    }
    // Of which a list has one at least.
    for range in ["", ",", " , "] {
        let answer = site.ask("/hello.txt", &["--header", &format!("Range: bytes={range}")]);
        assert_eq!((answer.status, &answer.body[..]), (200, HELLO), "{range}");
    }
}

/// RFC 9110, sections 5.3 and 14.2: two lines are no list there, and so no range.
#[test]
fn two_ranges_are_ignored() {
    let site = Site::start();
    let [first, second] = ["Range: bytes=0-1", "Range: bytes=5-6"];
    let fields = ["--header", first, "--header", second, "--header", first];
    for count in [4, 6] {
        let answer = site.ask("/hello.txt", &fields[..count]);
        assert_eq!((answer.status, &answer.body[..]), (200, HELLO));
    }
}

/// The Apache killer, CVE-2011-3192: many parts that overlap would make a small file a huge answer.
#[test]
fn many_parts_that_overlap_are_not_multiplied() {
    let site = Site::start();
    for count in [10, 500] {
        let ranges: Vec<_> = (0..count).map(|i| format!("{i}-")).collect();
        let answer = site.ask("/large.bin", &["--range", &ranges.join(",")]);
        assert!(matches!(answer.status, 200 | 206 | 400 | 416), "{}", answer.status);
        assert!(answer.body.len() < 2 * LARGE, "{} bytes", answer.body.len());
    }
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &[]);
    let (etag, modified) = (answer.must_have("etag"), answer.must_have("last-modified"));
    for condition in [
        format!("If-None-Match: {etag}"),
        format!("If-None-Match: \"other\", {etag}"),
        format!("If-None-Match: W/{}", etag.trim_start_matches("W/")),
        "If-None-Match: *".to_string(),
        format!("If-Modified-Since: {modified}"),
        "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT".to_string(),
    ] {
        let unchanged = site.ask("/hello.txt", &["--header", &condition]);
        // A date in the future is no condition (RFC 9110, section 13.1.3).
        if condition.contains("2100") && unchanged.status == 200 {
            continue;
        }
        assert_eq!(unchanged.status, 304, "{condition}");
        assert_eq!(unchanged.must_have("etag"), etag);
        assert_eq!(unchanged.body, b"");
    }
    for condition in [
        "If-None-Match: \"other\"".to_string(),
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT".to_string(),
        "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT".to_string(),
        "If-Modified-Since: Sun Nov  6 08:49:37 1994".to_string(),
        "If-Modified-Since: yesterday".to_string(),
    ] {
        assert_eq!(site.ask("/hello.txt", &["--header", &condition]).status, 200, "{condition}");
    }
    // The tag is what counts if there are both (section 13.2.2).
    let both = ["--header", "If-None-Match: \"other\"", "--header"];
    let date = format!("If-Modified-Since: {modified}");
    assert_eq!(site.ask("/hello.txt", &[&both[..], &[&date]].concat()).status, 200);
}

/// RFC 9110, section 5.3: they are one list.
#[test]
fn tags_may_stand_in_several_lines() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &[]);
    let etag = answer.must_have("etag");
    for (name, is_named, is_not_named) in [("If-None-Match", 304, 200), ("If-Match", 200, 412)] {
        let ask = |tags: [&str; 2]| {
            let [first, second] = tags.map(|tag| format!("{name}: {tag}"));
            site.ask("/hello.txt", &["--header", &first, "--header", &second]).status
        };
        assert_eq!(ask([etag, "\"other\""]), is_named, "{name}");
        assert_eq!(ask(["\"other\"", etag]), is_named, "{name}");
        assert_eq!(ask(["\"a\"", "\"other\""]), is_not_named, "{name}");
    }
}

/// curl(1) keeps the tag in a file and asks with it, and asks with the date of a file that it has.
#[test]
fn curl_fetches_a_file_once() {
    let site = Site::start();
    let (tag, copy) = (site.place().join("tag"), site.place().join("copy"));
    let (tag, copy) = (tag.to_str().unwrap(), copy.to_str().unwrap());
    let status = ["--write-out", "%{http_code}", "--output", copy];
    let first = ["--etag-save", tag, "--remote-time"];
    assert_eq!(site.curl("/hello.txt", &[&status[..], &first[..]].concat()), b"200");
    assert_eq!(fs::read(copy).unwrap(), HELLO);
    let second = ["--etag-compare", tag];
    assert_eq!(site.curl("/hello.txt", &[&status[..], &second[..]].concat()), b"304");
    let third = ["--time-cond", copy];
    assert_eq!(site.curl("/hello.txt", &[&status[..], &third[..]].concat()), b"304");
}

#[test]
fn a_part_of_another_version_is_not_sent() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &[]);
    let (etag, modified) = (answer.must_have("etag"), answer.must_have("last-modified"));
    let ask = |condition: &str| {
        let field = format!("If-Range: {condition}");
        site.ask("/hello.txt", &["--range", "0-4", "--header", &field])
    };
    for other in ["\"other\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let answer = ask(other);
        assert_eq!((answer.status, &answer.body[..]), (200, HELLO), "{other}");
    }
    // Only a strong tag tells that every byte is the same (RFC 9110, section 13.1.5).
    assert_eq!(ask(etag).status, if etag.starts_with("W/") { 200 } else { 206 });
    // A file may be another one twice in a second, so that its date does not tell; nor does a weak tag.
    assert_eq!(ask(modified).status, 200);
    assert_eq!(ask(&format!("W/{etag}")).status, 200);
    let failed = site.ask("/hello.txt", &["--header", "If-Match: \"other\""]);
    assert!(matches!(failed.status, 200 | 412), "{failed:?}");
}

/// RFC 9110, sections 13.1.2 to 13.1.5: neither two dates nor two versions are a condition, and `*` is no tag.
#[test]
fn what_may_come_once_says_nothing_when_it_comes_twice() {
    let site = Site::start();
    let answer = site.ask("/hello.txt", &[]);
    let (etag, old) = (answer.must_have("etag"), "Sun, 06 Nov 1994 08:49:37 GMT");
    let modified = answer.must_have("last-modified");
    for (first, second) in [
        (format!("If-Modified-Since: {old}"), format!("If-Modified-Since: {modified}")),
        (format!("If-Unmodified-Since: {modified}"), format!("If-Unmodified-Since: {old}")),
        ("If-None-Match: \"other\", *".to_string(), "X: y".to_string()),
    ] {
        let answer = site.ask("/hello.txt", &["--header", &first, "--header", &second]);
        assert_eq!((answer.status, &answer.body[..]), (200, HELLO), "{second}");
    }
    let (other, same) = ("If-Range: \"other\"", format!("If-Range: {etag}"));
    let fields = ["--range", "0-4", "--header", other, "--header", &same];
    assert_eq!(site.ask("/hello.txt", &fields).status, 200);
}

/// RFC 9110, section 8.8.2.1.
#[test]
fn no_file_was_modified_after_it_was_sent() {
    let site = Site::start();
    let file = fs::File::options().write(true).open(site.files().join("hello.txt")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
    let answer = site.ask("/hello.txt", &[]);
    let moment = |name| httpdate::parse_http_date(answer.must_have(name)).unwrap();
    assert!(moment("last-modified") <= moment("date"), "{:?}", answer.fields);
}
