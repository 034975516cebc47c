//! Whether the machine has what a measurement needs, asked before it starts.

use std::fs;

use anyhow::{Result, ensure};

use crate::units::grouped;

/// Descriptors besides the connections of a server, of that server and of the load on it.
const DESCRIPTORS_OTHER: u64 = 64;

/// Bytes in flight over all connections: some of them wait in this process.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 30;

/// What a measurement needs at its largest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Needs {
    /// Of one server.
    pub(super) connections: usize,
    /// How many servers have so many at the same time.
    pub(super) servers: usize,
    /// Over all connections.
    pub(super) in_flight_bytes: usize,
    /// Whether --connections says how many there are.
    pub(super) follows_flags: bool,
    /// Whether each takes a port of this machine.
    pub(super) takes_ports: bool,
    /// Whether the servers have their limits from this process.
    pub(super) starts_servers: bool,
}

/// # Errors
///
/// Descriptors, local ports or memory do not suffice, and what to change.
pub(super) fn check(needs: Needs) -> Result<()> {
    check_descriptors(needs, oneloop::raise_descriptor_limit() as u64)?;
    if needs.takes_ports
        && let Some(ports) = local_ports()
    {
        check_ports(needs, ports)?;
    }
    ensure!(
        needs.in_flight_bytes <= IN_FLIGHT_BYTES_MAX,
        "{} bytes would be in flight, more than {}: fewer --connections, --pipeline or --size",
        grouped(needs.in_flight_bytes as u64),
        grouped(IN_FLIGHT_BYTES_MAX as u64)
    );
    Ok(())
}

fn check_descriptors(needs: Needs, limit: u64) -> Result<()> {
    let servers = needs.servers as u64;
    let needed = (needs.connections as u64 + DESCRIPTORS_OTHER).saturating_mul(servers);
    let who = match needs.servers {
        1 if needs.starts_servers => "the load and the server each".into(),
        1 => "the load".into(),
        _ => format!("the load on all {servers} servers together"),
    };
    let connections_max = (limit / servers).saturating_sub(DESCRIPTORS_OTHER);
    // The soft limit is as high as it may be.
    let raise = "raise the hard limit, as root (ulimit -n)";
    let advice = match connections_max {
        _ if !needs.follows_flags => raise.into(),
        0 => format!("the limit is too low for even one: {raise}"),
        _ => format!("at most --connections {connections_max}, or {raise}"),
    };
    ensure!(
        needed <= limit,
        "{} connections: {who} would need {} descriptors, and may have {}: {advice}",
        grouped(needs.connections as u64),
        grouped(needed),
        grouped(limit)
    );
    Ok(())
}

fn check_ports(needs: Needs, ports: u64) -> Result<()> {
    let setting = "net.ipv4.ip_local_port_range";
    let advice = match needs.follows_flags {
        true => format!("at most --connections {ports}, or widen {setting}"),
        false => format!("widen {setting}"),
    };
    ensure!(
        needs.connections as u64 <= ports,
        "{} connections from one address need as many local ports, and there are {}: {advice}",
        grouped(needs.connections as u64),
        grouped(ports)
    );
    Ok(())
}

/// How many ports the kernel gives to outbound connections, for IPv6 too: ip(7).
fn local_ports() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    Some((high + 1).saturating_sub(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(connections: usize) -> Needs {
        Needs {
            connections,
            servers: 1,
            in_flight_bytes: 0,
            follows_flags: true,
            takes_ports: true,
            starts_servers: true,
        }
    }

    fn assert_tells(result: Result<()>, parts: &[&str]) {
        let error = result.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_missing_is_named_together_with_the_flag() {
        let parts = ["1,064 descriptors", "at most --connections 960"];
        assert_tells(check_descriptors(needs(1000), 1024), &parts);
        let three = Needs { servers: 3, ..needs(1000) };
        let parts = ["all 3 servers together", "3,192 descriptors", "at most --connections 277"];
        assert_tells(check_descriptors(three, 1024), &parts);
        check_descriptors(Needs { connections: 277, ..three }, 1024).unwrap();
        assert_tells(check_ports(needs(30_000), 28_232), &["28,232", "--connections 28232"]);
        let much = Needs { in_flight_bytes: IN_FLIGHT_BYTES_MAX + 1, ..needs(1) };
        assert_tells(check(much), &["--pipeline"]);
    }

    #[test]
    fn nobody_is_sent_to_a_flag_that_does_not_help() {
        for (servers, limit) in [(1, 0), (1, DESCRIPTORS_OTHER), (2, 2 * DESCRIPTORS_OTHER + 1)] {
            let needs = Needs { servers, ..needs(1) };
            let error = check_descriptors(needs, limit).unwrap_err().to_string();
            assert!(error.contains("ulimit -n") && !error.contains("--connections"), "{error}");
        }
        let counts = Needs { follows_flags: false, ..needs(10_000) };
        for error in [check_descriptors(counts, 2000), check_ports(counts, 2000)] {
            let error = error.unwrap_err().to_string();
            assert!(!error.contains("--connections"), "{error}");
        }
    }

    #[test]
    fn the_kernel_tells_its_ports() {
        assert!(local_ports().is_some_and(|ports| ports > 0));
    }
}
