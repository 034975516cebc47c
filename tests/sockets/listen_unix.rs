//! Listening on Unix sockets: by the grammar of addresses, and inherited ones.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;

use oneloop::{Connection, Error, HandlerId, ListenOptions, Reactor, SocketAddress, StreamHandler};

use crate::support::run_until;

struct Echo;

impl StreamHandler for Echo {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}

fn reactor() -> (Reactor, HandlerId<Echo>) {
    let mut reactor = Reactor::new().unwrap();
    let echo = reactor.add(Echo);
    (reactor, echo)
}

fn assert_echoes(reactor: &mut Reactor, mut client: UnixStream) {
    client.write_all(b"hello").unwrap();
    client.set_nonblocking(true).unwrap();
    let mut answer = [0; 5];
    run_until(reactor, "it is echoed", |_| client.read(&mut answer).is_ok());
    assert_eq!(&answer, b"hello");
}

#[test]
fn a_path_is_listened_on() {
    let (mut reactor, echo) = reactor();
    let path = std::env::temp_dir().join(format!("oneloop-listen-{}", process::id()));
    let address = format!("unix:{}", path.display());
    let listener = reactor.listen(echo, &address).unwrap();
    let own = reactor.listener_address(listener).unwrap();
    assert!(matches!(own, SocketAddress::Unix(_)) && own.to_string() == address, "{own}");
    assert_echoes(&mut reactor, UnixStream::connect(&path).unwrap());
    let _ = std::fs::remove_file(path);
}

#[test]
fn an_option_of_another_kind_of_socket_is_an_error() {
    let (mut reactor, echo) = reactor();
    for (address, options, name) in [
        ("unix:@oneloop-options", ListenOptions::new().reuse_port(true), "reuse_port"),
        ("unix:@oneloop-options", ListenOptions::new().only_v6(true), "only_v6"),
        ("127.0.0.1:0", ListenOptions::new().unix_mode(0o600), "unix_mode"),
        ("unix:@oneloop-options", ListenOptions::new().unix_mode(0o600), "unix_mode"),
    ] {
        let error = reactor.listen_with(echo, address, &options).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_abstract_name_is_listened_on() {
    let (mut reactor, echo) = reactor();
    let name = format!("oneloop-listen-{}", process::id());
    reactor.listen(echo, format!("unix:@{name}")).unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    assert_echoes(&mut reactor, UnixStream::connect_addr(&address).unwrap());
}

#[test]
fn a_socket_that_listens_is_served() {
    let (mut reactor, echo) = reactor();
    let name = format!("oneloop-inherited-{}", process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let before = UnixStream::connect_addr(&address).unwrap();
    reactor.listen_fd(echo, listener.into(), &ListenOptions::new()).unwrap();
    assert_echoes(&mut reactor, before);
    assert_echoes(&mut reactor, UnixStream::connect_addr(&address).unwrap());
}

/// What a server leaves beside its path is its user's, so that no stranger can hold the lock.
#[test]
fn a_lock_of_another_user_says_what_to_do() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = std::env::temp_dir().join(format!("oneloop-lock-{}", process::id()));
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).unwrap();
    let (path, lock) = (directory.join("s.sock"), directory.join("s.sock.lock"));
    drop(std::fs::File::create(&lock).unwrap());
    let user = std::fs::metadata(&lock).unwrap().uid();
    std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o000)).unwrap();
    let address = format!("unix:{}", path.display());
    let error = std::thread::spawn(move || {
        if user == 0 {
            // Root may everything; of this process only this thread is another user from now on.
            let nobody = rustix::thread::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        let (mut reactor, echo) = reactor();
        reactor.listen(echo, address).unwrap_err()
    });
    let error = error.join().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    let advice = format!("user {user} listened there: if that is over, remove this file");
    assert!(error.to_string().ends_with(&advice), "{error}");
    std::fs::remove_dir_all(&directory).unwrap();
}
