//! The table of commands. Names and arities are those of Redis, as some libraries ask for them.

use super::super::pubsub::Topic::{Channel, Pattern};
use super::super::store::DATABASES;
use super::super::values::{Bytes, Hash, List, Set};
use super::super::{blocking, pubsub, transactions};
use super::Run::{OnKeys, OnServer};
use super::expiry::Unit;
use super::lists::Side::{Left, Right};
use super::sets::Operation::{Difference, Intersection, Union};
use super::{
    Command, Run, client, combined, connection, expiry, generic, hashes, info, lists, numbers,
    sets, strings,
};

const OTHER: bool = false;
const WRITE: bool = true;

#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    row("get", 2, OTHER, OnKeys(strings::get)),
    row("set", -3, WRITE, OnKeys(strings::set)),
    row("setnx", 3, WRITE, OnKeys(combined::setnx)),
    row("setex", 4, WRITE, OnKeys(|k, a, r| strings::set(k, &[a[0], a[1], a[3], b"EX", a[2]], r))),
    row("getset", 3, WRITE, OnKeys(combined::getset)),
    row("getdel", 2, WRITE, OnKeys(combined::getdel)),
    row("getex", -2, WRITE, OnKeys(combined::getex)),
    row("mget", -2, OTHER, OnKeys(strings::mget)),
    row("mset", -3, WRITE, OnKeys(strings::mset)),
    row("append", 3, WRITE, OnKeys(strings::append)),
    row("strlen", 2, OTHER, OnKeys(generic::len::<Bytes>)),
    row("incr", 2, WRITE, OnKeys(|k, a, r| numbers::add(k, a, r, 1))),
    row("decr", 2, WRITE, OnKeys(|k, a, r| numbers::add(k, a, r, -1))),
    row("incrby", 3, WRITE, OnKeys(numbers::incrby)),
    row("decrby", 3, WRITE, OnKeys(numbers::decrby)),
    row("incrbyfloat", 3, WRITE, OnKeys(numbers::incrbyfloat)),
    row("del", -2, WRITE, OnKeys(generic::del)),
    row("unlink", -2, WRITE, OnKeys(generic::del)),
    row("exists", -2, OTHER, OnKeys(generic::exists)),
    row("expire", 3, WRITE, OnKeys(|k, a, r| expiry::expire(k, a, r, Unit::SECONDS))),
    row("pexpire", 3, WRITE, OnKeys(|k, a, r| expiry::expire(k, a, r, Unit::MILLIS))),
    row("expireat", 3, WRITE, OnKeys(|k, a, r| expiry::expire(k, a, r, Unit::SECONDS_SINCE_1970))),
    row("pexpireat", 3, WRITE, OnKeys(|k, a, r| expiry::expire(k, a, r, Unit::MILLIS_SINCE_1970))),
    row("ttl", 2, OTHER, OnKeys(|k, a, r| expiry::ttl(k, a, r, |at, now| (at.saturating_sub(now) + 500) / 1000))),
    row("pttl", 2, OTHER, OnKeys(|k, a, r| expiry::ttl(k, a, r, |at, now| at.saturating_sub(now)))),
    row("persist", 2, WRITE, OnKeys(expiry::persist)),
    row("type", 2, OTHER, OnKeys(generic::type_of)),
    row("rename", 3, WRITE, OnKeys(generic::rename)),
    row("keys", 2, OTHER, OnKeys(generic::keys)),
    row("scan", -2, OTHER, OnKeys(generic::scan)),
    row("dbsize", 1, OTHER, OnKeys(generic::dbsize)),
    row("flushdb", -1, WRITE, OnKeys(|k, a, r| { let number = k.number; generic::flush(k, a, r, number..number + 1) })),
    row("flushall", -1, WRITE, OnKeys(|k, a, r| generic::flush(k, a, r, 0..DATABASES))),
    row("hset", -4, WRITE, OnKeys(hashes::hset)),
    row("hmset", -4, WRITE, OnKeys(hashes::hmset)),
    row("hget", 3, OTHER, OnKeys(hashes::hget)),
    row("hmget", -3, OTHER, OnKeys(hashes::hmget)),
    row("hdel", -3, WRITE, OnKeys(hashes::hdel)),
    row("hexists", 3, OTHER, OnKeys(hashes::hexists)),
    row("hlen", 2, OTHER, OnKeys(generic::len::<Hash>)),
    row("hgetall", 2, OTHER, OnKeys(hashes::hgetall)),
    row("hkeys", 2, OTHER, OnKeys(hashes::hkeys)),
    row("hvals", 2, OTHER, OnKeys(hashes::hvals)),
    row("hincrby", 4, WRITE, OnKeys(hashes::hincrby)),
    row("lpush", -3, WRITE, OnKeys(|k, a, r| lists::push(k, a, r, Left))),
    row("rpush", -3, WRITE, OnKeys(|k, a, r| lists::push(k, a, r, Right))),
    row("lpop", -2, WRITE, OnKeys(|k, a, r| lists::pop(k, a, r, Left))),
    row("rpop", -2, WRITE, OnKeys(|k, a, r| lists::pop(k, a, r, Right))),
    row("llen", 2, OTHER, OnKeys(generic::len::<List>)),
    row("lindex", 3, OTHER, OnKeys(lists::lindex)),
    row("lset", 4, WRITE, OnKeys(lists::lset)),
    row("lrange", 4, OTHER, OnKeys(lists::lrange)),
    row("ltrim", 4, WRITE, OnKeys(lists::ltrim)),
    row("lrem", 4, WRITE, OnKeys(lists::lrem)),
    row("blpop", -3, WRITE, OnServer(|s, c, a| blocking::pop(s, c, a, Left))),
    row("brpop", -3, WRITE, OnServer(|s, c, a| blocking::pop(s, c, a, Right))),
    row("sadd", -3, WRITE, OnKeys(sets::sadd)),
    row("srem", -3, WRITE, OnKeys(sets::srem)),
    row("scard", 2, OTHER, OnKeys(generic::len::<Set>)),
    row("sismember", 3, OTHER, OnKeys(sets::sismember)),
    row("smembers", 2, OTHER, OnKeys(sets::smembers)),
    row("spop", -2, WRITE, OnServer(sets::spop)),
    row("sinter", -2, OTHER, OnKeys(|k, a, r| sets::combine(k, a, r, Intersection))),
    row("sunion", -2, OTHER, OnKeys(|k, a, r| sets::combine(k, a, r, Union))),
    row("sdiff", -2, OTHER, OnKeys(|k, a, r| sets::combine(k, a, r, Difference))),
    row("publish", 3, WRITE, OnServer(pubsub::publish)),
    row("subscribe", -2, OTHER, OnServer(|s, c, a| pubsub::add(s, c, a, Channel))),
    row("psubscribe", -2, OTHER, OnServer(|s, c, a| pubsub::add(s, c, a, Pattern))),
    row("unsubscribe", -1, OTHER, OnServer(|s, c, a| pubsub::remove(s, c, a, Channel))),
    row("punsubscribe", -1, OTHER, OnServer(|s, c, a| pubsub::remove(s, c, a, Pattern))),
    row("multi", 1, OTHER, OnServer(transactions::multi)),
    row("exec", 1, OTHER, OnServer(transactions::exec)),
    row("discard", 1, OTHER, OnServer(transactions::discard)),
    row("watch", -2, OTHER, OnServer(transactions::watch)),
    row("unwatch", 1, OTHER, OnServer(transactions::unwatch)),
    row("ping", -1, OTHER, OnServer(connection::ping)),
    row("echo", 2, OTHER, OnServer(connection::echo)),
    row("select", 2, OTHER, OnServer(connection::select)),
    row("quit", -1, OTHER, OnServer(connection::quit)),
    row("hello", -1, OTHER, OnServer(connection::hello)),
    row("client", -2, OTHER, OnServer(client::client)),
    row("info", -1, OTHER, OnServer(info::info)),
    row("config", -2, OTHER, OnServer(connection::config)),
    row("command", -1, OTHER, OnServer(connection::command)),
    row("shutdown", -1, OTHER, OnServer(connection::shutdown)),
];

const fn row(name: &'static str, arity: i32, writes: bool, run: Run) -> Command {
    Command { name, arity, writes, run }
}
