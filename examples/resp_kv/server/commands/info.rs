//! INFO: what the server tells of itself, with the loop's own figures.

use std::fmt::Write;

use oneloop::Connection;

use super::super::Server;
use super::super::clients::Client;
use super::super::store::DATABASES;
use super::{Args, Outcome, is_word};

/// The version of Redis whose commands these are.
pub(crate) const REDIS_VERSION: &str = "7.0.0";

type Section = fn(&Server, &Connection) -> String;

const SECTIONS: [(&str, Section); 6] = [
    ("Server", of_server),
    ("Clients", of_clients),
    ("Persistence", of_persistence),
    ("Stats", of_stats),
    ("Loop", of_loop),
    ("Keyspace", of_keyspace),
];

pub(crate) fn info(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    let mut text = String::new();
    for (name, section) in SECTIONS {
        let is_wanted = |wanted: &&[u8]| {
            is_word(wanted, name)
                || ["all", "default", "everything"].iter().any(|all| is_word(wanted, all))
        };
        if args.len() == 1 || args[1..].iter().any(is_wanted) {
            let separator = if text.is_empty() { "" } else { "\r\n" };
            text.push_str(&format!("{separator}# {name}\r\n{}", section(server, conn)));
        }
    }
    Ok(server.reply().verbatim(&text))
}

fn of_server(server: &Server, conn: &Connection) -> String {
    let uptime = (conn.now() - server.started).as_secs();
    format!(
        "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:oneloop resp_kv\r\narch_bits:64\r\n\
         uptime_in_seconds:{uptime}\r\nuptime_in_days:{}\r\n",
        uptime / 86_400
    )
}

fn of_clients(server: &Server, _: &Connection) -> String {
    let count =
        |is: fn(&Client) -> bool| server.clients.iter().filter(|(_, client)| is(client)).count();
    format!(
        "connected_clients:{}\r\nblocked_clients:{}\r\npubsub_clients:{}\r\n",
        server.clients.len(),
        count(|client| client.blocked.is_some()),
        count(|client| client.subscriptions() > 0)
    )
}

fn of_persistence(server: &Server, _: &Connection) -> String {
    let held_bytes = server.append_only.as_ref().map_or(0, |append_only| append_only.held_bytes());
    format!(
        "loading:0\r\naof_enabled:{}\r\naof_held_bytes:{held_bytes}\r\nchanges_since_start:{}\r\n",
        u8::from(server.append_only.is_some()),
        server.store.changes
    )
}

fn of_stats(server: &Server, conn: &Connection) -> String {
    let stats = conn.stats();
    format!(
        "total_connections_received:{}\r\ntotal_commands_processed:{}\r\ntotal_net_input_bytes:{}\r\n\
         total_net_output_bytes:{}\r\nexpired_keys:{}\r\nclients_dropped_for_large_replies:{}\r\n",
        server.clients_total,
        server.commands_total,
        stats.bytes_in,
        stats.bytes_out,
        server.store.expired_total,
        server.dropped_total
    )
}

fn of_loop(_: &Server, conn: &Connection) -> String {
    let stats = conn.stats();
    let mut text = String::new();
    let numbers = [
        ("turns", stats.turns),
        ("busy_turns", stats.busy_turns),
        ("events", stats.events),
        ("reads", stats.reads),
        ("writes", stats.writes),
        ("write_would_blocks", stats.write_would_blocks),
        ("budgets_exhausted", stats.budgets_exhausted),
        ("messages", stats.messages),
        ("closes", stats.closes_total()),
        ("closes_slow_reader", stats.closes(oneloop::CloseReason::SlowReader)),
        ("closes_output_soft_timeout", stats.closes(oneloop::CloseReason::OutputSoftTimeout)),
        ("buffer_bytes", stats.memory_bytes as u64),
        ("buffer_bytes_peak", stats.memory_bytes_peak as u64),
        ("turn_time_p99_ns", stats.turn_time.quantile(0.99).as_nanos() as u64),
        ("timer_lag_p99_ns", stats.timer_lag.quantile(0.99).as_nanos() as u64),
    ];
    for (name, number) in numbers {
        let _ = write!(text, "loop_{name}:{number}\r\n");
    }
    text
}

fn of_keyspace(server: &Server, _: &Connection) -> String {
    let mut text = String::new();
    for number in 0..DATABASES {
        let (keys, expires) = server.store.counts(number);
        if keys > 0 {
            let _ = write!(text, "db{number}:keys={keys},expires={expires},avg_ttl=0\r\n");
        }
    }
    text
}
