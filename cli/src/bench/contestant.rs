//! The servers of a comparison.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::server::{Launch, Server, Stop};

/// In a command of a server whose number of connections can be limited, what stands for the number.
const CONNECTIONS: &str = "{connections}";

/// The most connections that any measurement opens.
pub(crate) const CONNECTIONS_MAX: usize = 10_000;

/// A server that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    argv: Vec<String>,
}

impl Contestant {
    /// This program's own echo server.
    ///
    /// # Errors
    ///
    /// The system does not tell where this program is.
    pub(crate) fn own() -> Result<Contestant> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut argv = vec![program.display().to_string()];
        argv.extend(
            [
                "echo",
                "--listen",
                "127.0.0.1:0",
                "--until-stdin-closes",
                "--max-connections",
                CONNECTIONS,
            ]
            .map(String::from),
        );
        Ok(Contestant { name: "oneloop".into(), argv })
    }

    /// From the `NAME=COMMAND` of the command line. No shell sees the command, but it is split like a
    /// shell would.
    ///
    /// # Errors
    ///
    /// It is not of this form.
    pub(crate) fn parse(text: &str) -> Result<Contestant> {
        let (name, command) = text
            .split_once('=')
            .with_context(|| format!("\"{text}\" is not of the form NAME=COMMAND"))?;
        ensure!(!name.is_empty(), "\"{text}\" has no name before its =");
        match shlex::split(command) {
            Some(argv) if !argv.is_empty() => Ok(Contestant { name: name.into(), argv }),
            Some(_) => bail!("\"{text}\" has no command after its ="),
            None => bail!("\"{text}\" has a quote that does not end"),
        }
    }

    /// Starts it, limited to so many connections where it can be.
    ///
    /// # Errors
    ///
    /// See [`Server::start`].
    pub(crate) fn start(
        &self,
        connections: usize,
        core: Option<usize>,
        prefix: Vec<String>,
    ) -> Result<Server> {
        let argv = self.argv.iter().map(|word| word.replace(CONNECTIONS, &connections.to_string()));
        let mut launch = Launch::new(self.name.clone(), argv.collect());
        if !prefix.is_empty() {
            launch.start_timeout = Duration::from_secs(60); // valgrind is slow on a busy machine
        }
        launch.prefix = prefix;
        launch.core = core;
        Server::start(&launch)
    }
}

/// Ends a server, waiting for what a tool around it has to write.
///
/// # Errors
///
/// It had to be killed.
pub(crate) fn end(server: Server) -> Result<()> {
    server.stop(Stop::Terminate, Duration::from_secs(30)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_command_are_told_apart() {
        let contestant = Contestant::parse("x=a 'b c' --d=e").unwrap();
        assert_eq!(contestant.name, "x");
        assert_eq!(contestant.argv, ["a", "b c", "--d=e"]);
        for wrong in ["floor", "=a", "x=", "x='a"] {
            assert!(Contestant::parse(wrong).is_err(), "{wrong}");
        }
    }
}
