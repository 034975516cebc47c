//! What the load sends, and expects back.

/// A prime, so that no usual size of message divides it: a message that is lost, repeated or swapped
/// with another one shows, unless it is the 65,521st after it.
const PERIOD: u64 = 65_521;

/// How many bytes can be had from any position in one piece.
const PIECE: usize = 64 * 1024;

/// The endless stream of bytes that all connections send, each from a place of its own. So what a
/// byte must be follows from the connection and its number in it alone, and a whole read is checked
/// by one comparison.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Box<[u8]>,
}

impl Pattern {
    pub(crate) fn new() -> Pattern {
        let mut state = 0x6f6e_656c_6f6f_7021;
        let period: Vec<u8> = (0..PERIOD).map(|_| next_random(&mut state) as u8).collect();
        Pattern { bytes: period.iter().copied().cycle().take(period.len() + PIECE).collect() }
    }

    /// The position at which a connection begins; no two of the first 65,521 share one.
    pub(crate) fn start(connection: usize) -> u64 {
        (connection as u64 * 40_503) % PERIOD
    }

    /// The bytes from a position on, as many as there are in one piece: at least 64 KiB.
    #[inline]
    pub(crate) fn from(&self, position: u64) -> &[u8] {
        &self.bytes[(position % PERIOD) as usize..]
    }

    /// The index of the first byte of `data` that is not what must stand at `position` and after it.
    #[inline]
    pub(crate) fn mismatch(&self, position: u64, data: &[u8]) -> Option<usize> {
        let mut checked = 0;
        while checked < data.len() {
            let expected = self.from(position + checked as u64);
            let length = expected.len().min(data.len() - checked);
            let piece = &data[checked..checked + length];
            if piece != &expected[..length] {
                let offset = piece.iter().zip(expected).position(|(a, b)| a != b);
                return offset.map(|offset| checked + offset);
            }
            checked += length;
        }
        None
    }
}

/// splitmix64.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_goes_on_over_the_end_of_its_period() {
        let pattern = Pattern::new();
        let mut data = Vec::new();
        while data.len() < 200_000 {
            data.extend_from_slice(&pattern.from(data.len() as u64)[..100]);
        }
        assert_eq!(pattern.mismatch(0, &data), None);
        data[150_001] ^= 1;
        assert_eq!(pattern.mismatch(0, &data), Some(150_001));
        assert!(pattern.from(PERIOD - 1).len() >= PIECE);
    }

    #[test]
    fn messages_of_other_connections_and_other_numbers_differ() {
        let pattern = Pattern::new();
        for connection in 1..10_000 {
            assert!(pattern.mismatch(0, &pattern.from(Pattern::start(connection))[..8]).is_some());
        }
        for message in 1..1000 {
            assert!(pattern.mismatch(0, &pattern.from(message * 64)[..64]).is_some());
        }
    }
}
