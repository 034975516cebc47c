//! What oneloop promises to reach against the floor.

use std::fmt::{self, Display, Formatter};

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
    pub(crate) verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Reached,
    NotReached,
    /// The goal is within the interval.
    NotDecided,
    /// Of so few cycles no interval can be told.
    TooFewCycles,
    /// Something was divided by nothing.
    NoNumber,
}

impl Display for Verdict {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Verdict::Reached => "reached",
            Verdict::NotReached => "NOT REACHED",
            Verdict::NotDecided => "not decided",
            Verdict::TooFewCycles => "not judged: too few cycles",
            Verdict::NoNumber => "not judged: no number",
        })
    }
}

impl Verdict {
    fn reached_if(is_reached: bool) -> Verdict {
        if is_reached { Verdict::Reached } else { Verdict::NotReached }
    }

    fn at_most(value: f64, goal: f64) -> Verdict {
        if value.is_finite() { Verdict::reached_if(value <= goal) } else { Verdict::NoNumber }
    }
}

fn goal(figure: &str, value: String, goal: String, verdict: Verdict) -> Goal {
    Goal { figure: figure.into(), value, goal, verdict }
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
            Verdict::at_most(worse, INSTRUCTIONS_MAX),
        ));
    }
    if let Some(copies) = own.copies {
        goals.push(goal(
            "bytes copied for each echoed byte",
            format!("{copies:.3}"),
            format!("<= {COPIES_MAX}"),
            Verdict::at_most(copies, COPIES_MAX + COUNT_TOLERANCE),
        ));
    }
    if let (Some(fresh), Some(used)) = (own.resident_fresh, own.resident_used) {
        let growth = used / fresh;
        goals.push(goal(
            "resident bytes an idle connection",
            format!("{fresh:.0}"),
            format!("<= {RESIDENT_BYTES_MAX}"),
            Verdict::at_most(fresh, RESIDENT_BYTES_MAX),
        ));
        goals.push(goal(
            "the same after 16 KiB, to fresh",
            format!("{growth:.2}"),
            format!("<= {RESIDENT_GROWTH_MAX}"),
            Verdict::at_most(growth, RESIDENT_GROWTH_MAX),
        ));
    }
    if let Some(nanos) = own.idle_cpu_nanos {
        goals.push(goal(
            "CPU ns over 5 s with 10,000 idle",
            nanos.to_string(),
            "0".into(),
            Verdict::reached_if(nanos == 0),
        ));
    }
    goals
}

fn judge_calls(own: &Counts, reference: &Counts) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (&pipeline, own) in &own.calls_message {
        if let Some(reference) = reference.calls_message.get(&pipeline) {
            goals.push(judge_message_calls(pipeline, own, reference));
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

fn judge_message_calls(pipeline: usize, own: &Share, reference: &Share) -> Goal {
    // One recv for a pipeline's worth of messages.
    let once = 1.0 / pipeline as f64;
    let [receive, send, other] = grouped(own);
    let other_max = grouped(reference)[2] + OTHER_CALLS_MAX;
    goal(
        &format!("system calls a message, pipeline {pipeline}"),
        format!("{receive:.4} + {send:.4} + {other:.4}"),
        format!("{once:.4} + {once:.4} + <= {other_max:.4}"),
        Verdict::reached_if(is_about(receive, once) && is_about(send, once) && other <= other_max),
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
        Verdict::reached_if(is_exact && other <= other_max),
    )
}

fn judge_timing(timing: &Timing, reference: &str) -> Goal {
    let scenario = timing.scenario;
    let ratio = timing.cpu_ratio;
    let (value, verdict) = match ratio.bounds {
        _ if !ratio.median.is_finite() => ("-".into(), Verdict::NoNumber),
        None => (format!("{:.3}", ratio.median), Verdict::TooFewCycles),
        Some([lower, upper]) => {
            let verdict = match CPU_RATIO_MAX {
                goal if upper <= goal => Verdict::Reached,
                goal if lower > goal => Verdict::NotReached,
                _ => Verdict::NotDecided,
            };
            (format!("{:.3} [{lower:.3}, {upper:.3}]", ratio.median), verdict)
        }
    };
    goal(
        &format!(
            "CPU a message, {} x {} B, pipeline {}",
            scenario.connections, scenario.size, scenario.pipeline
        ),
        value,
        format!("<= {CPU_RATIO_MAX} x {reference}"),
        verdict,
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Scenario, median_interval};
    use super::*;

    fn share(calls: &[(&str, f64)]) -> Share {
        calls.iter().map(|&(name, calls)| (name.to_string(), calls)).collect()
    }

    #[test]
    fn a_second_recv_a_message_is_not_reached_and_a_few_polls_more_are() {
        let floor = share(&[("recvfrom", 1.0), ("sendto", 1.0), ("epoll_wait", 0.016)]);
        let close = share(&[("recvfrom", 1.0), ("sendto", 1.0), ("epoll_wait", 0.06)]);
        let twice = share(&[("recvfrom", 2.0), ("sendto", 1.0), ("epoll_wait", 0.016)]);
        assert_eq!(judge_message_calls(1, &close, &floor).verdict, Verdict::Reached);
        assert_eq!(judge_message_calls(1, &twice, &floor).verdict, Verdict::NotReached);
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
        assert_eq!(judge_connection_calls(&floor, &floor).verdict, Verdict::Reached);
        let more = share(&[&necessary[..], &[("setsockopt", 1.0)]].concat());
        assert_eq!(judge_connection_calls(&more, &floor).verdict, Verdict::NotReached);
        let mut twice = floor.clone();
        twice.insert("accept4".into(), 2.0);
        assert_eq!(judge_connection_calls(&twice, &floor).verdict, Verdict::NotReached);
    }

    fn verdict_on(ratios: &[f64]) -> Verdict {
        let timing = Timing {
            scenario: Scenario { connections: 1, pipeline: 1, size: 1 },
            name: "oneloop".into(),
            cpu_nanos_per_message: 1.0,
            cpu_is_by_ticks: false,
            messages_per_second: 1.0,
            p50_nanos: 1.0,
            p99_nanos: 1.0,
            p999_nanos: 1.0,
            datagrams: None,
            cpu_ratio: median_interval(ratios),
            rate_ratio: 1.0,
        };
        judge_timing(&timing, "floor").verdict
    }

    #[test]
    fn an_interval_around_the_goal_decides_nothing() {
        for (ends, verdict) in [
            ([1.0, 1.03], Verdict::Reached),
            ([1.02, 1.5], Verdict::NotDecided),
            ([1.031, 1.5], Verdict::NotReached),
        ] {
            assert_eq!(verdict_on(&[ends, ends, ends].concat()), verdict, "{ends:?}");
        }
    }

    #[test]
    fn a_ratio_without_an_interval_is_not_judged() {
        assert_eq!(verdict_on(&[1.0; 6]), Verdict::Reached);
        assert_eq!(verdict_on(&[1.1; 6]), Verdict::NotReached);
        for ratio in [1.0, 1.1] {
            assert_eq!(verdict_on(&[ratio; 5]), Verdict::TooFewCycles);
        }
        for ratio in [f64::NAN, -f64::NAN, f64::INFINITY] {
            assert_eq!(verdict_on(&[ratio; 6]), Verdict::NoNumber);
        }
        assert_eq!(verdict_on(&[]), Verdict::NoNumber);
    }
}
