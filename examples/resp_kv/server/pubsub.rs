//! PUBLISH and SUBSCRIBE. A message is made once and shared by all who get it; who does not take what waits for it is dropped
//! by the limits of its connection, and delays nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use oneloop::{Connection, Context};

use super::Server;
use super::bytes::Bytes;
use super::commands::{Failure, Outcome, is_word};
use super::pattern;
use super::reply::Reply;

/// Clients by their channels and patterns.
#[derive(Default)]
pub(crate) struct Subscriptions {
    channels: BTreeMap<Bytes, BTreeSet<usize>>,
    patterns: BTreeMap<Bytes, BTreeSet<usize>>,
}

impl Subscriptions {
    fn of(&mut self, kind: Kind) -> &mut BTreeMap<Bytes, BTreeSet<usize>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Channel,
    Pattern,
}

/// A message in the two versions of the protocol, made when the first one wants it.
struct Message<'a> {
    parts: &'a [&'a [u8]],
    versions: [Option<Rc<[u8]>>; 2],
}

impl Message<'_> {
    fn version(&mut self, protocol: u8) -> &Rc<[u8]> {
        self.versions[usize::from(protocol == 3)].get_or_insert_with(|| {
            let mut bytes = Vec::new();
            let mut reply = Reply::new(&mut bytes, protocol);
            reply.push(self.parts.len());
            self.parts.iter().for_each(|part| reply.bulk(part));
            bytes.into()
        })
    }
}

impl Server {
    /// Whom it went to, counted.
    fn send_to_subscribers(
        &mut self,
        cx: &mut Context<'_>,
        subscribers: &[usize],
        parts: &[&[u8]],
    ) -> usize {
        let mut message = Message { parts, versions: [None, None] };
        for client in subscribers {
            let protocol = self.clients[*client].protocol;
            self.deliver(cx, *client, message.version(protocol));
        }
        subscribers.len()
    }

    /// Adds or removes a subscription, and tells the client.
    fn change(&mut self, client: usize, kind: Kind, name: &[u8], is_on: bool) {
        let this = &mut self.clients[client];
        let (own, name_bytes) = match kind {
            Kind::Channel => (&mut this.channels, Bytes::from(name)),
            Kind::Pattern => (&mut this.patterns, Bytes::from(name)),
        };
        let all = self.subscriptions.of(kind);
        if is_on {
            own.insert(name_bytes.clone());
            all.entry(name_bytes).or_default().insert(client);
        } else {
            own.remove(name);
            if let Some(subscribers) = all.get_mut(name) {
                subscribers.remove(&client);
                if subscribers.is_empty() {
                    all.remove(name);
                }
            }
        }
        self.confirm(client, kind, Some(name), is_on);
    }

    fn confirm(&mut self, client: usize, kind: Kind, name: Option<&[u8]>, is_on: bool) {
        let count = self.clients[client].subscriptions();
        let word = match (kind, is_on) {
            (Kind::Channel, true) => "subscribe",
            (Kind::Channel, false) => "unsubscribe",
            (Kind::Pattern, true) => "psubscribe",
            (Kind::Pattern, false) => "punsubscribe",
        };
        let mut reply = self.reply(client);
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.bulk_or_null(name);
        reply.count(count);
    }

    fn remove_subscriptions(&mut self, client: usize, kind: Kind, names: &[&[u8]]) {
        let this = &self.clients[client];
        let own = match kind {
            Kind::Channel => &this.channels,
            Kind::Pattern => &this.patterns,
        };
        let names: Vec<Bytes> = match names {
            [] => own.iter().cloned().collect(),
            names => names.iter().map(|name| Bytes::from(*name)).collect(),
        };
        if names.is_empty() {
            self.confirm(client, kind, None, false);
        }
        for name in names {
            self.change(client, kind, &name, false);
        }
    }

    /// Without a word.
    pub(crate) fn unsubscribe_all(&mut self, client: usize) {
        let len = self.out.len();
        self.remove_subscriptions(client, Kind::Channel, &[]);
        self.remove_subscriptions(client, Kind::Pattern, &[]);
        self.out.truncate(len);
    }

    /// How much may wait for a client depends on whether it subscribes.
    fn set_limits(&self, conn: &mut Connection<'_>, client: usize) {
        let is_subscriber = self.clients[client].subscriptions() > 0;
        conn.set_limits(if is_subscriber { &self.subscriber_limits } else { &self.limits });
    }
}

pub(crate) fn publish(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    let (channel, text) = (args[1], args[2]);
    let subscribers = server.subscriptions.channels.get(channel);
    let subscribers: Vec<usize> = subscribers.into_iter().flatten().copied().collect();
    let mut receivers =
        server.send_to_subscribers(conn, &subscribers, &[b"message", channel, text]);
    let patterns = server.subscriptions.patterns.iter();
    let matching = patterns.filter(|(pattern, _)| pattern::matches(pattern, channel));
    let matching: Vec<(Bytes, Vec<usize>)> = matching
        .map(|(pattern, subscribers)| (pattern.clone(), subscribers.iter().copied().collect()))
        .collect();
    for (pattern, subscribers) in matching {
        let parts: [&[u8]; 4] = [b"pmessage", &pattern, channel, text];
        receivers += server.send_to_subscribers(conn, &subscribers, &parts);
    }
    server.reply(client).count(receivers);
    Ok(())
}

fn add(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
    kind: Kind,
) -> Outcome {
    for name in &args[1..] {
        server.change(client, kind, name, true);
    }
    server.set_limits(conn, client);
    Ok(())
}

fn remove(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
    kind: Kind,
) -> Outcome {
    server.remove_subscriptions(client, kind, &args[1..]);
    server.set_limits(conn, client);
    Ok(())
}

pub(crate) fn subscribe(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    add(server, conn, client, args, Kind::Channel)
}

pub(crate) fn psubscribe(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    add(server, conn, client, args, Kind::Pattern)
}

pub(crate) fn unsubscribe(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    remove(server, conn, client, args, Kind::Channel)
}

pub(crate) fn punsubscribe(
    server: &mut Server,
    conn: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    remove(server, conn, client, args, Kind::Pattern)
}

/// PUBSUB: who subscribes to what.
pub(crate) fn pubsub(
    server: &mut Server,
    _: &mut Connection<'_>,
    client: usize,
    args: &[&[u8]],
) -> Outcome {
    let mut reply = Reply::new(&mut server.out, server.clients[client].protocol);
    let channels = &server.subscriptions.channels;
    match args[1..] {
        [command] if is_word(command, "CHANNELS") => {
            reply.array(channels.len());
            channels.keys().for_each(|channel| reply.bulk(channel));
        }
        [command, pattern] if is_word(command, "CHANNELS") => {
            let names = channels.keys().filter(|channel| pattern::matches(pattern, channel));
            let names: Vec<&Bytes> = names.collect();
            reply.array(names.len());
            names.iter().for_each(|name| reply.bulk(name));
        }
        [command, ref names @ ..] if is_word(command, "NUMSUB") => {
            reply.array(2 * names.len());
            for name in names {
                reply.bulk(name);
                reply.count(channels.get(*name).map_or(0, BTreeSet::len));
            }
        }
        [command] if is_word(command, "NUMPAT") => {
            reply.count(server.subscriptions.patterns.len());
        }
        _ => return Err(Failure::SYNTAX),
    }
    Ok(())
}
