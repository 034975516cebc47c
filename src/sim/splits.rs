//! One input, cut in many ways.

use std::collections::BTreeSet;
use std::panic::resume_unwind;

use super::decisions::Numbers;
use super::failure::{self, Failure};
use super::harness::Harness;
use crate::handler::StreamHandler;

/// Up to so many bytes are cut in every way there is.
const ALL_WAYS: usize = 12;

/// About so many ways to cut a longer input are tried, however long it is,
const RUNS_MAX: usize = 4096;

/// ... or fewer, so that about so many bytes are fed; but not fewer than some.
const BYTES_MAX: usize = 4 << 20;
const RUNS_MIN: usize = 512;

/// So many of them are any cuts, many or few.
const RANDOM: usize = 64;

/// So many lines show how a failing input was fed.
const LINES_MAX: usize = 20;

/// Feeds `input` in every way to cut it, each to a handler of its own that `make` makes, and calls
/// `check` with what it did: up to 12 bytes every way there is. A longer input is cut at every place, at
/// every two places, between all bytes, and in 64 other ways; if these are more than 4,096 together (from
/// 91 bytes on) or would feed more than 4 MiB, at some of these places, always the same ones. What is
/// left of the input when the handler closes is not fed.
///
/// # Cost
///
/// In a debug build about a second.
///
/// ```
/// use oneloop::sim::all_splits;
/// # use oneloop::{Connection, Error, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         conn.send(data).ignore();
/// #         Ok(data.len())
/// #     }
/// # }
///
/// all_splits(b"hello", || Echo, |harness| assert_eq!(harness.output(), b"hello"));
/// ```
///
/// # Panics
///
/// If `check` does, or `make`, or the handler, after saying which cuts it were: the fewest, if there is a
/// choice.
#[track_caller]
pub fn all_splits<H: StreamHandler>(
    input: &[u8],
    make: impl Fn() -> H,
    check: impl Fn(&mut Harness<H>),
) {
    let run = |cuts: &[usize]| {
        failure::caught_alone(|| {
            let mut harness = Harness::new(make());
            for part in parts(input, cuts) {
                harness.try_feed(part);
            }
            check(&mut harness);
        })
    };
    for cuts in ways(input.len()) {
        let Err((panic, failure)) = failure::quietly(|| run(&cuts)) else { continue };
        let cuts = fewest(cuts, &failure, |cuts| {
            failure::quietly(|| run(cuts)).err().map(|(_, failure)| failure)
        });
        eprintln!("\nall_splits: the test failed with cuts: {cuts:?}\n  {failure}");
        eprintln!("{}", feeds(input, &cuts));
        let Err((panic, _)) = run(&cuts) else { resume_unwind(panic) };
        resume_unwind(panic);
    }
}

fn parts<'a>(input: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
    let ends = cuts.iter().copied().chain([input.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(start, end)| &input[start..end])
}

/// All sets of cuts that are tried, those with few cuts first.
fn ways(len: usize) -> Vec<Vec<usize>> {
    let places: Vec<usize> = (1..len).collect();
    let mut ways = Vec::new();
    if len <= ALL_WAYS {
        for set in 0..1_u32 << places.len() {
            let is_cut = |place: &usize| set >> (place - 1) & 1 == 1;
            ways.push(places.iter().copied().filter(is_cut).collect::<Vec<_>>());
        }
        ways.sort_by_key(Vec::len);
        return ways;
    }
    let runs_max = (BYTES_MAX / len).clamp(RUNS_MIN, RUNS_MAX);
    // Always the same numbers: no seed is printed.
    let mut numbers = Numbers::new(len as u64);
    let mut some = |count: usize| numbers.below(count as u64) as usize;
    ways.push(Vec::new());
    let pairs = places.len() * (places.len() - 1) / 2;
    if places.len() <= runs_max / 2 {
        ways.extend(places.iter().map(|place| vec![*place]));
    } else {
        let chosen: BTreeSet<usize> = (0..runs_max / 2).map(|_| 1 + some(places.len())).collect();
        ways.extend(chosen.into_iter().map(|place| vec![place]));
    }
    let left = runs_max - ways.len() - RANDOM;
    if pairs <= left {
        for (number, first) in places.iter().enumerate() {
            ways.extend(places[number + 1..].iter().map(|second| vec![*first, *second]));
        }
    } else {
        let (mut chosen, mut tries) = (BTreeSet::new(), 0);
        while chosen.len() < left && tries < 4 * runs_max {
            // Every other time they are near to each other: a short part by itself.
            let first = 1 + some(places.len() - 1);
            let most = places.len() - first;
            let most = if tries % 2 == 0 { most.min(4) } else { most };
            chosen.insert(vec![first, first + 1 + some(most)]);
            tries += 1;
        }
        ways.extend(chosen);
    }
    let mut chosen = BTreeSet::new();
    for number in 0..RANDOM {
        // From a cut at every other place to one at every sixteenth.
        let every = 2 << (number % 4);
        let cuts: Vec<usize> = places.iter().copied().filter(|_| some(every) == 0).collect();
        if cuts.len() > 2 && cuts.len() < places.len() {
            chosen.insert(cuts);
        }
    }
    ways.extend(chosen);
    ways.push(places);
    ways
}

/// The same failure without the cuts that it does not need.
fn fewest(
    mut cuts: Vec<usize>,
    first: &Failure,
    run: impl Fn(&[usize]) -> Option<Failure>,
) -> Vec<usize> {
    let (mut tries, mut size) = (0, cuts.len());
    while size > 0 && tries < 500 {
        let mut start = 0;
        while start < cuts.len() {
            let end = cuts.len().min(start + size);
            let fewer = [&cuts[..start], &cuts[end..]].concat();
            tries += 1;
            if run(&fewer).is_some_and(|failure| failure.is_same_as(first)) {
                cuts = fewer;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
    cuts
}

/// The lines that do the same with a harness.
fn feeds(input: &[u8], cuts: &[usize]) -> String {
    let lines = parts(input, cuts).take(LINES_MAX);
    let lines: Vec<String> =
        lines.map(|part| format!("  harness.feed(b\"{}\");", part.escape_ascii())).collect();
    let more = if cuts.len() < LINES_MAX { "" } else { "\n  ..." };
    format!("with a harness that is:\n{}{more}", lines.join("\n"))
}
