//! The server of `docs/your-first-server.md`: each step of it is compiled and run, and the guide shows nothing else. What
//! comes of the last step is the example `tally`, which has tests of its own.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]
#![allow(unused_qualifications, reason = "a step is a file of its own")]

#[path = "example/mod.rs"]
mod example;
mod support;

use std::io::{Read, Write};

use example::Example;

/// A step as it stands in the guide, with a test of its own: what an input is answered, however it is cut.
macro_rules! step {
    ($name:ident, $path:literal, $handler:expr, $input:literal => $output:literal) => {
        mod $name {
            #![allow(dead_code, reason = "its main is for the reader")]

            include!($path);

            #[test]
            fn the_step_answers_as_the_guide_says() {
                oneloop::sim::all_splits(
                    $input,
                    || Framed::new($handler),
                    |harness| {
                        assert_eq!(harness.output(), $output);
                    },
                );
            }

            #[test]
            fn what_is_no_line_is_the_clients_mistake() {
                for input in [&b"a\r\r\n"[..], b"a\rb\n", &[b'x'; LINE_BYTES_MAX + 1]] {
                    let mut harness = oneloop::sim::Harness::new(Framed::new($handler));
                    harness.feed(input);
                    harness.end();
                    assert_eq!(harness.closed(), Some(oneloop::CloseReason::BadFrame), "{input:?}");
                }
            }
        }
    };
}

step!(step1, "first_server/step1.rs", Tally, b"a line\nand one\r\n" => b"a line\nand one\n");
step!(
    step2,
    "first_server/step2.rs",
    Tally::default(),
    b"add a 3\nadd a 4\nquit\n" => b"a 3\na 7\nbye, after 3 commands\n"
);
step!(
    step3,
    "first_server/step3.rs",
    Tally::default(),
    b"get a\nadd a 1\n" => b"error: nobody has added anything to this\na 1\n"
);

/// The last step, with its tests.
#[allow(dead_code, reason = "its main is run by itself")]
#[path = "../examples/tally/main.rs"]
mod tally;

/// What the reader has at the end of each section: the program, and from the fifth on the tests.
const STEPS: [&str; 6] = [
    include_str!("first_server/step1.rs"),
    include_str!("first_server/step2.rs"),
    include_str!("first_server/step3.rs"),
    include_str!("../examples/tally/main.rs"),
    TESTS,
    TESTS,
];
const TESTS: &str = include_str!("../examples/tally/tests.rs");

#[test]
fn the_guide_shows_the_code_of_its_steps() {
    let guide = include_str!("../docs/your-first-server.md");
    let sections: Vec<&str> = guide.split("\n## ").collect();
    for (number, file) in (1..).zip(STEPS) {
        let section = sections[number];
        assert!(section.starts_with(&format!("{number}. ")), "{section}");
        let blocks = section.split("\n```rust\n").skip(1);
        let blocks: Vec<&str> = blocks.map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty(), "section {number} shows code");
        for block in blocks {
            // How the fifth step begins.
            let is_there = file.contains(block) || number == 5 && STEPS[3].ends_with(block);
            assert!(is_there, "only in section {number} of the guide:\n{block}");
        }
    }
}

#[test]
fn each_step_says_in_the_guide_what_it_changes_of_the_step_before() {
    let guide = include_str!("../docs/your-first-server.md");
    for (before, after) in STEPS[..4].iter().zip(&STEPS[1..4]) {
        for line in after.lines().filter(|line| !line.starts_with("//!")) {
            let is_told = before.contains(line) || guide.contains(line);
            assert!(is_told, "the guide does not have this line:\n{line}");
        }
    }
}

#[test]
fn the_server_of_the_last_step_answers_and_drains_on_sigterm_as_the_guide_shows() {
    let tally = Example::start("tally");
    let mut client = support::connect(tally.address);
    client.write_all(b"add apples 3\nadd apples 4\n").unwrap();
    let mut answers = [0; b"apples 3\napples 7\n".len()];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(answers, *b"apples 3\napples 7\n");
    let pid = rustix::process::Pid::from_raw(tally.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye, the server ends\n");
    drop(client);
    let report = tally.wait_for_line("drained after ");
    assert!(tally.wait().success());
    let guide = include_str!("../docs/your-first-server.md");
    let shown = guide.lines().find(|line| line.starts_with("drained after ")).expect("a report");
    // How long it took is another time another one.
    let but_time = |report: &str| report.split_once(" s: ").expect("a time").1.to_string();
    assert_eq!(but_time(shown), but_time(&report));
}
