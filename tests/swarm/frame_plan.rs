//! What clients send as frames, and what they are to receive.

use std::time::Duration;

use oneloop::sim::{Script, Simulation};

use super::frame_model::{Bad, Coding};
use super::within;

/// What comes behind the last frame that is taken.
#[derive(Debug)]
pub(super) enum Tail {
    Nothing,
    /// A part of a frame, and the end.
    Part(Vec<u8>),
    Bad(Bad),
    /// The server closes after the last frame.
    Quit,
    /// It fails with the last frame, by an answer that is no frame.
    Failure,
}

/// What one client sends.
pub(super) struct Plan {
    /// The first one begins with the client's number.
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) tail: Tail,
}

/// How often a frame is sent back: some answers are more than may wait.
pub(super) fn answers(place: usize) -> usize {
    [1, 0, 1, 12][place % 4]
}

/// Two letters, of which no codec makes anything.
fn number(client: usize) -> [u8; 2] {
    [b'a' + (client / 16) as u8, b'a' + (client % 16) as u8]
}

pub(super) fn number_of(frame: &[u8]) -> usize {
    usize::from(frame[0] - b'a') * 16 + usize::from(frame[1] - b'a')
}

/// A client's plan, what it sends by that, and what it is to receive.
fn plan(sim: &mut Simulation, coding: &Coding, client: usize) -> (Plan, Vec<u8>, Vec<u8>) {
    let mut frames = vec![coding.frame(sim, &number(client))];
    for _ in 0..within(sim, 0..40) {
        frames.push(coding.frame(sim, b""));
    }
    let mut input = Vec::new();
    let mut output = Vec::new();
    for (place, frame) in frames.iter().enumerate() {
        input.extend(coding.wire(frame, within(sim, 0..8)));
        output.extend(coding.wire(frame, 0).repeat(answers(place)));
    }
    let next = coding.wire(&coding.frame(sim, b""), within(sim, 0..8));
    let part = next[..within(sim, 0..next.len())].to_vec();
    let tail = match (within(sim, 0..6), coding.bad(sim)) {
        (0, _) if !part.is_empty() => Tail::Part(part),
        (1 | 2, Some(bad)) => Tail::Bad(bad),
        (3, _) => Tail::Quit,
        (4, _) => Tail::Failure,
        _ => Tail::Nothing,
    };
    match &tail {
        Tail::Nothing => {}
        Tail::Part(part) => {
            input.extend(part);
            output.extend(b"cut");
        }
        Tail::Bad((bad, _)) => {
            input.extend([bad, &next[..]].concat());
            output.extend(b"bad");
        }
        Tail::Quit => input.extend(next.repeat(3)),
        Tail::Failure => {
            input.extend(next.repeat(3));
            let last = frames.len() - 1;
            output.truncate(output.len() - coding.wire(&frames[last], 0).len() * answers(last));
        }
    }
    (Plan { frames, tail }, input, output)
}

/// Sends this in pieces of any size; some clients read slowly.
fn send_in_pieces(sim: &mut Simulation, input: &[u8]) -> Script {
    let mut script = Script::new();
    if within(sim, 0..4) == 0 {
        script = script.read_slowly(within(sim, 50..500), Duration::from_millis(1));
    }
    let mut rest = input;
    let piece_max = [1, 20, input.len()][within(sim, 0..3)];
    while !rest.is_empty() {
        // A byte at a time only for a while.
        let piece_max = if rest.len() > 300 { piece_max.max(300) } else { piece_max };
        let (piece, others) = rest.split_at(within(sim, 1..piece_max + 1).min(rest.len()));
        (script, rest) = (script.send(piece), others);
        if within(sim, 0..4) == 0 {
            script = script.wait(Duration::from_micros(within(sim, 0..2000) as u64));
        }
    }
    script
}

/// A client's plan, and how it goes about it.
pub(super) fn client(sim: &mut Simulation, coding: &Coding, client: usize) -> (Plan, Script) {
    let (plan, input, output) = plan(sim, coding, client);
    let script = send_in_pieces(sim, &input);
    let is_half_closed = within(sim, 0..2) == 0 || matches!(plan.tail, Tail::Part(_));
    let script = match plan.tail {
        _ if is_half_closed => script.shutdown().expect(output),
        Tail::Nothing => script.expect(output).shutdown(),
        _ => script.expect(output),
    };
    (plan, script.expect_end().close())
}
