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
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use oneloop::driver::{Driver, Mio};
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const ROUNDS: usize = 200;
const WAITS_MICROS: [u64; 5] = [50, 300, 1_300, 5_300, 50_300];

/// An epoll instance with a timer in it.
struct Raw {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Raw {
    fn new() -> io::Result<Raw> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Raw { epoll, timer })
    }

    fn wait_by_timer(&mut self, wait: Duration) -> io::Result<()> {
        self.set_timer(Timespec {
            tv_sec: wait.as_secs() as _,
            tv_nsec: wait.subsec_nanos().into(),
        })?;
        let mut events = [NO_EVENT];
        epoll::wait(&self.epoll, &mut events, None)?;
        // Off, for the ways that come next; setting it takes back that it went off.
        self.set_timer(Timespec::default())
    }

    fn set_timer(&mut self, at: Timespec) -> io::Result<()> {
        let at = Itimerspec { it_interval: Timespec::default(), it_value: at };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &at)?;
        Ok(())
    }

    /// By hand: rustix takes it only when it is built for new kernels alone.
    fn wait_by_pwait2(&mut self, wait: Duration) -> io::Result<()> {
        let wait = libc::timespec {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let (epoll, no_mask) = (self.epoll.as_raw_fd(), ptr::null::<libc::sigset_t>());
        // SAFETY: what the pointers point to outlives the call, and there is room for one event.
        let result = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, &mut event, 1, &wait, no_mask, 0)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

const NO_EVENT: epoll::Event =
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };

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
