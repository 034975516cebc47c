//! An echo server on a Unix socket: a path with the permissions that it should have, and the log says who came.
//!
//! Whether others may connect is up to the mode of the path; who has connected, the kernel says for certain. A path
//! that a killed server has left behind is taken over, and one on which another server listens is not.
//!
//! Try it: `cargo run --example unix_echo /tmp/echo.sock 660`, and in another terminal
//! `socat - UNIX-CONNECT:/tmp/echo.sock`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;

use oneloop::address::UnixName;
use oneloop::{
    CloseReason, Connection, Context, Error, Key, ListenOptions, Reactor, StreamHandler,
};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let (path, mode) = match &arguments[..] {
        [path] => (path, Ok(0o600)),
        [path, mode] => (path, u32::from_str_radix(&mode.to_string_lossy(), 8)),
        _ => {
            eprintln!("usage: unix_echo PATH [MODE], for example /tmp/echo.sock 660");
            return ExitCode::FAILURE;
        }
    };
    let result = match mode {
        Ok(mode) => serve(path, mode),
        Err(error) => Err(format!("the mode, such as 660: {error}").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unix_echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &OsStr, mode: u32) -> Result<(), Error> {
    let mut reactor = Reactor::new()?;
    let echo = reactor.add(Echo);
    let options = ListenOptions::new().unix_mode(mode);
    let listener = reactor.listen_with(echo, UnixName::from_path(path)?, &options)?;
    writeln!(io::stdout(), "listening on {}", reactor.listener_address(listener)?)?;
    reactor.run()?;
    Ok(())
}

struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        let key = conn.key();
        match conn.peer_credentials() {
            Ok(peer) => {
                let process = peer.pid.map_or("of elsewhere".into(), |pid| pid.to_string());
                log::info!("{key}: process {process}, user {}, group {}", peer.uid, peer.gid);
            }
            Err(error) => log::warn!("{key}: who it is cannot be known: {error}"),
        }
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_close(&mut self, (): (), key: Key, reason: CloseReason, _: &mut Context<'_>) {
        log::info!("{key}: {reason}");
    }
}
