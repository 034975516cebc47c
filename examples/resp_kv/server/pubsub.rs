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

/// As much work as so many arguments of a command: a message that is sent, or a pattern that is tried.
const WORK_PER_DELIVERY: usize = 16;

/// What a client subscribes to. Where both kinds have something of their own, it stands at this index.
#[derive(Clone, Copy)]
pub(crate) enum Topic {
    Channel,
    Pattern,
}

/// How many channels, and how many patterns, a client may have.
const SUBSCRIBED_MAX: [usize; 2] = [100_000, 256];
/// How many different patterns all clients together may have: each message is tried with all of them, which takes a
/// tenth of a second if they are as bad as can be.
const PATTERNS_MAX: usize = 2048;

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
        self.clients[self.current].subscribed[topic as usize].insert(name.clone());
        self.subscriptions[topic as usize].entry(name).or_default().insert(self.current);
    }

    fn unsubscribe(&mut self, slot: usize, topic: Topic, name: &[u8]) {
        self.clients[slot].subscribed[topic as usize].remove(name);
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
    pub(crate) fn set_limits(&self, conn: &mut Connection) {
        let is_subscriber = self.clients[self.current].subscriptions() > 0;
        conn.set_limits(if is_subscriber { &self.subscriber_limits } else { &self.limits });
    }
}

pub(crate) fn publish(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let (channel, text) = (check_name(args[1])?, args[2]);
    let [channels, patterns] = &server.subscriptions;
    let tried = patterns.len();
    let subscribers: Vec<usize> = channels.get(channel).into_iter().flatten().copied().collect();
    let matching = patterns.iter().filter(|(pattern, _)| pattern::matches(pattern, channel));
    let matching: Vec<(Bytes, Vec<usize>)> = matching
        .map(|(pattern, subscribers)| (pattern.clone(), subscribers.iter().copied().collect()))
        .collect();
    let mut receivers =
        server.send_to_subscribers(conn, &subscribers, &[b"message", channel, text]);
    for (pattern, subscribers) in matching {
        let parts: [&[u8]; 4] = [b"pmessage", &pattern, channel, text];
        receivers += server.send_to_subscribers(conn, &subscribers, &parts);
    }
    server.store.work += WORK_PER_DELIVERY * (receivers + tried);
    Ok(server.reply().count(receivers))
}

/// SUBSCRIBE and PSUBSCRIBE.
pub(crate) fn add(
    server: &mut Server,
    conn: &mut Connection,
    args: Args,
    topic: Topic,
    word: &str,
) -> Outcome {
    args[1..].iter().try_for_each(|name| check_name(name).map(drop))?;
    let subscribed = &server.clients[server.current].subscribed[topic as usize];
    let new = args[1..].iter().filter(|name| !subscribed.contains(**name)).count();
    let [channels_max, patterns_max] = SUBSCRIBED_MAX;
    if subscribed.len() + new > SUBSCRIBED_MAX[topic as usize] {
        let text =
            format!("ERR a client has at most {channels_max} channels, {patterns_max} patterns");
        return Err(text.into());
    }
    let [_, patterns] = &server.subscriptions;
    let new = args[1..].iter().filter(|name| !patterns.contains_key(**name)).count();
    if matches!(topic, Topic::Pattern) && patterns.len() + new > PATTERNS_MAX {
        return Err(Failure::new("ERR the patterns of all clients are too many"));
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
