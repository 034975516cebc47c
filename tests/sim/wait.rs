//! What turns of a simulated host are counted as: those that wait in the kernel, that spin, and that do neither.

use std::time::Duration;

use oneloop::Wait;
use oneloop::sim::Simulation;

use super::{SECOND, hello, served_echo};

const SPIN: Duration = Duration::from_micros(50);

#[test]
fn turns_that_spin_are_counted_until_the_reactor_sleeps() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.run_for(SECOND);
    assert_eq!(sim[echo.reactor].stats().spins, 0, "nobody has said that it is to");
    sim[echo.reactor].set_wait(Wait::Spin(SPIN));
    let client = sim.client(echo.address, hello());
    sim.run_for(SECOND);
    sim.assert_done(client);
    let stats = sim[echo.reactor].stats().clone();
    let micros = SPIN.as_micros() as u64;
    assert!(stats.spins >= micros - 5 && stats.spins <= stats.turns, "{stats:?}");
    sim.run_for(SECOND);
    assert_eq!(sim[echo.reactor].stats().spins, stats.spins, "it sleeps");
}

#[test]
fn a_turn_that_an_event_has_woken_is_not_a_busy_one() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().wait(SECOND).send("again").expect("again"));
    sim.run_for(SECOND / 2);
    let before = sim[echo.reactor].stats().clone();
    sim.run_for(SECOND);
    sim.assert_done(client);
    let after = sim[echo.reactor].stats();
    assert_eq!(after.turns, before.turns + 1);
    assert_eq!(after.busy_turns, before.busy_turns, "it waited");
}

#[test]
fn a_reactor_that_spins_for_long_is_no_endless_loop() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim[echo.reactor].set_wait(Wait::Spin(SECOND));
    let client = sim.client(echo.address, hello().wait(SECOND / 5).send("on").expect("on"));
    sim.run_until(|sim| sim.is_done(client));
}
