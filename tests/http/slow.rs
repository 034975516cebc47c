//! Slow attacks, by slowhttptest(1): the attackers are cut off, and nobody else notices.
//!
//! What others lose is judged by two figures that a busy machine does not change much, unlike the rate at which
//! somebody can send requests. A client that asks at a steady pace must get 95 % of its answers at that pace; that
//! shows that nobody waits. And of the time of the server's core an attack may take 5 %: so much less could be served
//! by a server that has no time left. The attack is cut into windows, as the machine may be busy with other work for
//! some of them. Of the pace the median counts, and of the load the first quartile: to send what the attackers asked
//! for until their sockets are full takes a while, as it does for any client, and is over before they are cut off; what
//! they cost from then on they cost all the time. Nor may the client lose much of the whole time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::example::start_client;
use crate::site::{HELLO, Site};
use crate::support::{DEADLINE, pattern};

/// A client that is served asks so often.
const PACE: Duration = Duration::from_millis(5);

/// So many answers are a window.
const WINDOW: u32 = 40;

/// So many connections attack.
const ATTACKERS: u64 = 30;

/// A client that asks at a steady pace; after an answer that is late, faster until that is made up for.
struct Client<'a> {
    site: &'a Site,
    stream: TcpStream,
}

/// What it was served for a while, and what that and all else cost.
struct Served {
    /// Of the answers that it would have had if none was late, over the whole time.
    whole: f64,
    /// The same in the median window.
    share: f64,
    /// Of the time of one core, in a quiet window.
    load: f64,
}

impl Client<'_> {
    fn new(site: &Site) -> Client<'_> {
        Client { site, stream: site.connect() }
    }

    /// Asks until it `is_over`, which is asked after each window.
    fn serve(&mut self, mut is_over: impl FnMut(&mut Self, Duration) -> bool) -> Served {
        let start = Instant::now();
        let (mut answers, mut shares, mut loads) = (0, Vec::new(), Vec::new());
        let share =
            |answers: u32, time: Duration| (answers * PACE).as_secs_f64() / time.as_secs_f64();
        while !is_over(self, start.elapsed()) {
            let (window, busy) = (Instant::now(), on_processor(self.site));
            for _ in 0..WINDOW {
                assert_eq!(self.ask("/hello.txt"), HELLO);
                answers += 1;
                thread::sleep((answers * PACE).saturating_sub(start.elapsed()));
            }
            let busy = on_processor(self.site) - busy;
            loads.push(busy.as_secs_f64() / window.elapsed().as_secs_f64());
            shares.push(share(WINDOW, window.elapsed()));
        }
        let whole = share(answers, start.elapsed());
        Served { whole, share: quantile(shares, 0.5), load: quantile(loads, 0.25) }
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

    /// How many connections were accepted, and how many there are.
    fn connections(&mut self) -> (u64, u64) {
        let stats: serde_json::Value = serde_json::from_slice(&self.ask("/api/stats")).unwrap();
        let number = |name: &str| stats[name].as_u64().unwrap();
        (number("accepts"), number("connections"))
    }
}

fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() as f64 * quantile) as usize]
}

/// How long the threads of the server have been on a processor.
fn on_processor(site: &Site) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{}/task", site.server.pid())).unwrap();
    let nanos = |thread: std::fs::DirEntry| {
        // A thread may have ended meanwhile.
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(|thread| nanos(thread.unwrap())).sum())
}

/// Runs attacks, each of which is options and a path, until the server has cut off all that attacked. (slowhttptest(1)
/// itself does not notice when it reads as slowly as it can.)
fn attack(attacks: &[(&str, &str)]) {
    let site = Site::start_with(&["--patience", "2"]);
    std::fs::write(site.files().join("huge.bin"), pattern(8 << 20)).unwrap();
    let mut client = Client::new(&site);
    let before = client.serve(|_, passed| passed > Duration::from_secs(1));
    let (accepted, _) = client.connections();
    let attackers = ATTACKERS.to_string();
    let start = |(options, path): &(&str, &str)| {
        let url = site.url(path);
        let own = ["-c", &attackers, "-r", "200", "-i", "1", "-l", "60", "-u", &url];
        let arguments: Vec<_> = options.split(' ').chain(own).collect();
        start_client("slowhttptest", &arguments, Stdio::null())
    };
    let tools: Vec<_> = attacks.iter().map(start).collect();
    let count = tools.len() as u64;
    let during = client.serve(|client, passed| {
        let (accepts, connections) = client.connections();
        assert!(passed < DEADLINE, "{connections} of {} are not cut off", accepts - accepted);
        // One is our own, and one of each tool may look whether it is served otherwise.
        let is_over = accepts >= accepted + count * ATTACKERS && connections <= 1 + count;
        is_over && passed > Duration::from_secs(1)
    });
    assert!(during.whole >= 0.8, "{}", during.whole);
    assert!(during.share >= 0.95 * before.share, "{} and {}", during.share, before.share);
    assert!(during.load - before.load <= 0.05, "{} and {}", during.load, before.load);
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
