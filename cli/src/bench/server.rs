//! A server under test: a child process that says where it listens.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use oneloop::SocketAddress;
use rustix::process::{Signal, kill_process};

use super::cores::pinned;
use super::process::Process;
use crate::address::Place;
use crate::guard;

/// How to start a server.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// What to call it in messages.
    pub(crate) name: String,
    /// The program and its arguments, with what is to be written before them.
    pub(crate) command: Vec<String>,
    /// Whether the command is a tool that may run the server as its child (strace).
    pub(crate) is_tool: bool,
    /// The only core that it may run on.
    pub(crate) core: Option<usize>,
    /// How long it may take to say where it listens.
    pub(crate) start_timeout: Duration,
}

/// How long a server may take to end, with what a tool around it has to write.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills it.
///
/// Its standard input is a pipe from us, which closes when we end, whatever happens to us. Its standard
/// output is read to the end, and its standard error is ours.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    process: Process,
    place: Place,
    is_over: bool,
}

impl Server {
    /// Starts a server, and waits until it has written a line with `listening on ADDRESS`.
    ///
    /// # Errors
    ///
    /// The program cannot be run, ends, or says nothing of that kind in time.
    pub(crate) fn start(launch: &Launch) -> Result<Server> {
        let name = &launch.name;
        let mut child = spawn(launch)?;
        let said = follow(child.stdout.take().context("the child has no standard output")?);
        let process = Process::new(child.id())?;
        // From here on, dropping it kills the child.
        let place = Place::Stream(SocketAddress::Unnamed);
        let mut server = Server { name: name.clone(), child, process, place, is_over: false };
        server.place = match said.recv_timeout(launch.start_timeout) {
            Ok(Said::Place(place)) => place,
            Ok(Said::Refusal(why)) => bail!("{name} does not start: {why}"),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = launch.start_timeout.as_secs_f64();
                bail!("{name} did not say \"listening on ADDRESS\" within {seconds} s");
            }
            Err(RecvTimeoutError::Disconnected) => bail!(server.obituary_before_listening()),
        };
        if launch.is_tool {
            server.process = innermost(server.process);
        }
        Ok(server)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where to connect to: what it said, with loopback for "any address".
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The server itself, not a tool that runs it as its child.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// To be asked when something went wrong with its connections. It waits a while: the kernel closes those of a dying
    /// process some time before it reports the death.
    ///
    /// # Errors
    ///
    /// It has ended; the message says how.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        match self.wait(Duration::from_millis(500))? {
            Some(status) => bail!("the server {} died in mid-run: {status}", self.name),
            None => Ok(()),
        }
    }

    /// Asks it to end, and waits for what a tool around it has to write.
    ///
    /// # Errors
    ///
    /// It cannot be waited for, or had to be killed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.signal(Signal::TERM);
        match self.wait(END_TIMEOUT)? {
            Some(_) => Ok(()),
            None => bail!("{} did not end within {} s", self.name, END_TIMEOUT.as_secs()),
        }
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.is_over = true;
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// To the server itself: strace, when it writes to a file, ignores what would end it, and ends
    /// with its child. The child cannot be reused for another process before we have waited for it.
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process.raw() {
            // One that is gone needs no signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Its output has ended before it said where it listens.
    fn obituary_before_listening(&mut self) -> String {
        let name = &self.name;
        match self.child.try_wait() {
            Ok(Some(status)) => format!("{name} ended before it listened: {status}"),
            _ => match self.wait(Duration::from_secs(1)) {
                Ok(Some(status)) => format!("{} ended before it listened: {status}", self.name),
                _ => format!("{} closed its output before it said where it listens", self.name),
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.is_over {
            if self.process.pid() != self.child.id() {
                self.signal(Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// To be called by the main thread: see [`guard`]. The child inherits the mask of the thread that starts it, so no
/// instruction of it runs elsewhere.
fn spawn(launch: &Launch) -> Result<Child> {
    let words = launch.command.split_first();
    let (program, arguments) =
        words.with_context(|| format!("the command of {} is empty", launch.name))?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    pinned(launch.core, || command.spawn())?
        .with_context(|| format!("{} does not start: {program}", launch.name))
}

/// What of a child's output is of interest.
enum Said {
    /// Where it listens.
    Place(Place),
    /// Why the command cannot be run.
    Refusal(String),
}

/// Reads a child's output to its end, so that it never waits for us; gives on the first thing of
/// interest. The thread sleeps in read(2) unless the child writes.
fn follow(output: ChildStdout) -> Receiver<Said> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        if let Some(said) = find_said(&mut output) {
            // It fails if nobody waits any more.
            let _ = sender.send(said);
        }
        drop(sender);
        let _ = io::copy(&mut output, &mut io::sink());
    });
    receiver
}

/// Longer lines are taken in pieces, so that one without an end needs no memory without end.
const LINE_BYTES_MAX: u64 = 4096;

fn find_said(output: &mut impl BufRead) -> Option<Said> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        if let Some(why) = guard::parse_refusal(&line) {
            return Some(Said::Refusal(why.into()));
        }
        if let Some(place) = parse_place(&line) {
            return Some(Said::Place(place));
        }
    }
}

fn parse_place(line: &str) -> Option<Place> {
    let (_, rest) = line.split_once("listening on ")?;
    let word = rest.split_whitespace().next()?;
    // A sentence may go on behind it, or end.
    Place::parse_said(word).or_else(|| Place::parse_said(word.trim_end_matches(['.', ',', ';'])))
}

/// Follows a tool that runs the server as its child (strace, time) down to the server. A tool that
/// becomes the server (taskset, valgrind) has no child.
fn innermost(mut process: Process) -> Process {
    while let [child] = process.children()[..] {
        process = child;
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_what_a_server_says() {
        let find = |line| parse_place(line).map(|place| place.to_string());
        assert_eq!(find("listening on 127.0.0.1:7000\n").as_deref(), Some("127.0.0.1:7000"));
        assert_eq!(find("[x] now listening on [::]:80, fd 3").as_deref(), Some("[::1]:80"));
        assert_eq!(find("listening on 0.0.0.0:9.").as_deref(), Some("127.0.0.1:9"));
        assert_eq!(find("listening on udp://127.0.0.1:9\n").as_deref(), Some("udp://127.0.0.1:9"));
        assert_eq!(find("listening on unix:/run/a.sock.\n").as_deref(), Some("unix:/run/a.sock."));
        assert_eq!(find("listening on a port"), None);
        assert_eq!(find("hello"), None);
    }

    fn shell(script: &str) -> Launch {
        Launch {
            name: "test".into(),
            command: ["sh", "-c", script].map(String::from).into(),
            is_tool: false,
            core: None,
            start_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_server_that_ends_at_once_is_reported() {
        let error = Server::start(&shell("exit 3")).unwrap_err().to_string();
        assert!(error.contains("ended before it listened") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_server_that_says_nothing_is_reported_and_killed() {
        let mut launch = shell("exec sleep 100");
        launch.start_timeout = Duration::from_millis(20);
        let error = Server::start(&launch).unwrap_err().to_string();
        assert!(error.contains("listening on ADDRESS"), "{error}");
    }

    #[test]
    fn a_server_that_is_dying_is_noticed() {
        let mut server = Server::start(&shell("echo listening on 127.0.0.1:1; cat")).unwrap();
        server.check_alive().unwrap();
        server.signal(Signal::KILL);
        assert!(server.check_alive().unwrap_err().to_string().contains("died in mid-run"));
    }
}
