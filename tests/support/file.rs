//! Files with bytes to send.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with these bytes, which goes when it is closed.
pub fn file_of(bytes: &[u8]) -> Arc<File> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    // Beside the build, which is on a disk more often than what is temporary.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("oneloop-send-file-{}-{number}", process::id()));
    let mut file =
        File::options().read(true).write(true).create_new(true).open(&path).expect("a new file");
    fs::remove_file(&path).unwrap();
    file.write_all(bytes).unwrap();
    Arc::new(file)
}
