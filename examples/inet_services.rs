//! The small services that every host once had, on TCP and UDP, all in one loop: echo (RFC 862), discard (863),
//! chargen (864), daytime (867), time (868).
//!
//! It shows one type that serves connections and datagrams, a producer that is held up by whoever reads slowly, and
//! what a UDP service owes to others. Anybody can write a wrong sender on a datagram, and have the answer sent
//! there. So nothing is answered that comes from the port of another service, which would answer in its turn, for ever;
//! and chargen, which by its RFC may answer any datagram with 512 bytes, sends no more than it was sent. (Daytime
//! and time have to answer an empty one.)
//!
//! Try it: `cargo run --example inet_services`, and in another terminal `nc 127.0.0.1 7013` or
//! `socat - UDP:127.0.0.1:7007`. The ports are those of services(5) and 7000; the host and that number can be given,
//! `0.0.0.0 0` for what root may do, `127.0.0.1 any` for ports of the kernel's choice.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{array, env};

use oneloop::{
    Connection, Context, Datagram, DatagramHandler, DatagramSocket, Error, Reactor, Sent,
    StreamHandler,
};

fn main() -> ExitCode {
    env_logger::init();
    let mut arguments = env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| String::from("127.0.0.1"));
    let offset = arguments.next().unwrap_or_else(|| String::from("7000"));
    match serve(&host, &offset) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inet_services: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(host: &str, offset: &str) -> io::Result<()> {
    let offset: Option<u16> = match offset {
        "any" => None,
        number => Some(number.parse().map_err(|error| {
            let message = format!("{number} is no number to add to the ports: {error}");
            io::Error::new(ErrorKind::InvalidInput, message)
        })?),
    };
    let mut reactor = Reactor::new()?;
    let mut servers = Vec::new();
    let mut own_ports = Vec::new();
    for (service, name, port) in SERVICES {
        let port = match offset {
            Some(offset) => port.checked_add(offset).ok_or_else(|| {
                let message = format!("{name} would be at {port} and {offset}, which is no port");
                io::Error::new(ErrorKind::InvalidInput, message)
            })?,
            None => 0,
        };
        let server = reactor.add(Server { service, own_ports: Vec::new() });
        let listener = reactor.listen(server, (host, port))?;
        writeln!(io::stdout(), "{name}/tcp: listening on {}", reactor.listener_address(listener)?)?;
        let socket = reactor.bind(server, (host, port))?;
        let address = reactor.datagram_address(socket)?;
        writeln!(io::stdout(), "{name}/udp: listening on {address}")?;
        own_ports.extend(address.inet().map(|address| address.port()));
        servers.push(server);
    }
    for server in servers {
        reactor.handler_mut(server).own_ports.clone_from(&own_ports);
    }
    reactor.run()?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Service {
    Echo,
    Discard,
    Daytime,
    Chargen,
    Time,
}

/// With their names and ports (services(5)).
const SERVICES: [(Service, &str, u16); 5] = [
    (Service::Echo, "echo", 7),
    (Service::Discard, "discard", 9),
    (Service::Daytime, "daytime", 13),
    (Service::Chargen, "chargen", 19),
    (Service::Time, "time", 37),
];

/// Ports below this one are those of other services, by convention.
const OTHERS_PORTS_MAX: u16 = 1024;

struct Server {
    service: Service,
    /// The UDP ports of all of them here.
    own_ports: Vec<u16>,
}

impl Server {
    /// What it answers whoever comes, by itself.
    fn word(&self, cx: &Context<'_>) -> Option<Vec<u8>> {
        match self.service {
            Service::Daytime => Some(daytime(cx.wall_clock()).into_bytes()),
            Service::Time => Some(time(cx.wall_clock()).to_vec()),
            Service::Echo | Service::Discard | Service::Chargen => None,
        }
    }

    fn generate(&self, next_line: &mut usize, conn: &mut Connection<'_>) {
        if matches!(self.service, Service::Chargen) {
            // The rest when there is room for it.
            while conn.send(&line(*next_line)) == Sent::Ok {
                *next_line += 1;
            }
            *next_line += 1;
        }
    }
}

impl StreamHandler for Server {
    /// The number of the next line.
    type Session = usize;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> usize {
        if let Some(word) = self.word(conn) {
            conn.send(&word).ignore();
            conn.close();
        }
        let mut next_line = 0;
        self.generate(&mut next_line, conn);
        next_line
    }

    fn on_data(
        &mut self,
        _: &mut usize,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if matches!(self.service, Service::Echo) {
            conn.send(data).ignore();
        }
        Ok(data.len())
    }

    fn on_drained(&mut self, next_line: &mut usize, conn: &mut Connection<'_>) {
        self.generate(next_line, conn);
    }
}

impl DatagramHandler for Server {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        let port = datagram.from.inet().map_or(0, |from| from.port());
        if port < OTHERS_PORTS_MAX || self.own_ports.contains(&port) {
            return log::debug!("not answered: {} is a service", datagram.from);
        }
        let answer = match self.service {
            Service::Echo => datagram.data.to_vec(),
            Service::Discard => return,
            Service::Chargen => {
                let mut line = line(0).to_vec();
                line.truncate(datagram.data.len());
                line
            }
            Service::Daytime | Service::Time => self.word(socket).unwrap_or_default(),
        };
        socket.send_to(datagram.from, &answer).ignore();
    }
}

/// RFC 864's pattern: each line has 72 of the 95 characters that can be printed, and begins one further.
fn line(number: usize) -> [u8; 74] {
    array::from_fn(|column| match column {
        72 => b'\r',
        73 => b'\n',
        column => b' ' + ((number + column) % 95) as u8,
    })
}

/// RFC 868: seconds since 1900, in the 32 bits that last until 2036.
fn time(now: SystemTime) -> [u8; 4] {
    const FROM_1900_TO_1970: u64 = (70 * 365 + 17) * DAY;
    ((seconds_since_1970(now) + FROM_1900_TO_1970) as u32).to_be_bytes()
}

/// RFC 867, in one of the forms that it shows.
fn daytime(now: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = seconds_since_1970(now);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(days);
    let weekday = WEEKDAYS[days as usize % 7]; // the first of them was the first of January 1970
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {month} {day}, {year} {hour:02}:{minute:02}:{second:02}-UTC\r\n")
}

const DAY: u64 = 24 * 3600;

fn seconds_since_1970(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Year, month and day, so many days after the first of January 1970.
fn date(mut days: u64) -> (u64, &'static str, u64) {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    loop {
        let february = if is_leap(year) { 29 } else { 28 };
        for (month, length) in [
            ("January", 31),
            ("February", february),
            ("March", 31),
            ("April", 30),
            ("May", 31),
            ("June", 30),
            ("July", 31),
            ("August", 31),
            ("September", 30),
            ("October", 31),
            ("November", 30),
            ("December", 31),
        ] {
            if days < length {
                return (year, month, days + 1);
            }
            days -= length;
        }
        year += 1;
    }
}
