//! The queue of what the kernel did not take.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Pieces handed to one vectored write. The kernel takes up to 1024 (`IOV_MAX`, readv(2)); 64 pieces
/// are more than a socket takes at once unless they are tiny.
pub(crate) const SLICES_MAX: usize = 64;

/// An owned piece is appended to until it has this size; beyond it a new piece is started, so that
/// growing moves no more than this.
const PIECE_BYTES: usize = 16 * 1024;

/// Bytes on their way out, in order: a queue of pieces, each owned, shared, or a part of a file. Nothing is
/// moved when the kernel takes a part: an offset into the first piece remembers it.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// None of them is empty.
    pieces: VecDeque<Piece>,
    /// How much of the first piece has been sent; less than its length.
    sent: usize,
    /// Unsent bytes in all pieces.
    len: usize,
    /// Those of them that are in files.
    len_in_files: usize,
    /// How many of the pieces are parts of files.
    files: usize,
    /// Bytes that the pieces hold.
    memory: usize,
}

#[derive(Debug)]
enum Piece {
    Owned(Vec<u8>),
    Shared(Rc<[u8]>),
    File(Arc<File>, Range<u64>),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Owned(bytes) => bytes.len(),
            Piece::Shared(bytes) => bytes.len(),
            Piece::File(_, range) => (range.end - range.start) as usize,
        }
    }

    fn memory(&self) -> usize {
        size_of::<Piece>()
            + match self {
                Piece::Owned(bytes) => bytes.capacity(),
                Piece::Shared(bytes) => bytes.len(),
                Piece::File(..) => 0,
            }
    }
}

/// What is to be written first: slices, and behind them perhaps a part of a file.
pub(crate) struct Front<'a> {
    /// How many of the slices there are.
    pub(crate) filled: usize,
    /// ... and bytes in them.
    pub(crate) bytes: usize,
    pub(crate) file: Option<(&'a File, Range<u64>)>,
}

impl Output {
    /// Unsent bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Unsent bytes that are not in files.
    pub(crate) fn len_in_memory(&self) -> usize {
        self.len - self.len_in_files
    }

    pub(crate) fn is_one_piece(&self) -> bool {
        self.pieces.len() == 1
    }

    /// How many parts of files wait.
    pub(crate) fn files(&self) -> usize {
        self.files
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    pub(crate) fn append(&mut self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.len += data.len();
        if let Some(Piece::Owned(last)) = self.pieces.back_mut()
            && (last.len() + data.len() <= PIECE_BYTES
                || last.capacity() - last.len() >= data.len())
        {
            self.memory -= last.capacity();
            last.extend_from_slice(data);
            self.memory += last.capacity();
            return;
        }
        self.push(Piece::Owned(data.to_vec()));
    }

    /// Appends `bytes[sent..]` without copying it.
    pub(crate) fn push_owned(&mut self, mut bytes: Vec<u8>, sent: usize) {
        debug_assert!(sent < bytes.len());
        self.len += bytes.len() - sent;
        if self.pieces.is_empty() {
            self.sent = sent;
        } else {
            bytes.drain(..sent);
        }
        self.push(Piece::Owned(bytes));
    }

    pub(crate) fn push_shared(&mut self, bytes: Rc<[u8]>) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        self.push(Piece::Shared(bytes));
    }

    pub(crate) fn push_file(&mut self, file: Arc<File>, mut range: Range<u64>) {
        // No file is so long that it would have more; and lengths are added up.
        let room = (isize::MAX as usize).saturating_sub(self.len) as u64;
        range.end = range.end.min(range.start.saturating_add(room));
        if range.is_empty() {
            return;
        }
        let piece = Piece::File(file, range);
        self.len += piece.len();
        self.len_in_files += piece.len();
        self.files += 1;
        self.push(piece);
    }

    fn push(&mut self, piece: Piece) {
        self.memory += piece.memory();
        self.pieces.push_back(piece);
    }

    /// The first unsent pieces, of `bytes_max` together, for one write.
    pub(crate) fn front<'a>(&'a self, slices: &mut [IoSlice<'a>], bytes_max: usize) -> Front<'a> {
        let (mut filled, mut left) = (0, bytes_max);
        let mut file = None;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            let from = if filled == 0 { self.sent } else { 0 };
            let length = (piece.len() - from).min(left);
            if length == 0 {
                break;
            }
            let bytes: &[u8] = match piece {
                Piece::Owned(bytes) => bytes,
                Piece::Shared(bytes) => bytes,
                Piece::File(whole, range) => {
                    let start = range.start + from as u64;
                    file = Some((&**whole, start..start + length as u64));
                    break;
                }
            };
            *slot = IoSlice::new(&bytes[from..from + length]);
            left -= length;
            filled += 1;
        }
        Front { filled, bytes: bytes_max - left, file }
    }

    /// The kernel took `count` bytes.
    pub(crate) fn consume(&mut self, mut count: usize) {
        debug_assert!(count <= self.len);
        self.len -= count;
        while count > 0
            && let Some(first) = self.pieces.front()
        {
            let taken = count.min(first.len() - self.sent);
            count -= taken;
            self.sent += taken;
            let is_done = self.sent == first.len();
            if matches!(first, Piece::File(..)) {
                self.len_in_files -= taken;
                self.files -= usize::from(is_done);
            }
            if is_done {
                self.sent = 0;
                self.memory -= first.memory();
                self.pieces.pop_front();
            }
        }
        debug_assert!(self.len > 0 || (self.pieces.is_empty() && self.sent == 0));
        debug_assert!(self.len_in_files <= self.len);
    }

    /// Gives back what room a burst of small pieces made in an empty queue.
    pub(crate) fn shrink(&mut self) {
        debug_assert_eq!(self.len, 0);
        self.pieces.shrink_to(SLICES_MAX);
    }

    pub(crate) fn clear(&mut self) {
        *self = Output::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &Output, at_most: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let filled = output.front(&mut slices, at_most).filled;
        assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
        slices[..filled].iter().flat_map(|s| s.to_vec()).collect()
    }

    #[test]
    fn bytes_leave_in_the_order_they_came_however_they_are_cut() {
        for take in 1..40 {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for i in 0..200_u8 {
                match i % 3 {
                    0 => output.append(&[i; 7]),
                    1 => output.push_shared(Rc::from([i; 7])),
                    _ => output.push_owned(vec![i; 9], 2),
                }
                expected.extend([i; 7]);
            }
            assert_eq!(output.len(), expected.len());
            let mut received = Vec::new();
            while output.len() > 0 {
                let bytes = written(&output, take);
                output.consume(bytes.len());
                received.extend(bytes);
            }
            assert_eq!(received, expected);
            assert_eq!(output.memory(), 0);
        }
    }

    #[test]
    fn files_stand_behind_the_slices_before_them_and_are_counted_apart() {
        let file = Arc::new(File::open("/dev/null").expect("nothing of it is read here"));
        let mut output = Output::default();
        output.append(&[0; 100]);
        output.push_file(Arc::clone(&file), 1_000..3_000);
        output.push_file(Arc::clone(&file), 5..5);
        output.push_file(Arc::clone(&file), 7..8);
        output.append(&[0; 10]);
        assert_eq!((output.len(), output.len_in_memory(), output.files), (2_111, 110, 2));
        let fronts = [
            (50, 50, None),
            (100, 100, None),
            (150, 100, Some(1_000..1_050)),
            (9_000, 100, Some(1_000..3_000)),
        ];
        for (bytes_max, in_slices, in_file) in fronts {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let front = output.front(&mut slices, bytes_max);
            let in_front: usize = slices[..front.filled].iter().map(|slice| slice.len()).sum();
            assert_eq!((in_front, front.file.map(|(_, range)| range)), (in_slices, in_file));
        }
        output.consume(1_100);
        assert_eq!((output.len(), output.len_in_memory(), output.files), (1_011, 10, 2));
        let front = output.front(&mut [IoSlice::new(&[]); SLICES_MAX], 9_000);
        assert_eq!((front.filled, front.file.map(|(_, range)| range)), (0, Some(2_000..3_000)));
        output.consume(1_000);
        let front = output.front(&mut [IoSlice::new(&[]); SLICES_MAX], 9_000);
        assert_eq!((front.filled, front.file.map(|(_, range)| range)), (0, Some(7..8)));
        output.consume(11);
        assert_eq!((output.len(), output.files, output.memory()), (0, 0, 0));
    }

    #[test]
    fn files_without_an_end_are_not_longer_than_can_be_counted() {
        let file = Arc::new(File::open("/dev/null").expect("nothing of it is read here"));
        let mut output = Output::default();
        output.append(b"x");
        for _ in 0..3 {
            output.push_file(Arc::clone(&file), 0..u64::MAX);
            output.push_file(Arc::clone(&file), u64::MAX - 1..u64::MAX);
        }
        assert_eq!(output.len(), isize::MAX as usize);
        output.append(b"x");
        assert_eq!(output.len_in_memory(), 2);
    }

    #[test]
    fn small_sends_share_a_piece_and_large_ones_are_not_moved() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.append(b"0123456789");
        }
        assert_eq!(output.pieces.len(), 1);
        output.append(&[0; 100_000]);
        assert_eq!(output.pieces.len(), 2);
    }

    #[test]
    fn nothing_makes_no_piece() {
        let mut output = Output::default();
        output.append(&[]);
        output.push_shared(Rc::from([]));
        assert!(output.pieces.is_empty());
    }
}
