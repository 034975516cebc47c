//! The queue by one thread; by several: `tests/model`.

use super::queue::Queue;

#[test]
fn values_come_out_in_order_round_after_round() {
    for capacity in 1..4 {
        let queue = Queue::new(capacity);
        let mut head = 0;
        for round in 0..5_u64 {
            for number in 0..capacity as u64 {
                assert_eq!(queue.pop(head), None);
                queue.push((round, number)).unwrap();
                assert_eq!(queue.end(), head + 1);
                assert_eq!(queue.pop(head), Some((round, number)));
                head += 1;
            }
        }
    }
}

#[test]
fn a_full_queue_gives_the_value_back() {
    let queue = Queue::new(2);
    assert_eq!(queue.push('a'), Ok(0));
    assert_eq!(queue.push('b'), Ok(1));
    assert_eq!(queue.push('c'), Err('c'));
    assert_eq!(queue.pop(0), Some('a'));
    assert_eq!(queue.push('c'), Ok(2));
    assert_eq!(queue.push('d'), Err('d'));
    assert_eq!((queue.pop(1), queue.pop(2), queue.pop(3)), (Some('b'), Some('c'), None));
}

#[test]
fn only_what_is_still_there_is_taken_back() {
    let queue = Queue::new(1);
    queue.push('a').unwrap();
    assert_eq!(queue.pop(0), Some('a'));
    queue.push('b').unwrap();
    assert_eq!(queue.take_back(0), None, "it is another one's by now");
    assert_eq!(queue.take_back(1), Some('b'));
    assert_eq!(queue.take_back(1), None);
}
