//! What the processors did, and what the host of a virtual machine took of them.

/// What all processors did since the machine was started, in ticks (proc_stat(5)).
pub struct Ticks {
    all: u64,
    /// The host of a virtual machine ran something else.
    stolen: u64,
}

impl Ticks {
    pub fn now() -> Ticks {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().next().expect("of all processors");
        let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
        Ticks { all: ticks[..8].iter().sum(), stolen: ticks[7] }
    }

    /// Whether more than a tenth of the time since then was stolen, and so times say nothing. Tells who runs the test.
    pub fn was_much_stolen_since(&self) -> bool {
        let now = Ticks::now();
        let (stolen, all) = (now.stolen - self.stolen, now.all - self.all);
        let much = stolen * 10 > all;
        if much {
            println!(
                "no time is judged: the host of this machine took {stolen} of {all} ticks away"
            );
        }
        much
    }
}
