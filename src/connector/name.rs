//! Connecting to a name: the look-up before the first address.

use std::sync::{Arc, Weak};

use log::debug;

use super::attempt::Stage;
use crate::address::Endpoint;
use crate::driver::Driver;
use crate::error::ConnectError;
use crate::key::Key;
use crate::names::Outcome;
use crate::reactor::Reactor;

impl<D: Driver> Reactor<D> {
    /// Has the name looked up that it is to be connected to.
    pub(super) fn ask_for(&mut self, key: Key, endpoint: Arc<Endpoint>) {
        debug!("{key}: looking up {endpoint}");
        match self.begin_look_up(key, endpoint) {
            Ok(look_up) => {
                if let Some(attempt) = self.core.attempt_mut(key) {
                    attempt.stage = Stage::LooksUp(look_up);
                }
            }
            Err(error) => self.fail_try(key, error),
        }
    }

    /// The flush phase's part: what a name stands for.
    pub(crate) fn finish_look_up(&mut self, key: Key, look_up: &Weak<()>, outcome: Outcome) {
        if let Outcome::Panicked = outcome {
            self.core.stats.job_panics += 1;
        }
        let Some(attempt) = self.core.attempt_mut(key) else { return };
        let Stage::LooksUp(own) = &attempt.stage else {
            return; // an earlier try's, which did not wait for it
        };
        let is_own = look_up.ptr_eq(&Arc::downgrade(own));
        match outcome {
            Outcome::Found(addresses) => {
                debug!("{key}: {} is {addresses:?}", attempt.to);
                self.connect_to_any(key, &addresses);
            }
            // What an earlier try's found is as good as what this one's will; that it failed says nothing of this one's.
            _ if !is_own => {}
            Outcome::NotFound => self.fail_try(key, ConnectError::NameNotFound),
            Outcome::Failed | Outcome::Panicked => self.fail_try(key, ConnectError::NameLookup),
        }
    }
}
