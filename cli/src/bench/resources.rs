//! Whether the machine has what a measurement needs, asked before it starts.

use std::fs;

use anyhow::{Result, ensure};

use crate::descriptors;
use crate::units::grouped;

/// Descriptors of a process besides its connections.
const DESCRIPTORS_OTHER: u64 = 64;

/// Bytes in flight over all connections: some of them wait in this process.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 30;

/// # Errors
///
/// Descriptors, local ports or memory do not suffice, and which flag to change.
pub(super) fn check(
    connections: &[usize],
    pipelines: &[usize],
    sizes: &[usize],
    starts_servers: bool,
) -> Result<()> {
    let largest = |list: &[usize]| list.iter().copied().max().unwrap_or(1);
    let most = largest(connections) as u64;
    let descriptors = descriptors::raise_limit();
    check_descriptors(most, descriptors, starts_servers)?;
    if let Some(ports) = local_ports() {
        check_ports(most, ports)?;
    }
    let in_flight = largest(pipelines).saturating_mul(largest(sizes));
    let in_flight = in_flight.saturating_mul(largest(connections));
    ensure!(
        in_flight <= IN_FLIGHT_BYTES_MAX,
        "{} bytes would be in flight, more than {}: fewer --connections, --pipeline or --size",
        grouped(in_flight as u64),
        grouped(IN_FLIGHT_BYTES_MAX as u64)
    );
    Ok(())
}

fn check_descriptors(connections: u64, limit: u64, starts_servers: bool) -> Result<()> {
    let needed = connections.saturating_add(DESCRIPTORS_OTHER);
    let who = if starts_servers { "the load and the server each" } else { "the load" };
    ensure!(
        needed <= limit,
        "{} connections: {who} would need {} descriptors, and may have {} (ulimit -Hn): \
         at most --connections {}",
        grouped(connections),
        grouped(needed),
        grouped(limit),
        limit.saturating_sub(DESCRIPTORS_OTHER)
    );
    Ok(())
}

fn check_ports(connections: u64, ports: u64) -> Result<()> {
    ensure!(
        connections <= ports,
        "{} connections from one address need as many local ports, and there are {} \
         (net.ipv4.ip_local_port_range): at most --connections {ports}",
        grouped(connections),
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

    #[test]
    fn what_is_missing_is_named_together_with_the_flag() {
        let error = check_descriptors(1000, 1024, true).unwrap_err().to_string();
        assert!(
            error.contains("1,064 descriptors") && error.contains("--connections 960"),
            "{error}"
        );
        let error = check_ports(30_000, 28_232).unwrap_err().to_string();
        assert!(error.contains("28,232") && error.contains("--connections 28232"), "{error}");
        let error = check(&[1000], &[1 << 20], &[1 << 20], false).unwrap_err().to_string();
        assert!(error.contains("--pipeline"), "{error}");
    }

    #[test]
    fn the_kernel_tells_its_ports() {
        assert!(local_ports().is_some_and(|ports| ports > 0));
    }
}
