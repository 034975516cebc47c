//! INFO: what the server says about itself, with the loop's own figures.

use std::fmt::{Display, Write};

use oneloop::CloseReason;

use super::super::clients::Client;
use super::super::store::Database;
use super::*;

/// The version of Redis that clients are told: they do not expect what came later, such as the options of EXPIRE.
pub const REDIS_VERSION: &str = "6.2.0";

pub fn info(server: &mut Server, conn: &mut Connection, args: Args) -> Outcome {
    if args.len() > 2 {
        return Err(Failure::SYNTAX);
    }
    server.store.work += server.clients.len();
    let stats = conn.stats();
    let uptime = (conn.now() - server.started).as_secs();
    let clients = |is: fn(&Client) -> bool| server.clients.iter().filter(|(_, it)| is(it)).count();
    let file = server.append_only.as_ref();
    let lines: [(&str, &str, &dyn Display); 34] = [
        ("Server", "redis_version", &REDIS_VERSION),
        ("Server", "redis_mode", &"standalone"),
        ("Server", "server_name", &"oneloop resp_kv"),
        ("Server", "arch_bits", &64),
        ("Server", "uptime_in_seconds", &uptime),
        ("Server", "uptime_in_days", &(uptime / 86_400)),
        ("Clients", "connected_clients", &server.clients.len()),
        ("Clients", "blocked_clients", &clients(|client| client.blocked.is_some())),
        ("Clients", "pubsub_clients", &clients(|client| client.subscriptions() > 0)),
        ("Persistence", "loading", &0),
        ("Persistence", "aof_enabled", &u8::from(file.is_some())),
        ("Persistence", "aof_held_bytes", &file.map_or(0, |file| file.held_bytes)),
        ("Persistence", "changes_since_start", &server.store.changes),
        ("Stats", "total_connections_received", &server.clients_total),
        ("Stats", "total_commands_processed", &server.commands_total),
        ("Stats", "total_net_input_bytes", &stats.bytes_in),
        ("Stats", "total_net_output_bytes", &stats.bytes_out),
        ("Stats", "expired_keys", &server.store.expired_total),
        ("Stats", "clients_dropped", &server.dropped_total),
        ("Loop", "loop_turns", &stats.turns),
        ("Loop", "loop_busy_turns", &stats.busy_turns),
        ("Loop", "loop_events", &stats.events),
        ("Loop", "loop_reads", &stats.reads),
        ("Loop", "loop_writes", &stats.writes),
        ("Loop", "loop_write_would_blocks", &stats.write_would_blocks),
        ("Loop", "loop_budgets_exhausted", &stats.budgets_exhausted),
        ("Loop", "loop_messages", &stats.messages),
        ("Loop", "loop_closes", &stats.closes_total()),
        ("Loop", "loop_closes_slow_reader", &stats.closes(CloseReason::SlowReader)),
        ("Loop", "loop_closes_output_soft_timeout", &stats.closes(CloseReason::OutputSoftTimeout)),
        ("Loop", "loop_buffer_bytes", &stats.memory_bytes),
        ("Loop", "loop_buffer_bytes_peak", &stats.memory_bytes_peak),
        ("Loop", "loop_turn_time_p99_ns", &stats.turn_time.quantile(0.99).as_nanos()),
        ("Loop", "loop_timer_lag_p99_ns", &stats.timer_lag.quantile(0.99).as_nanos()),
    ];
    let databases = server.store.databases.iter().enumerate();
    let databases: Vec<(String, String)> = databases
        .filter(|(_, database)| !database.keys.is_empty())
        .map(|(number, Database { keys, deadlines, .. })| {
            let text = format!("keys={},expires={},avg_ttl=0", keys.len(), deadlines.len());
            (format!("db{number}"), text)
        })
        .collect();
    let keyspace =
        databases.iter().map(|(name, value)| ("Keyspace", name.as_str(), value as &dyn Display));
    let is_wanted = |section: &str| {
        let names = [section, "all", "default", "everything"];
        args.get(1).is_none_or(|wanted| names.iter().any(|name| is_word(wanted, name)))
    };
    let mut text = String::new();
    let mut last = "";
    for (section, name, value) in lines.into_iter().chain(keyspace) {
        if section != last && is_wanted(section) {
            let separator = if last.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{separator}# {section}\r\n");
            last = section;
        }
        if section == last {
            let _ = write!(text, "{name}:{value}\r\n");
        }
    }
    Ok(server.reply().bulk(text.as_bytes()))
}
