//! Slow attacks, by slowhttptest(1): the attackers are cut off, and nobody else notices.
//!
//! What others lose is judged beside a second server, which nobody attacks. A client asks both at a steady pace, each of
//! them first as often as the other one, so that a machine that is busy with other work, or slow to wake up, delays the
//! answers of both alike. Its speed at a server is that
//! pace, less what answers that come too late for it cost. At the one that is attacked it must have 95 % of what it has at
//! the other one; that shows that nobody waits. And of the time of the server's core an attack may take 5 %: so much less
//! could be served by a server that has no time left. The attack is cut into windows. Of the speed the median counts, and
//! of the load the first quartile: to send what the attackers asked for until their sockets are full takes a while, as it
//! does for any client, and is over before they are cut off; what they cost from then on they cost all the time. Nor may
//! the client lose much of the whole time. A machine may be too busy for all that: what an attack costs shows in every try,
//! and so the best of some is what counts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::example::start_client;
use crate::site::{HELLO, Site};
use crate::support::ticks::Ticks;
use crate::support::{DEADLINE, pattern};

/// A client that is served asks so often.
const PACE: Duration = Duration::from_millis(5);

/// So many answers of each server are a window.
const WINDOW: u32 = 40;

/// So many connections attack.
const ATTACKERS: u64 = 30;

/// So often it is tried.
const TRIES: usize = 5;

/// Options of the server.
const PATIENCE: [&str; 2] = ["--patience", "2"];

/// A connection to a server.
struct Client<'a> {
    site: &'a Site,
    stream: TcpStream,
}

impl Client<'_> {
    fn new(site: &Site) -> Client<'_> {
        Client { site, stream: site.connect() }
    }

    fn ask(&mut self, path: &str) -> Vec<u8> {
        write!(self.stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut received = vec![0; 4096];
        let mut count = 0;
        loop {
            count += self.stream.read(&mut received[count..]).unwrap();
            if let Some((answer, _)) = Answer::read(&received[..count], "GET", false) {
                return answer.body;
            }
        }
    }

    /// How long it takes to ask for a small file at the pace.
    fn ask_in_time(&mut self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.ask("/hello.txt"), HELLO);
        start.elapsed().max(PACE)
    }

    /// How many connections were accepted, and how many there are.
    fn connections(&mut self) -> (u64, u64) {
        let stats: serde_json::Value = serde_json::from_slice(&self.ask("/api/stats")).unwrap();
        let number = |name: &str| stats[name].as_u64().unwrap();
        (number("accepts"), number("connections"))
    }

    /// How long the threads of the server have been on a processor.
    fn on_processor(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.site.server.pid())).unwrap();
        let nanos = |thread: std::fs::DirEntry| {
            // A thread may have ended meanwhile.
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(threads.map(|thread| nanos(thread.unwrap())).sum())
    }
}

/// The server that is attacked, and one that is not.
struct Pair<'a> {
    attacked: Client<'a>,
    other: Client<'a>,
}

/// What the attacked server did beside the other one.
#[derive(Debug)]
struct Served {
    /// The speed of its client as a share of that at the other one, over the whole time.
    whole: f64,
    /// The same in the median window.
    share: f64,
    /// What it used more of the time of one core than the other one, in a quiet window.
    load: f64,
}

impl Pair<'_> {
    /// Asks both until it `is_over`, which is asked after each window.
    fn serve(&mut self, mut is_over: impl FnMut(&mut Self, Duration) -> bool) -> Served {
        let start = Instant::now();
        let mut whole = [Duration::ZERO; 2];
        let (mut shares, mut loads) = (Vec::new(), Vec::new());
        while !is_over(self, start.elapsed()) {
            let (window, before) = (Instant::now(), self.on_processor());
            let mut times = [Duration::ZERO; 2];
            for number in 0..WINDOW {
                let asked = Instant::now();
                if number % 2 == 0 {
                    times[0] += self.attacked.ask_in_time();
                    times[1] += self.other.ask_in_time();
                } else {
                    times[1] += self.other.ask_in_time();
                    times[0] += self.attacked.ask_in_time();
                }
                // The pace: nothing is to happen meanwhile.
                thread::sleep(PACE.saturating_sub(asked.elapsed()));
            }
            loads.push((self.on_processor() - before) / window.elapsed().as_secs_f64());
            shares.push(share(times));
            whole = [whole[0] + times[0], whole[1] + times[1]];
        }
        Served { whole: share(whole), share: quantile(shares, 0.5), load: quantile(loads, 0.25) }
    }

    /// How many seconds the attacked server has been on a processor for longer than the other one.
    fn on_processor(&self) -> f64 {
        self.attacked.on_processor().as_secs_f64() - self.other.on_processor().as_secs_f64()
    }
}

/// The speed at the attacked server as a share of that at the other one.
fn share([attacked, other]: [Duration; 2]) -> f64 {
    other.as_secs_f64() / attacked.as_secs_f64()
}

fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * quantile) as usize]
}

/// Runs attacks, each of which is options and a path.
fn attack(attacks: &[(&str, &str)]) {
    let mut tries = Vec::new();
    for _ in 0..TRIES {
        let ticks = Ticks::now();
        let (before, during) = attack_once(attacks);
        let load = during.load - before.load;
        let is_served = during.whole >= 0.8 && during.share >= 0.95 && load <= 0.05;
        if is_served || ticks.was_much_stolen_since() {
            return;
        }
        tries.push((before, during));
    }
    panic!("others are served less, as they were before and during the attack: {tries:?}");
}

/// ... until the server has cut off all that attacked. (slowhttptest(1) itself does not notice when it reads as slowly as it
/// can.) Gives how the others were served before, and meanwhile.
fn attack_once(attacks: &[(&str, &str)]) -> (Served, Served) {
    let (site, other) = (Site::start_with(&PATIENCE), Site::start_with(&PATIENCE));
    std::fs::write(site.files().join("huge.bin"), pattern(8 << 20)).unwrap();
    let mut pair = Pair { attacked: Client::new(&site), other: Client::new(&other) };
    let before = pair.serve(|_, passed| passed > Duration::from_secs(1));
    let (accepted, _) = pair.attacked.connections();
    let attackers = ATTACKERS.to_string();
    let start = |(options, path): &(&str, &str)| {
        let url = site.url(path);
        let own = ["-c", &attackers, "-r", "200", "-i", "1", "-l", "60", "-u", &url];
        let arguments: Vec<_> = options.split(' ').chain(own).collect();
        start_client("slowhttptest", &arguments, Stdio::null())
    };
    let tools: Vec<_> = attacks.iter().map(start).collect();
    let count = tools.len() as u64;
    let during = pair.serve(|pair, passed| {
        let (accepts, connections) = pair.attacked.connections();
        pair.other.connections();
        assert!(passed < DEADLINE, "{connections} of {} are not cut off", accepts - accepted);
        // One is our own, and one of each tool may look whether it is served otherwise.
        let is_over = accepts >= accepted + count * ATTACKERS && connections <= 1 + count;
        is_over && passed > Duration::from_secs(1)
    });
    (before, during)
}

#[test]
fn requests_that_never_end_are_cut_off_and_slow_nobody_down() {
    attack(&[("-H", "/hello.txt"), ("-B -s 8192 -x 10", "/api/echo")]);
}

/// Of a large file.
#[test]
fn readers_that_hardly_read_are_cut_off_and_slow_nobody_down() {
    attack(&[("-X -w 10 -y 20 -n 1 -z 5", "/huge.bin")]);
}

/// Many parts of a file, which overlap.
#[test]
fn ranges_that_overlap_slow_nobody_down() {
    attack(&[("-R -a 1 -b 3000 -t GET", "/hello.txt")]);
}
