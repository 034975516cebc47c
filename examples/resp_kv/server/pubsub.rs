//! PUBLISH and SUBSCRIBE. A message is made once and shared by all who get it. A subscriber that does not take what
//! waits for it is dropped by the limits of its connection, and delays nobody. In the memory of the reactor a message
//! counts once for each client that has not taken it: so a large one for many subscribers can use all of that up, and
//! then those are dropped that have taken the least.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use oneloop::{Connection, Context};

use super::Server;
use super::bytes::Bytes;
use super::clients::Client;
use super::commands::{Args, Failure, Outcome, check_name};
use super::pattern;
use super::reply::{Done, Reply};
use super::store::STEPS_PER_WORK;

/// A message that is sent is as much work as so many arguments of a command.
const WORK_PER_DELIVERY: usize = 16;

/// What a client subscribes to. Where both kinds have something of their own, it stands at this index.
#[derive(Clone, Copy)]
pub(crate) enum Topic {
    Channel,
    Pattern,
}

/// The memory for what a client may subscribe to, and for that of all clients.
const SUBSCRIBED_BYTES_MAX: usize = 8 << 20;
const SUBSCRIBED_BYTES_TOTAL_MAX: usize = 64 << 20;
/// How many patterns a client may have, and how many different ones all clients together: each message is tried with all
/// of them, which takes a tenth of a second if they are as bad as can be.
const PATTERNS_MAX: usize = 256;
const PATTERNS_TOTAL_MAX: usize = 1024;

/// The memory of a channel or pattern for one client: both sides have a copy, in a tree.
fn subscription_bytes(name: &[u8]) -> usize {
    2 * name.len() + 250
}

/// The slots of clients by their channels, and by their patterns.
pub(crate) type Subscriptions = [BTreeMap<Bytes, BTreeSet<usize>>; 2];

/// A message, which is made once for each version of the protocol if somebody wants it in that.
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
            reply.bulks(self.parts);
            bytes.into()
        })
    }
}

impl Server {
    /// Sends a message of these parts. Returns how many clients it went to.
    fn send_to_subscribers(
        &mut self,
        cx: &mut Context,
        subscribers: &[usize],
        parts: &[&[u8]],
    ) -> usize {
        let mut message = Message { parts, versions: [None, None] };
        let mut count = 0;
        for slot in subscribers {
            let Client { protocol, key, .. } = self.clients[*slot];
            if cx.is_open(key) {
                count += 1;
                self.deliver(cx, *slot, message.version(protocol));
            }
        }
        count
    }

    fn subscribe(&mut self, topic: Topic, name: &[u8]) {
        let name = Bytes::from_slice(name);
        let this = &mut self.clients[self.current];
        if this.subscribed[topic as usize].insert(name.clone()) {
            this.subscribed_bytes += subscription_bytes(&name);
            self.subscribed_bytes += subscription_bytes(&name);
            self.subscriptions[topic as usize].entry(name).or_default().insert(self.current);
        }
    }

    fn unsubscribe(&mut self, slot: usize, topic: Topic, name: &[u8]) {
        let this = &mut self.clients[slot];
        if !this.subscribed[topic as usize].remove(name) {
            return;
        }
        this.subscribed_bytes -= subscription_bytes(name);
        self.subscribed_bytes -= subscription_bytes(name);
        let all = &mut self.subscriptions[topic as usize];
        if let Some(subscribers) = all.get_mut(name) {
            subscribers.remove(&slot);
            if subscribers.is_empty() {
                all.remove(name);
            }
        }
    }

    /// Ends all subscriptions of a client, without telling it.
    pub(crate) fn unsubscribe_all(&mut self, slot: usize) {
        for topic in [Topic::Channel, Topic::Pattern] {
            for name in self.clients[slot].subscribed[topic as usize].clone() {
                self.unsubscribe(slot, topic, &name);
            }
        }
    }

    /// Tells the current client what became of its subscription.
    fn confirm(&mut self, word: &str, name: Option<&[u8]>) {
        let count = self.clients[self.current].subscriptions();
        let mut reply = self.reply();
        reply.push(3);
        reply.bulk(word.as_bytes());
        reply.bulk_or_null(name);
        reply.count(count);
    }

    /// Less output may wait for a client that subscribes to something.
    fn set_limits(&self, conn: &mut Connection) {
        let is_subscriber = self.clients[self.current].subscriptions() > 0;
        conn.set_limits(if is_subscriber { &self.subscriber_limits } else { &self.limits });
    }
}

pub(crate) fn publish(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let (channel, text) = (check_name(args[1])?, args[2]);
    let [channels, patterns] = &server.subscriptions;
    let subscribers: Vec<usize> = channels.get(channel).into_iter().flatten().copied().collect();
    let mut steps = usize::MAX;
    let mut matches = |pattern: &[u8]| pattern::matches_within(pattern, channel, &mut steps);
    let matching = patterns.iter().filter(|(pattern, _)| matches(pattern) == Some(true));
    let matching: Vec<(Bytes, Vec<usize>)> = matching
        .map(|(pattern, subscribers)| (pattern.clone(), subscribers.iter().copied().collect()))
        .collect();
    let mut receivers =
        server.send_to_subscribers(conn, &subscribers, &[b"message", channel, text]);
    for (pattern, subscribers) in matching {
        let parts: [&[u8]; 4] = [b"pmessage", &pattern, channel, text];
        receivers += server.send_to_subscribers(conn, &subscribers, &parts);
    }
    server.store.work += WORK_PER_DELIVERY * receivers + (usize::MAX - steps) / STEPS_PER_WORK;
    Ok(server.reply().count(receivers))
}

/// SUBSCRIBE and PSUBSCRIBE. For the limits a new name counts as often as it is said.
pub(crate) fn add(
    server: &mut Server,
    conn: &mut Connection,
    args: Args,
    topic: Topic,
    word: &str,
) -> Outcome {
    args[1..].iter().try_for_each(|name| check_name(name).map(drop))?;
    let this = &server.clients[server.current];
    let new = args[1..].iter().filter(|name| !this.subscribed[topic as usize].contains(**name));
    let bytes: usize = new.clone().map(|name| subscription_bytes(name)).sum();
    let (mut own, mut all) = (0, 0);
    if let Topic::Pattern = topic {
        let [_, patterns] = &server.subscriptions;
        own = this.subscribed[topic as usize].len() + new.clone().count();
        all = patterns.len() + new.filter(|name| !patterns.contains_key(**name)).count();
    }
    if this.subscribed_bytes + bytes > SUBSCRIBED_BYTES_MAX || own > PATTERNS_MAX {
        return Err(Failure::new("ERR a client has too many channels or patterns"));
    }
    if server.subscribed_bytes + bytes > SUBSCRIBED_BYTES_TOTAL_MAX || all > PATTERNS_TOTAL_MAX {
        return Err(Failure::new("ERR all clients together have too many channels or patterns"));
    }
    for name in &args[1..] {
        server.subscribe(topic, name);
        server.confirm(word, Some(name));
    }
    server.set_limits(conn);
    Ok(Done)
}

/// UNSUBSCRIBE and PUNSUBSCRIBE; without names they are for all that the client has subscribed to.
pub(crate) fn remove(
    server: &mut Server,
    conn: &mut Connection,
    args: Args,
    topic: Topic,
    word: &str,
) -> Outcome {
    let names: Vec<Bytes> = match args[1..] {
        [] => server.clients[server.current].subscribed[topic as usize].iter().cloned().collect(),
        ref names => names.iter().map(|name| Bytes::from_slice(name)).collect(),
    };
    if names.is_empty() {
        server.confirm(word, None);
    }
    for name in names {
        server.unsubscribe(server.current, topic, &name);
        server.confirm(word, Some(&name));
    }
    server.set_limits(conn);
    Ok(Done)
}
