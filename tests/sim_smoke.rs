//! x
use oneloop::sim::{Faults, Kernel, Network};
use oneloop::{Connection, Error, Reactor, ReactorLimits, StreamHandler};
use std::io::{Read, Write};
use std::time::Duration;
struct Echo;
impl StreamHandler for Echo {
    type Session = ();
    fn on_open(&mut self, _: &mut Connection<'_>) {}
    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(data).ignore();
        Ok(data.len())
    }
}
#[test]
fn smoke() {
    for seed in 0..200 {
        for kernel in [Kernel::Linux, Kernel::Contract] {
            let network = Network::new(seed, kernel);
            let mut reactor = Reactor::with_driver(
                network.driver(Faults::lossless()),
                ReactorLimits::new().connections_max(16),
            )
            .unwrap();
            let echo = reactor.add(Echo);
            let listener = reactor.listen(echo, "10.0.0.1:0").unwrap();
            let address = reactor.listener_address(listener).unwrap();
            let host = network.host(Faults::lossless());
            let mut client = host.connect(address).unwrap();
            let sent: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
            let mut to_send = &sent[..];
            let mut got: Vec<u8> = Vec::new();
            let mut buf = [0; 5000];
            let mut turns = 0;
            while got.len() < sent.len() {
                if let Ok(n) = client.write(to_send) {
                    to_send = &to_send[n..];
                }
                while let Ok(n) = client.read(&mut buf) {
                    assert!(n > 0);
                    got.extend(&buf[..n]);
                }
                reactor.turn(Some(Duration::from_millis(100))).unwrap();
                turns += 1;
                assert!(turns < 100_000, "{} of {}", got.len(), sent.len());
            }
            assert!(got == sent, "seed {seed}");
            drop(client);
            for _ in 0..100 {
                reactor.turn(Some(Duration::from_millis(100))).unwrap();
            }
            assert_eq!(reactor.connections(), 0, "{seed} {kernel:?} {:?}", reactor.stats());
        }
    }
}
