//! What the targets have in common: `main`.
//!
//! Built as `fuzz/run` does, with `--cfg fuzzing`, it is libFuzzer's, which makes inputs from what they reach in the code.
//! Built as ever, it takes files and tries each: what a fuzzer has found is looked at so, with a debugger or without.

#[cfg(fuzzing)]
pub use libfuzzer_sys;

/// `target!(function)`: a program that calls the function with bytes, in which it must not panic.
#[cfg(fuzzing)]
#[macro_export]
macro_rules! target {
    ($holds:path) => {
        use $crate::libfuzzer_sys;
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| $holds(bytes));
    };
}

/// `target!(function)`: a program that calls the function with the bytes of each file that it is given.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! target {
    ($holds:path) => {
        fn main() -> std::io::Result<()> {
            for path in std::env::args_os().skip(1) {
                println!("{}", path.display());
                $holds(&std::fs::read(&path)?);
            }
            Ok(())
        }
    };
}
