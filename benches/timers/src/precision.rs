//! How late a wait ends, in the ways that there are on Linux to wait for less than a millisecond.
//!
//! - *whole ms*: epoll_wait(2), rounded up to milliseconds.
//! - *ppoll*: what oneloop does for a timer: epoll_wait for the whole milliseconds, ppoll(2) on the epoll
//!   descriptor for the rest.
//! - *timerfd*: timerfd_settime(2), then epoll_wait without a time-out.
//! - *pwait2*: epoll_pwait2(2), of Linux 5.11.
//!
//! All wait in turns within one run. How late they are is the machine's matter; compare the columns of
//! one run.
//!
//! ```sh
//! cargo run --release -p oneloop-timers --bin precision
//! ```

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use oneloop::driver::{Driver, Mio};

const ROUNDS: usize = 200;
const WAITS_MICROS: [u64; 5] = [50, 300, 1_300, 5_300, 50_300];

fn checked(result: libc::c_long) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let descriptor = checked(result.into())?;
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// An epoll instance with a timer in it.
struct Raw {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Raw {
    fn new() -> io::Result<Raw> {
        // SAFETY: no pointers are passed.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: no pointers are passed.
        let timer =
            owned(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC) })?;
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (on, of) = (epoll.as_raw_fd(), timer.as_raw_fd());
        // SAFETY: the event outlives the call.
        checked(unsafe { libc::epoll_ctl(on, libc::EPOLL_CTL_ADD, of, &mut event) }.into())?;
        Ok(Raw { epoll, timer })
    }

    fn wait_by_timer(&mut self, wait: Duration) -> io::Result<()> {
        let never = timespec(Duration::ZERO);
        let at = libc::itimerspec { it_interval: never, it_value: timespec(wait) };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: what the pointers point to outlives the calls, and there is room for one event.
        unsafe {
            let timer = self.timer.as_raw_fd();
            checked(libc::timerfd_settime(timer, 0, &at, ptr::null_mut()).into())?;
            checked(libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1).into())?;
            // Off, for the ways that come next; setting it takes back that it went off.
            let off = libc::itimerspec { it_interval: never, it_value: never };
            checked(libc::timerfd_settime(timer, 0, &off, ptr::null_mut()).into())?;
        }
        Ok(())
    }

    fn wait_by_pwait2(&mut self, wait: Duration) -> io::Result<()> {
        let wait = timespec(wait);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let (epoll, no_mask) = (self.epoll.as_raw_fd(), ptr::null::<libc::sigset_t>());
        // SAFETY: what the pointers point to outlives the call, and there is room for one event.
        checked(unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, &mut event, 1, &wait, no_mask, 0)
        })?;
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let mut driver = Mio::new()?;
    driver.set_events_max(16);
    let mut raw = Raw::new()?;
    println!("Microseconds by which a wait ends late: median and 99th percentile of {ROUNDS}.\n");
    let ways = ["whole ms", "ppoll", "timerfd", "pwait2"];
    println!("{:>8} {:>16} {:>16} {:>16} {:>16}", "wait", ways[0], ways[1], ways[2], ways[3]);
    for micros in WAITS_MICROS {
        let wait = Duration::from_micros(micros);
        let mut late: [Vec<f64>; 4] = Default::default();
        for _ in 0..ROUNDS {
            for (way, late) in late.iter_mut().enumerate() {
                let start = Instant::now();
                match way {
                    0 => driver.poll(Some(wait))?,
                    1 => {
                        let now = driver.now();
                        driver.poll_until(now, now + wait)?;
                    }
                    2 => raw.wait_by_timer(wait)?,
                    _ => raw.wait_by_pwait2(wait)?,
                }
                late.push((start.elapsed().as_secs_f64() - wait.as_secs_f64()) * 1e6);
            }
        }
        print!("{micros:>8}");
        for late in &mut late {
            late.sort_by(f64::total_cmp);
            assert!(late[0] >= 0.0, "a wait ended early");
            print!(" {:>7.0} {:>8.0}", late[ROUNDS / 2], late[ROUNDS * 99 / 100]);
        }
        println!();
    }
    Ok(())
}
