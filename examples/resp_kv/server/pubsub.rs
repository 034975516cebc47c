//! PUBLISH and SUBSCRIBE. A message is made once and shared by all who get it. A subscriber that does not take what
//! waits for it is dropped by the limits of its connection, and delays nobody. In the memory of the reactor a message
//! counts once for each client that has not taken it: so a large one for many subscribers can use all of that up, and
//! then those are dropped that have taken the least.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use oneloop::{Connection, Context};

use super::Server;
use super::clients::Client;
use super::commands::{Args, Failure, Outcome};
use super::kept::name_bytes;
use super::pattern::{self, check_name};
use super::reply::{Done, REPLY_BYTES_MAX, Reply};
use super::store::{BYTES_PER_WORK, STEPS_PER_WORK};
use super::values::Bytes;

/// What a message has beside its texts, about.
const HEADER_BYTES: usize = 50;
/// A message that is sent is as much work as so many arguments of a command.
const WORK_PER_DELIVERY: usize = 16;

/// What a client subscribes to. Where both kinds have something of their own, it stands at this index.
#[derive(Clone, Copy)]
pub enum Topic {
    Channel,
    Pattern,
}

/// How many patterns a client may have, and how many different ones all clients together: each message is tried with all
/// of them, which takes a tenth of a second if they are as bad as can be.
const PATTERNS_MAX: usize = 256;
const PATTERNS_TOTAL_MAX: usize = 1024;

/// The slots of clients by their channels, and by their patterns.
pub type Subscriptions = [BTreeMap<Bytes, BTreeSet<usize>>; 2];

impl Server {
    /// Sends a message of these parts. Returns how many clients it went to.
    fn send_to_subscribers(
        &mut self,
        cx: &mut Context,
        subscribers: &[usize],
        parts: &[&[u8]],
    ) -> usize {
        let mut versions: [Option<Rc<[u8]>>; 2] = [None, None]; // of the protocol, made when somebody wants it
        let mut count = 0;
        for slot in subscribers {
            let Client { protocol, key, .. } = self.clients[*slot];
            if cx.is_open(key) {
                count += 1;
                let message = versions[usize::from(protocol == 3)].get_or_insert_with(|| {
                    let mut bytes = Vec::new();
                    let mut reply = Reply::new(&mut bytes, protocol);
                    reply.push(parts.len());
                    parts.iter().for_each(|part| _ = reply.bulk(part));
                    bytes.into()
                });
                self.deliver(cx, *slot, message);
            }
        }
        count
    }

    /// Adds to the subscriptions of the current client.
    fn subscribe(&mut self, topic: Topic, name: &[u8]) -> Result<(), Failure> {
        let own = &self.clients[self.current].subscribed[topic as usize];
        let all = &self.subscriptions[topic as usize];
        if own.contains(name) {
            return Ok(());
        }
        let is_pattern = matches!(topic, Topic::Pattern);
        if is_pattern && own.len() == PATTERNS_MAX {
            return Err(Failure::new("ERR a client has too many patterns"));
        }
        if is_pattern && all.len() == PATTERNS_TOTAL_MAX && !all.contains_key(name) {
            return Err(Failure::new("ERR all clients together have too many patterns"));
        }
        self.keep(name_bytes(name))?;
        let name = Bytes::from_slice(name);
        self.clients[self.current].subscribed[topic as usize].insert(name.clone());
        self.subscriptions[topic as usize].entry(name).or_default().insert(self.current);
        Ok(())
    }

    fn unsubscribe(&mut self, slot: usize, topic: Topic, name: &[u8]) {
        if !self.clients[slot].subscribed[topic as usize].remove(name) {
            return;
        }
        self.keep_less(slot, name_bytes(name));
        let all = &mut self.subscriptions[topic as usize];
        if let Some(subscribers) = all.get_mut(name) {
            subscribers.remove(&slot);
            if subscribers.is_empty() {
                all.remove(name);
            }
        }
    }

    /// Ends all subscriptions of a client, without telling it.
    pub fn unsubscribe_all(&mut self, slot: usize) {
        for topic in [Topic::Channel, Topic::Pattern] {
            for name in self.clients[slot].subscribed[topic as usize].clone() {
                self.unsubscribe(slot, topic, &name);
            }
        }
    }

    /// Tells the current client what became of its subscription.
    fn confirm(&mut self, command: &[u8], name: Option<&[u8]>) {
        let count = self.clients[self.current].subscriptions();
        let mut reply = self.reply();
        reply.push(3);
        reply.bulk(&command.to_ascii_lowercase());
        reply.bulk_or_null(name);
        reply.count(count);
    }

    /// Less output may wait for a client that subscribes to something.
    fn set_limits(&self, conn: &mut Connection) {
        let is_subscriber = self.clients[self.current].subscriptions() > 0;
        conn.set_limits(if is_subscriber { &self.subscriber_limits } else { &self.limits });
    }
}

pub fn publish(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let (channel, text) = (check_name(args[1])?, args[2]);
    let [channels, patterns] = &server.subscriptions;
    let subscribers: Vec<usize> = channels.get(channel).into_iter().flatten().copied().collect();
    let mut steps = usize::MAX;
    let mut matches = |pattern: &[u8]| pattern::matches(pattern, channel, &mut steps);
    let matching = patterns.iter().filter(|(pattern, _)| matches(pattern) == Some(true));
    let matching: Vec<(Bytes, Vec<usize>)> = matching
        .map(|(pattern, subscribers)| (pattern.clone(), subscribers.iter().copied().collect()))
        .collect();
    // Each pattern makes a message of its own.
    let length = |pattern: &Bytes| HEADER_BYTES + pattern.len() + channel.len() + text.len();
    let bytes = matching.iter().map(|(pattern, _)| length(pattern)).sum::<usize>();
    server.store.work += (usize::MAX - steps) / STEPS_PER_WORK + bytes / BYTES_PER_WORK;
    if server.published_bytes + bytes > REPLY_BYTES_MAX {
        return Err(Failure::new(
            "ERR the messages for all patterns that match would be too large",
        ));
    }
    server.published_bytes += bytes;
    let mut receivers =
        server.send_to_subscribers(conn, &subscribers, &[b"message", channel, text]);
    for (pattern, subscribers) in matching {
        let parts: [&[u8]; 4] = [b"pmessage", &pattern, channel, text];
        receivers += server.send_to_subscribers(conn, &subscribers, &parts);
    }
    server.store.work += WORK_PER_DELIVERY * receivers;
    Ok(server.reply().count(receivers))
}

/// SUBSCRIBE and PSUBSCRIBE. Names behind one that is refused are not subscribed to.
pub fn add(server: &mut Server, conn: &mut Connection, args: Args, topic: Topic) -> Outcome {
    for name in &args[1..] {
        let subscribed = check_name(name).and_then(|name| server.subscribe(topic, name));
        if let Err(failure) = subscribed {
            server.reply().error(&failure.0); // behind the others, which have their answers
            break;
        }
        server.confirm(args[0], Some(name));
    }
    server.set_limits(conn);
    Ok(Done)
}

/// UNSUBSCRIBE and PUNSUBSCRIBE; without names they are for all that the client has subscribed to.
pub fn remove(server: &mut Server, conn: &mut Connection, args: Args, topic: Topic) -> Outcome {
    let names: Vec<Bytes> = match args[1..] {
        [] => server.clients[server.current].subscribed[topic as usize].iter().cloned().collect(),
        ref names => names.iter().map(|name| Bytes::from_slice(name)).collect(),
    };
    if names.is_empty() {
        server.confirm(args[0], None);
    }
    for name in names {
        server.unsubscribe(server.current, topic, &name);
        server.confirm(args[0], Some(&name));
    }
    server.set_limits(conn);
    Ok(Done)
}
