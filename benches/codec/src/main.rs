//! What a frame costs that comes byte by byte: with each byte the decoder is shown all that is there of it.
//!
//! A decoder that looked at all of it again would need a time that grows with the square of the length; the column of
//! the longest frame tells. Compare the columns of one run: the nanoseconds are the machine's.
//!
//! ```sh
//! cargo run --release -p oneloop-codec
//! ```

use std::hint::black_box;
use std::time::Instant;

use oneloop::codec::{
    Decoder, Delimited, Encoder, LengthPrefixed, LengthWidth, Lines, VarintPrefixed,
};

const LENGTHS: [usize; 3] = [1 << 12, 1 << 16, 1 << 20];
const ROUNDS: usize = 5;

fn main() {
    let bytes_max = LENGTHS[2];
    println!("nanoseconds a byte; the least of {ROUNDS} rounds\n");
    println!(
        "| one frame of | {} |",
        LENGTHS.map(|length| format!("{} KiB by bytes", length >> 10)).join(" | ")
    );
    println!("|---|{}", "---|".repeat(LENGTHS.len()));
    measure("a line", || Lines::new(bytes_max));
    measure("a line, CR refused", || Lines::new(bytes_max).refuse_lone_cr());
    measure("with a delimiter of 4 bytes", || Delimited::new(b"\r\n\r\n", bytes_max));
    measure("with its length, 4 bytes", || LengthPrefixed::new(LengthWidth::U32, bytes_max));
    measure("with its length, a varint", || VarintPrefixed::new(bytes_max));
}

fn measure<C: Decoder + Encoder>(name: &str, codec: impl Fn() -> C) {
    let figures = LENGTHS.map(|length| {
        let mut stream = Vec::new();
        codec().encode(&vec![b'x'; length], &mut stream).expect("it is a frame");
        let rounds = (0..ROUNDS).map(|_| by_bytes(codec(), &stream));
        format!("{:.1}", rounds.fold(f64::INFINITY, f64::min))
    });
    println!("| {name} | {} |", figures.join(" | "));
}

/// Nanoseconds a byte.
fn by_bytes(mut decoder: impl Decoder, stream: &[u8]) -> f64 {
    let start = Instant::now();
    for end in 1..stream.len() {
        let result = decoder.decode(black_box(&stream[..end]));
        assert!(result.is_ok_and(|frame| frame.is_none()), "it is not whole yet");
    }
    let result = decoder.decode(stream);
    assert!(matches!(result, Ok(Some((_, taken))) if taken == stream.len()));
    start.elapsed().as_nanos() as f64 / stream.len() as f64
}
