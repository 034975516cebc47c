//! A small authoritative DNS server, over UDP and TCP, in one loop.
//!
//! It shows one value that serves datagrams and connections alike; messages with their length before them,
//! several of which may come at once; and how to be open to everybody without harm. Over UDP the sender's address
//! may be a lie, and whoever it names gets the answer: so answers stay small. What does not fit says so (TC), and
//! who asks again over TCP has shown where it is. RFC 1035, with 6891 (EDNS), 7766 (TCP) and 8482 (ANY).
//! Not here: delegation, wildcards, DNSSEC, zone transfers, other versions of EDNS than 0.
//!
//! Try it: `cargo run --example dns`, and in another terminal `dig @127.0.0.1 -p 5300 www.example.test`, also
//! with `+tcp`. An address to listen on can be given as its argument, and then a file with another zone.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use oneloop::codec::{
    BadFrame, Decoder, Encoder, FrameError, LengthPrefixed, LengthWidth, for_each_frame,
};
use oneloop::{
    Address, Connection, Datagram, DatagramHandler, DatagramSocket, Error, Limits, ListenOptions,
    Reactor, StreamHandler,
};
use simple_dns::rdata::{CNAME, NS, OPT, RData, SOA, TXT};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, ResourceRecord, SimpleDnsError,
};

/// Names in full, time to live in seconds, type, data. The first record is the zone's SOA.
const ZONE: &str = "
example.test       3600 SOA   ns.example.test hostmaster.example.test 1 7200 3600 1209600 300
example.test       3600 NS    ns.example.test
example.test       3600 TXT   served by oneloop
ns.example.test    3600 A     127.0.0.1
host.example.test  300  A     127.0.0.3
host.example.test  300  AAAA  ::1
www.example.test   300  CNAME host.example.test
";

/// A UDP answer is no longer than this, whatever the client can take: no network cuts it into pieces.
const DATAGRAM_BYTES_MAX: u16 = 1232;
/// Over TCP the two bytes of its length allow for a longer one.
const MESSAGE_BYTES_MAX: usize = 65_535;
/// Aliases of aliases that are followed.
const ALIASES_MAX: usize = 8;

fn main() -> ExitCode {
    env_logger::init();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dns: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Error> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5300".into());
    let address: Address = address.parse()?;
    if !matches!(address, Address::Tcp(_)) {
        return Err(format!("{address} is no address for both TCP and UDP").into());
    }
    let zone = match env::args().nth(2) {
        Some(file) => fs::read_to_string(&file)
            .map_err(Error::from)
            .and_then(|text| Zone::parse(&text))
            .map_err(|error| format!("{file}: {error}"))?,
        None => Zone::parse(ZONE)?,
    };
    let limits = Limits::new()
        .idle_timeout(Duration::from_secs(10))
        .message_timeout(Duration::from_secs(5))
        .input_bytes_max(messages().whole_bytes_max())
        .connections_per_address_max(100);
    let mut reactor = Reactor::new()?;
    let dns = reactor.add(zone);
    let listener = reactor.listen_with(dns, address, &ListenOptions::new().limits(limits))?;
    // The same for UDP, with the port, if it was the kernel's to choose.
    let address = reactor.listener_address(listener)?;
    reactor.bind(dns, address.clone())?;
    writeln!(io::stdout(), "listening on {address}")?;
    reactor.run()?;
    Ok(())
}

/// All that the server knows.
struct Zone {
    origin: Name<'static>,
    /// Goes with every answer that there is nothing; its time to live is that of the nothing (RFC 2308).
    soa: ResourceRecord<'static>,
    /// By name, which is compared without regard to capitals.
    records: HashMap<Name<'static>, Vec<ResourceRecord<'static>>>,
}

impl DatagramHandler for Zone {
    fn on_datagram(&mut self, socket: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
        if let Some(answer) = self.answer(datagram.data, true) {
            socket.send_to(datagram.from, &answer).ignore();
        }
    }
}

/// As they are over TCP.
fn messages() -> LengthPrefixed {
    LengthPrefixed::new(LengthWidth::U16, MESSAGE_BYTES_MAX)
}

impl StreamHandler for Zone {
    type Session = LengthPrefixed;

    fn on_open(&mut self, _: &mut Connection<'_>) -> LengthPrefixed {
        messages()
    }

    fn on_data(
        &mut self,
        queries: &mut LengthPrefixed,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        // Those that come when much is unread wait until the client has read it.
        for_each_frame(queries, conn, data, |conn, query| {
            let no_query = BadFrame(FrameError::Malformed("it is no query"));
            let answer = self.answer(query.body, false).ok_or(no_query)?;
            Ok(messages().encode(&answer, conn)?)
        })
    }
}

impl Zone {
    /// The answer to a query; none to what is no query.
    fn answer(&self, query: &[u8], is_datagram: bool) -> Option<Vec<u8>> {
        let header: &[u8; 12] = query.first_chunk()?;
        if header[2] & 0x80 != 0 {
            return None; // an answer: two servers could be set upon each other
        }
        let query = match parse_query(header, query) {
            Ok(query) => query,
            // A header, which is no longer than any query; opcode and RD are as they were.
            Err(code) => {
                let [id, id_low, flags, ..] = *header;
                let flags = flags & 0b0111_1001 | 0x80;
                return Some(vec![id, id_low, flags, code as u8, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
        };
        let mut answer = Packet::new_reply(query.id());
        if query.has_flags(PacketFlag::RECURSION_DESIRED) {
            answer.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        answer.questions.clone_from(&query.questions);
        if query.opt().is_some() {
            let udp_packet_size = DATAGRAM_BYTES_MAX;
            *answer.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
        }
        self.look_up(query.questions.first()?, &mut answer);
        let taken = query.opt().map_or(512, |opt| opt.udp_packet_size.max(512));
        let bytes_max = if is_datagram { taken.min(DATAGRAM_BYTES_MAX) } else { u16::MAX };
        let bytes = answer.build_bytes_vec_compressed().ok()?;
        if bytes.len() <= usize::from(bytes_max) {
            return Some(bytes);
        }
        answer.set_flags(PacketFlag::TRUNCATION);
        answer.answers.clear();
        answer.name_servers.clear();
        answer.build_bytes_vec_compressed().ok()
    }

    fn look_up<'a>(&self, question: &Question<'a>, answer: &mut Packet<'a>) {
        let is_transfer = matches!(question.qtype, QTYPE::AXFR | QTYPE::IXFR);
        let is_ours = question.qclass == CLASS::IN.into() && self.has(&question.qname);
        if is_transfer || !is_ours {
            *answer.rcode_mut() = RCODE::Refused;
            return;
        }
        answer.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        let mut name = question.qname.clone();
        for _ in 0..ALIASES_MAX {
            let records = self.records.get(&name).map_or(&[][..], Vec::as_slice);
            let count = answer.answers.len();
            let is_asked = |record: &&ResourceRecord<'_>| match question.qtype {
                QTYPE::ANY => record.rdata.type_code() == records[0].rdata.type_code(), // one will do
                qtype => record.match_qtype(qtype),
            };
            answer.answers.extend(records.iter().filter(is_asked).cloned());
            if answer.answers.len() > count {
                return;
            }
            let Some((record, target)) = records.iter().find_map(|record| match &record.rdata {
                RData::CNAME(CNAME(target)) => Some((record, target)),
                _ => None,
            }) else {
                // A name that others end with is there, too.
                if !self.records.keys().any(|it| *it == name || it.is_subdomain_of(&name)) {
                    *answer.rcode_mut() = RCODE::NameError;
                }
                return answer.name_servers.push(self.soa.clone());
            };
            answer.answers.push(record.clone());
            if !self.has(target) {
                return; // somebody else is to be asked
            }
            name = target.clone();
        }
        *answer.rcode_mut() = RCODE::ServerFailure; // aliases in a circle
    }

    fn has(&self, name: &Name<'_>) -> bool {
        *name == self.origin || name.is_subdomain_of(&self.origin)
    }

    fn parse(text: &str) -> Result<Zone, Error> {
        let mut records = HashMap::<_, Vec<_>>::new();
        let mut soa = None;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let record = parse_record(line).ok_or_else(|| format!("no record: {line}"))?;
            if let RData::SOA(data) = &record.rdata {
                let ttl = record.ttl.min(data.minimum);
                soa.get_or_insert(ResourceRecord { ttl, ..record.clone() });
            }
            records.entry(record.name.clone()).or_default().push(record);
        }
        let soa = soa.ok_or("the zone has no SOA")?;
        Ok(Zone { origin: soa.name.clone(), soa, records })
    }
}

/// One question, and what the crate can read.
fn parse_query<'a>(header: &[u8; 12], query: &'a [u8]) -> Result<Packet<'a>, RCODE> {
    let opcode = header[2] >> 3 & 0xf;
    if opcode != 0 {
        return Err(RCODE::NotImplemented);
    }
    // OPT may follow. This is seen to before memory is reserved for as many records as are promised.
    let counts = [4, 6, 8, 10].map(|i| u16::from_be_bytes([header[i], header[i + 1]]));
    if !matches!(counts, [1, 0, 0, 0 | 1]) {
        return Err(RCODE::FormatError);
    }
    Packet::parse(query).map_err(|error| match error {
        SimpleDnsError::InvalidQType(_) | SimpleDnsError::InvalidQClass(_) => RCODE::NotImplemented,
        _ => RCODE::FormatError,
    })
}

/// `NAME TTL TYPE DATA`
fn parse_record(line: &str) -> Option<ResourceRecord<'static>> {
    let mut words = line.split_whitespace();
    let (name, ttl, kind) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let data: Vec<&str> = words.collect();
    let data = match (kind, &data[..]) {
        ("A", [address]) => RData::A(address.parse::<Ipv4Addr>().ok()?.into()),
        ("AAAA", [address]) => RData::AAAA(address.parse::<Ipv6Addr>().ok()?.into()),
        ("NS", [name]) => RData::NS(NS(parse_name(name)?)),
        ("CNAME", [name]) => RData::CNAME(CNAME(parse_name(name)?)),
        ("TXT", words) => {
            let text = words.iter().try_fold(TXT::new(), |text, word| text.with_string(word));
            RData::TXT(text.ok()?)
        }
        ("SOA", [mname, rname, serial, refresh, retry, expire, minimum]) => RData::SOA(SOA {
            mname: parse_name(mname)?,
            rname: parse_name(rname)?,
            serial: serial.parse().ok()?,
            refresh: refresh.parse().ok()?,
            retry: retry.parse().ok()?,
            expire: expire.parse().ok()?,
            minimum: minimum.parse().ok()?,
        }),
        _ => return None,
    };
    Some(ResourceRecord::new(parse_name(name)?, CLASS::IN, ttl, data).into_owned())
}

/// Two dots in a row have no label between them, and only the root's is empty.
fn parse_name(text: &str) -> Option<Name<'_>> {
    let has_empty_label = text.strip_suffix('.').unwrap_or(text).split('.').any(str::is_empty);
    Name::new(text).ok().filter(|_| !has_empty_label)
}
