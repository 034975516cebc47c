//! `oneloop bench --against`: the comparison runs, and what is wrong with a server is said.

mod support;

use std::fs;
use std::io::{Read, Write};

use rustix::thread::{CpuSet, sched_getaffinity};
use support::process::{Process, kill};
use support::{ONELOOP, Program, Run, eventually, file, serve};

const FEW: [&str; 6] = ["--connections", "2", "--pipeline", "3", "--size", "100"];

fn start(against: &str, more: &[&str]) -> Program {
    Program::start(&[&["bench", "--no-counts", "--against", against], &FEW[..], more].concat())
}

fn compare(against: &str) -> Run {
    start(against, &["--cycles", "6"]).wait()
}

#[test]
fn a_server_is_about_as_good_as_itself() {
    let run = compare(&format!("twin={ONELOOP} echo --listen 127.0.0.1:0"));
    assert!(run.is_clean(), "{run:?}");
    let text = &run.stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for name in ["oneloop", "twin"] {
        let row = rows.iter().find(|row| row.starts_with(&["2", "3", "100", name]));
        let row = row.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
        let ratio: f64 = row[5].parse().unwrap();
        // On a busy machine, over six cycles: only not absurd.
        assert!((0.2..5.0).contains(&ratio), "{text}");
    }
    assert!(text.contains("CPU a message, 2 x 100 B, pipeline 3"), "{text}");
}

#[test]
fn spinning_and_sleeping_are_compared_with_their_round_trips() {
    let run =
        Program::start(&[&["bench", "--spin", "50us", "--cycles", "2"], &FEW[..]].concat()).wait();
    assert!(run.is_clean(), "{run:?}");
    for name in ["spin", "block"] {
        let row = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = row.into_iter().find(|row| row.starts_with(&["2", "3", "100", name]));
        let row = row.unwrap_or_else(|| panic!("{name} is not in\n{run:?}"));
        let [p50, p99] = row[row.len() - 2..] else { unreachable!() };
        let (p50, p99): (f64, f64) = (p50.parse().unwrap(), p99.parse().unwrap());
        assert!(0.0 < p50 && p50 <= p99, "{run:?}");
    }
    assert!(!run.stdout.contains("To reach"), "{run:?}");
}

#[test]
fn of_too_few_cycles_nothing_is_judged() {
    let twin = format!("twin={ONELOOP} echo --listen 127.0.0.1:0");
    let run = start(&twin, &["--cycles", "5"]).wait();
    assert!(run.is_clean(), "{run:?}");
    assert!(run.stdout.contains("not judged: too few cycles"), "{run:?}");
    for wrong in [" reached", "NOT REACHED", "inf", "NaN"] {
        assert!(!run.stdout.contains(wrong), "{wrong}: {run:?}");
    }
}

#[test]
fn what_a_child_of_the_command_needs_is_counted() {
    let server = format!("{ONELOOP} echo --listen 127.0.0.1:0 --until-stdin-closes");
    let run = start(&format!("child=sh -c '{server}; true'"), &["--cycles", "1"]).wait();
    assert!(run.is_clean(), "{run:?}");
    let rows = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row.starts_with(&["2", "3", "100", "child"])).unwrap();
    let nanos: f64 = row[4].parse().unwrap();
    assert!(nanos > 0.0, "{run:?}");
}

#[test]
fn a_command_that_does_not_do_the_work_is_reported() {
    let address = serve(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
    let run = compare(&format!("lazy=sh -c 'echo listening on {address}; exec cat'"));
    assert!(run.failure().contains("lazy answered without CPU time"), "{run:?}");
    // What is busy all the time is in the way of the others.
    let busy = "echo listening on 127.0.0.1:1; while :; do :; done";
    let busy = busy.replace("127.0.0.1:1", &address.to_string());
    let run = compare(&format!("busy=sh -c '{busy}'"));
    assert!(run.failure().contains("busy does not sleep within 2 s"), "{run:?}");
}

#[test]
fn a_server_is_told_how_many_connections_there_will_be() {
    let server = format!("test {{connections}} -lt 20 && exec {ONELOOP} echo --listen 127.0.0.1:0");
    let run = start(&format!("limited=sh -c '{server}'"), &["--cycles", "1"]).wait();
    assert!(run.is_clean(), "{run:?}");
}

#[test]
fn a_server_that_dies_in_mid_run_is_one_clear_line() {
    let inject = "inject=sendto:signal=KILL:when=50";
    let strace = format!("strace -f -qq -o/dev/null -e trace=sendto -e {inject}");
    let run = compare(&format!("mortal={strace} {ONELOOP} echo --listen 127.0.0.1:0"));
    let expected = "the server mortal died in mid-run: signal: 9";
    assert!(run.failure().contains(expected), "{run:?}");
}

#[test]
fn names_are_given_once() {
    let run = Program::start(&["bench", "--against", "oneloop=true"]).wait();
    assert!(run.stderr.contains("oneloop is our own server"), "{run:?}");
    let run = start("x=true", &["--against", "x=false"]).wait();
    assert!(run.failure().contains("two servers are called x"), "{run:?}");
}

#[test]
fn a_server_that_is_tried_before_counting_may_tidy_up() {
    let marker = file("not-tidied-up");
    let _ = fs::remove_file(&marker);
    let script = format!(
        "trap \"rm {0}; exit\" TERM; touch {0}; echo listening on 127.0.0.1:1; while :; do sleep 0.05; done",
        marker.display()
    );
    let tidy = format!("tidy=sh -c '{script}'");
    let run = Program::start(&["bench", "--against", &tidy, "--against", "false=false"]).wait();
    assert!(run.failure().contains("false ended before it listened"), "{run:?}");
    assert!(!marker.exists());
}

#[test]
fn what_cannot_be_counted_is_told_before_anything_is() {
    let name = format!("unixgram:@oneloop-against-{}", std::process::id());
    let server = format!("datagrams={ONELOOP} echo --listen {name}");
    let run = Program::start(&["bench", "--against", &server]).wait();
    let expected = format!("what a server on {name} does is not counted: --no-counts");
    assert!(run.failure().contains(&expected), "{run:?}");
}

#[test]
fn that_there_is_only_one_core_is_said() {
    let cores = sched_getaffinity(None).unwrap();
    let core = (0..CpuSet::MAX_CPU).find(|&core| cores.is_set(core)).unwrap().to_string();
    let taskset = ["taskset", "--cpu-list", &core];
    let arguments = ["bench", "--kinds", "tcp", "--no-counts", "--cycles", "1"];
    let run = Program::start_by(&taskset, &[&arguments, &FEW[..]].concat()).wait();
    assert!(run.stdout.contains("only one core"), "{run:?}");
}

#[test]
fn a_command_that_is_no_server_is_reported() {
    let run = compare("none=/no/such/program --flag");
    let expected = "none does not start: /no/such/program: No such file or directory";
    assert!(run.failure().contains(expected), "{run:?}");
    // Also before anything is counted.
    let run = Program::start(&["bench", "--against", "none=/no/such/program"]).wait();
    assert!(run.failure().contains(expected), "{run:?}");
    let run = compare("false=false");
    assert!(run.failure().contains("false ended before it listened"), "{run:?}");
}

#[test]
fn a_server_that_sends_other_bytes_back_is_reported() {
    let address = serve(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(count) = stream.read(&mut buffer) {
            buffer[..count].iter_mut().for_each(|byte| *byte ^= 1);
            if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
    let run = compare(&format!("liar=sh -c 'echo listening on {address}; exec cat'"));
    assert!(run.failure().contains("the load of liar"), "{run:?}");
}

/// With so little memory that what is kept of endless output would not fit.
fn compare_in_little_memory(against: &str) -> Run {
    let limit = ["sh", "-c", "ulimit -v 500000 && exec \"$@\"", "sh"];
    let arguments = ["bench", "--no-counts", "--against", against, "--stall-timeout", "3s"];
    Program::start_by(&limit, &[&arguments, &FEW[..]].concat()).wait()
}

#[test]
fn a_command_that_says_other_things_for_ever_is_one_clear_line_and_needs_no_memory() {
    // Lines without end, and a line without end.
    for command in ["yes", "cat /dev/zero"] {
        let run = compare_in_little_memory(&format!("talker={command}"));
        let expected = "talker did not say \"listening on ADDRESS\" within 3 s";
        assert!(run.failure().contains(expected), "{run:?}");
    }
}

/// The child of the bench that is not its own server.
fn foreign_server(bench: &Program, is_ready: impl Fn(&Process) -> bool) -> Process {
    eventually("the other server runs", || {
        let mut children = Process::children_of(bench.pid()).into_iter();
        children.find(|child| {
            let is_own = |word: &String| word == "--until-stdin-closes" || word.starts_with("__");
            !child.arguments.iter().any(is_own) && is_ready(child)
        })
    })
}

#[test]
fn a_bench_that_is_killed_leaves_no_foreign_server_behind() {
    // One that serves, in mid-run.
    let twin = format!("twin={ONELOOP} echo --listen 127.0.0.1:0");
    let bench = start(&twin, &["--cycles", "100000"]);
    let server = foreign_server(&bench, |server| server.sockets() >= 3);
    kill(bench.pid());
    eventually("the other server ends", || server.is_gone().then_some(()));

    // One that has not said yet where it listens.
    let bench = start("sleeper=sleep 100", &[]);
    let server = foreign_server(&bench, |server| server.name == "sleep");
    kill(bench.pid());
    eventually("the command ends", || server.is_gone().then_some(()));
}
