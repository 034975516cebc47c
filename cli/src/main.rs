//! The oneloop echo server and echo benchmark.

mod bench;

fn main() {}
