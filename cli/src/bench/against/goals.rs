//! What oneloop promises to reach against the floor.

use serde::Serialize;

use super::{Comparison, Timing};
use crate::bench::counts::{Counts, Share, grouped};

const INSTRUCTIONS_MAX: f64 = 240.0;
const COPIES_MAX: f64 = 1.0;
/// Calls other than the necessary ones, over those of the reference.
const OTHER_CALLS_MAX: f64 = 0.05;
const RESIDENT_BYTES_MAX: f64 = 128.0;
const RESIDENT_GROWTH_MAX: f64 = 1.1;
const CPU_RATIO_MAX: f64 = 1.03;
/// A count a message may be off by what the end of a run cuts off.
const COUNT_TOLERANCE: f64 = 0.002;

/// One figure of our own server, and what it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) figure: String,
    pub(crate) value: String,
    pub(crate) goal: String,
    pub(crate) is_reached: bool,
}

fn goal(figure: &str, value: String, goal: String, is_reached: bool) -> Goal {
    Goal { figure: figure.into(), value, goal, is_reached }
}

/// Holds the first server to the goals; those against a reference need one.
pub(super) fn judge(comparison: &Comparison) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some(own) = comparison.counts.first() {
        goals.extend(judge_alone(own));
        if let Some(reference) = comparison.counts.get(1) {
            goals.extend(judge_calls(own, reference));
        }
    }
    let own = comparison.timings.first().map(|timing| &timing.name);
    let own = comparison.timings.iter().filter(|timing| Some(&timing.name) == own);
    if own.clone().any(|timing| timing.name != comparison.reference) {
        goals.extend(own.map(|timing| judge_timing(timing, &comparison.reference)));
    }
    goals
}

fn judge_alone(own: &Counts) -> Vec<Goal> {
    let mut goals = Vec::new();
    if let Some([once, again]) = own.instructions {
        let worse = once.max(again);
        goals.push(goal(
            "user instructions a message",
            format!("{worse:.1}"),
            format!("<= {INSTRUCTIONS_MAX}"),
            worse <= INSTRUCTIONS_MAX,
        ));
    }
    if let Some(copies) = own.copies {
        goals.push(goal(
            "bytes copied for each echoed byte",
            format!("{copies:.3}"),
            format!("<= {COPIES_MAX}"),
            copies <= COPIES_MAX + COUNT_TOLERANCE,
        ));
    }
    let growth = own.resident_used / own.resident_fresh;
    goals.push(goal(
        "resident bytes an idle connection",
        format!("{:.0}", own.resident_fresh),
        format!("<= {RESIDENT_BYTES_MAX}"),
        own.resident_fresh <= RESIDENT_BYTES_MAX,
    ));
    goals.push(goal(
        "the same after 16 KiB, to fresh",
        format!("{growth:.2}"),
        format!("<= {RESIDENT_GROWTH_MAX}"),
        growth <= RESIDENT_GROWTH_MAX,
    ));
    goals.push(goal(
        "CPU ns over 5 s with 10,000 idle",
        own.idle_cpu_nanos.to_string(),
        "0".into(),
        own.idle_cpu_nanos == 0,
    ));
    goals
}

fn judge_calls(own: &Counts, reference: &Counts) -> Vec<Goal> {
    let mut goals = Vec::new();
    let messages = [
        (
            "system calls a message, pipeline 1",
            1.0,
            &own.calls_pipeline_1,
            &reference.calls_pipeline_1,
        ),
        (
            "system calls a message, pipeline 16",
            16.0,
            &own.calls_pipeline_16,
            &reference.calls_pipeline_16,
        ),
    ];
    for (figure, pipeline, own, reference) in messages {
        if let (Some(own), Some(reference)) = (own, reference) {
            goals.push(judge_message_calls(figure, 1.0 / pipeline, own, reference));
        }
    }
    if let (Some(own), Some(reference)) = (&own.calls_connection, &reference.calls_connection) {
        goals.push(judge_connection_calls(own, reference));
    }
    goals
}

fn is_about(value: f64, goal: f64) -> bool {
    (value - goal).abs() <= COUNT_TOLERANCE
}

/// `once` is one recv for a pipeline's worth of messages.
fn judge_message_calls(figure: &str, once: f64, own: &Share, reference: &Share) -> Goal {
    let [receive, send, other] = grouped(own);
    let other_max = grouped(reference)[2] + OTHER_CALLS_MAX;
    goal(
        figure,
        format!("{receive:.4} + {send:.4} + {other:.4}"),
        format!("{once:.4} + {once:.4} + <= {other_max:.4}"),
        is_about(receive, once) && is_about(send, once) && other <= other_max,
    )
}

/// The necessary calls of a connection are accept4, epoll_ctl, two recv, one send and close; others are
/// bounded.
fn judge_connection_calls(own: &Share, reference: &Share) -> Goal {
    let exactly = [("accept4", 1.0), ("epoll_ctl", 1.0), ("close", 1.0)];
    let split = |share: &Share| -> (bool, f64) {
        let [receive, send, mut other] = grouped(share);
        let mut is_exact = is_about(receive, 2.0) && is_about(send, 1.0);
        for (name, goal) in exactly {
            let calls = share.get(name).copied().unwrap_or(0.0);
            other -= calls;
            is_exact &= is_about(calls, goal);
        }
        (is_exact, other)
    };
    let (is_exact, other) = split(own);
    let other_max = split(reference).1 + OTHER_CALLS_MAX;
    let necessary = if is_exact { "six" } else { "not the six" };
    goal(
        "system calls connect-echo-close",
        format!("{necessary} + {other:.3}"),
        format!("six + <= {other_max:.3}"),
        is_exact && other <= other_max,
    )
}

fn judge_timing(timing: &Timing, reference: &str) -> Goal {
    let scenario = timing.scenario;
    let ratio = timing.cpu_ratio;
    goal(
        &format!(
            "CPU a message, {} x {} B, pipeline {}",
            scenario.connections, scenario.size, scenario.pipeline
        ),
        format!("{:.3} [{:.3}, {:.3}]", ratio.median, ratio.lower, ratio.upper),
        format!("<= {CPU_RATIO_MAX} x {reference}"),
        ratio.lower <= CPU_RATIO_MAX,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(calls: &[(&str, f64)]) -> Share {
        calls.iter().map(|&(name, calls)| (name.to_string(), calls)).collect()
    }

    #[test]
    fn a_second_recv_a_message_is_not_reached_and_a_few_polls_more_are() {
        let floor = share(&[("recvfrom", 1.0), ("sendto", 1.0), ("epoll_wait", 0.016)]);
        let close = share(&[("recvfrom", 1.0), ("sendto", 1.0), ("epoll_wait", 0.06)]);
        let twice = share(&[("recvfrom", 2.0), ("sendto", 1.0), ("epoll_wait", 0.016)]);
        assert!(judge_message_calls("", 1.0, &close, &floor).is_reached);
        assert!(!judge_message_calls("", 1.0, &twice, &floor).is_reached);
    }

    #[test]
    fn a_connection_may_not_cost_one_call_more() {
        let necessary = [
            ("accept4", 1.0),
            ("epoll_ctl", 1.0),
            ("recvfrom", 2.0),
            ("sendto", 1.0),
            ("close", 1.0),
            ("epoll_wait", 2.0),
        ];
        let floor = share(&necessary);
        assert!(judge_connection_calls(&floor, &floor).is_reached);
        let more = share(&[&necessary[..], &[("setsockopt", 1.0)]].concat());
        assert!(!judge_connection_calls(&more, &floor).is_reached);
        let mut twice = floor.clone();
        twice.insert("accept4".into(), 2.0);
        assert!(!judge_connection_calls(&twice, &floor).is_reached);
    }
}
