//! Medians, and how far they can be trusted.

use serde::Serialize;

/// A median with the bounds between which the true one lies with a probability of at least 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    /// The lower and the upper one; `None` with too few values to tell.
    pub(crate) bounds: Option<[f64; 2]>,
}

/// The middle value, or the mean of the two middle ones. NaN if there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    median_of_sorted(&sorted(values))
}

/// The median with its order-statistic interval, also known as that of the sign test: the k-th smallest
/// and the k-th largest value, where k is the largest number for which a fair coin thrown once a value
/// falls on one side fewer than k times with a probability of at most 2.5 %. It assumes nothing about
/// the distribution but that the values are independent, and is the same in every run over the same
/// values, which a bootstrap is not. Under 6 values there is no such k.
pub(crate) fn median_interval(values: &[f64]) -> Interval {
    let sorted = sorted(values);
    let median = median_of_sorted(&sorted);
    let bounds = match rank_of_bound(sorted.len()) {
        0 => None,
        rank => Some([sorted[rank - 1], sorted[sorted.len() - rank]]),
    };
    Interval { median, bounds }
}

/// The ratio of the two costs in each cycle. What disturbs a shared machine for longer than a cycle
/// disturbs both sides of a pair, and cancels.
pub(crate) fn ratios(of: &[f64], to: &[f64]) -> Vec<f64> {
    of.iter().zip(to).map(|(of, to)| of / to).collect()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

fn median_of_sorted(values: &[f64]) -> f64 {
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The largest k with P(X < k) <= 2.5 % for X ~ Binomial(count, 1/2).
fn rank_of_bound(count: usize) -> usize {
    // In logarithms: 2^-count is no number any more beyond 1,074.
    let mut probability_ln = -(count as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for successes in 0..count {
        below += probability_ln.exp();
        if below > 0.025 {
            return successes;
        }
        probability_ln += ((count - successes) as f64 / (successes + 1) as f64).ln();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ranks_are_those_of_the_tables_of_the_sign_test() {
        for (count, rank) in [(5, 0), (6, 1), (10, 2), (20, 6), (25, 8), (50, 18), (60, 22)] {
            assert_eq!(rank_of_bound(count), rank, "{count} values");
        }
        let rank = rank_of_bound(10_000);
        assert!((4_900..=4_903).contains(&rank), "{rank}");
    }

    #[test]
    fn the_interval_holds_the_median_between_the_ranked_values() {
        let values: Vec<f64> = (1..=60).rev().map(f64::from).collect();
        let interval = median_interval(&values);
        assert_eq!(interval, Interval { median: 30.5, bounds: Some([22.0, 39.0]) });
    }

    #[test]
    fn too_few_values_bound_nothing() {
        let interval = median_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(interval, Interval { median: 3.0, bounds: None });
    }

    #[test]
    fn the_true_median_is_inside_as_often_as_promised() {
        // Uniform values over [0, 1) from a linear congruential generator; the true median is 1/2.
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let rounds = 4_000;
        let inside = (0..rounds)
            .filter(|_| {
                let values: Vec<f64> = (0..60).map(|_| uniform()).collect();
                let [lower, upper] = median_interval(&values).bounds.unwrap();
                lower <= 0.5 && 0.5 <= upper
            })
            .count();
        let share = inside as f64 / f64::from(rounds);
        assert!((0.945..0.985).contains(&share), "{share}");
    }

    #[test]
    fn a_disturbance_of_a_whole_cycle_cancels_in_the_ratio() {
        let quiet = ratios(&[110.0, 110.0], &[100.0, 100.0]);
        let disturbed = ratios(&[110.0, 330.0], &[100.0, 300.0]);
        assert_eq!(quiet, disturbed);
    }
}
