//! What the loop does about signals.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use log::info;

use crate::context::Context;
use crate::driver::Driver;
use crate::reactor::Reactor;
use crate::signal::{Signal, Signals};

/// What is to be done about which signals.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Handlers are told.
    told: Signals,
    /// The reactor drains, within this time.
    drain_within: Option<Duration>,
    /// Which handlers are still to be told of what.
    untold: VecDeque<(Signal, u16)>,
}

impl<D: Driver> Reactor<D> {
    /// From now on SIGINT and SIGTERM end the reactor: the first one [drains](Self::drain) it, a second
    /// one, or one during a drain that began otherwise, stops it. Signals that come together count as
    /// one. They stay caught when the reactor is gone, so what comes after it should not take long.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use oneloop::Reactor;
    /// let mut reactor = Reactor::new()?;
    /// reactor.drain_on_signals(Duration::from_secs(10))?;
    /// let report = reactor.run()?;
    /// println!("{report}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`watch_signals`](Self::watch_signals).
    pub fn drain_on_signals(&mut self, timeout: Duration) -> io::Result<()> {
        self.sockets.driver.watch_signals(&[Signal::Interrupt, Signal::Terminate])?;
        self.watch.drain_within = Some(timeout);
        Ok(())
    }

    /// From now on [`on_signal`](crate::StreamHandler::on_signal) of every handler is called for these
    /// signals. Nothing else is done about them, unless
    /// [`drain_on_signals`](Self::drain_on_signals) says so.
    ///
    /// # Errors
    ///
    /// `Unsupported` on real sockets without the feature `signals`, and on Windows; those of sigaction(2), and of making
    /// the socket pair through which a signal wakes the loop.
    ///
    /// # Cost
    ///
    /// Two descriptors, and one for each signal. Without a call of this nothing is installed, and without
    /// a signal it costs nothing.
    ///
    /// # Platform notes
    ///
    /// Signals belong to the whole process: each reactor that watches one is told of it. They stay caught
    /// for the rest of the process, also when the reactor is gone. Several of a kind that come before the
    /// loop looks are one (signal(7)).
    pub fn watch_signals(&mut self, signals: &[Signal]) -> io::Result<()> {
        self.sockets.driver.watch_signals(signals)?;
        for signal in signals {
            self.watch.told.insert(*signal);
        }
        Ok(())
    }

    /// The events phase's part: signals have come.
    #[cold]
    #[inline(never)]
    pub(super) fn take_signals(&mut self) {
        self.core.is_signalled = false;
        let mut taken = Signals::default();
        self.sockets.driver.take_signals(&mut |signal| taken.insert(signal));
        // Before handlers are told, one of which may panic.
        let is_end = taken.contains(Signal::Interrupt) || taken.contains(Signal::Terminate);
        if let Some(timeout) = self.watch.drain_within
            && is_end
        {
            if self.core.drain.is_some() {
                info!("a signal in a drain: stopping");
                self.core.stopping = true;
            } else {
                info!("a signal: draining");
                self.core.drain(timeout);
            }
        }
        for signal in taken.iter().filter(|signal| self.watch.told.contains(*signal)) {
            info!("{signal}: told to the handlers");
            for handler in 0..self.handlers.len() as u16 {
                // Who was not told of the one before is told of both at once.
                if !self.watch.untold.contains(&(signal, handler)) {
                    self.watch.untold.push_back((signal, handler));
                }
            }
        }
        // Off the list before its callback, which may panic: the next turn goes on with what is left.
        while let Some((signal, handler)) = self.watch.untold.pop_front() {
            self.core.is_signalled = !self.watch.untold.is_empty();
            let mut cx = Context { core: &mut self.core, host: &self.sockets, handler };
            self.handlers[usize::from(handler)].signal(signal, &mut cx);
        }
    }
}
