//! The servers of a comparison.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::server::{Launch, Server};
use crate::guard;

/// In a command of a server whose number of connections can be limited, what stands for the number.
const CONNECTIONS: &str = "{connections}";

/// Connections that a server may have more than the load opens: so it does not stop accepting, which not every server
/// would do.
pub(super) const CONNECTIONS_SPARE: usize = 16;

/// What our own server is called.
const OWN_NAME: &str = "oneloop";

/// A server that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    argv: Vec<String>,
}

impl Contestant {
    /// This program's own echo server, on TCP.
    ///
    /// # Errors
    ///
    /// See [`guard::own_program`].
    pub(crate) fn own() -> Result<Contestant> {
        Contestant::own_on("127.0.0.1:0")
    }

    /// This program's own echo server.
    ///
    /// # Errors
    ///
    /// See [`guard::own_program`].
    pub(crate) fn own_on(address: &str) -> Result<Contestant> {
        let mut argv = vec![guard::own_program()?];
        argv.extend(
            [
                "echo",
                "--listen",
                address,
                "--until-stdin-closes",
                // Under valgrind turns are slow, and what follows would be counted timed.
                "--no-watchdog",
                "--max-connections",
                CONNECTIONS,
            ]
            .map(String::from),
        );
        Ok(Contestant { name: OWN_NAME.into(), argv })
    }

    /// The same under another name, with more arguments.
    pub(crate) fn named(mut self, name: &str, arguments: &[String]) -> Contestant {
        self.name = name.into();
        self.argv.extend_from_slice(arguments);
        self
    }

    /// From the `NAME=COMMAND` of the command line. No shell sees the command, but it is split like a
    /// shell would.
    ///
    /// # Errors
    ///
    /// It is not of this form, or the name is that of our own server.
    pub(crate) fn parse(text: &str) -> Result<Contestant> {
        let (name, command) = text
            .split_once('=')
            .with_context(|| format!("\"{text}\" is not of the form NAME=COMMAND"))?;
        ensure!(!name.is_empty(), "\"{text}\" has no name before its =");
        ensure!(name != OWN_NAME, "{OWN_NAME} is our own server, which takes part anyway");
        match shlex::split(command) {
            Some(argv) if !argv.is_empty() => Ok(Contestant { name: name.into(), argv }),
            Some(_) => bail!("\"{text}\" has no command after its ="),
            None => bail!("\"{text}\" has a quote that does not end"),
        }
    }

    /// Starts it, limited to so many connections where it can be, after the words of a tool if there are
    /// any. It ends with us.
    ///
    /// # Errors
    ///
    /// See [`Server::start`].
    pub(crate) fn start(
        &self,
        connections: usize,
        core: Option<usize>,
        tool: Vec<String>,
        start_timeout: Duration,
    ) -> Result<Server> {
        let is_tool = !tool.is_empty();
        let argv = self.argv.iter().map(|word| word.replace(CONNECTIONS, &connections.to_string()));
        let command = guard::prefix()?.into_iter().chain(tool).chain(argv).collect();
        let name = self.name.clone();
        Server::start(&Launch { name, command, is_tool, core, start_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_command_are_told_apart() {
        let contestant = Contestant::parse("x=a 'b c' --d=e").unwrap();
        assert_eq!(contestant.name, "x");
        assert_eq!(contestant.argv, ["a", "b c", "--d=e"]);
        for wrong in ["floor", "=a", "x=", "x='a", "oneloop=a"] {
            assert!(Contestant::parse(wrong).is_err(), "{wrong}");
        }
    }
}
