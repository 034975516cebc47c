//! Long runs of the simulation, and how fast it is.

mod echo;
mod million;
mod speed;
#[path = "../../../tests/swarm/workloads.rs"]
mod workloads;

use std::cell::Cell;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use clap::{Parser, Subcommand};
use oneloop::sim::Check;

/// Runs the simulation's workloads under one seed after another, and says how fast.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// For how long: a number with s, m or h.
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = duration)]
    duration: Duration,
    /// The first seed.
    #[arg(long, default_value_t = 1_000_000)]
    base: u64,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Events a second, beside the same workload over loopback.
    Speed,
    /// A million connections to one reactor: opened, echoed and closed.
    Million {
        /// How many, if not a million.
        #[arg(long, default_value_t = 1_000_000, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
        connections: usize,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a number with s, m or h, such as 10m".into()),
    };
    let number: u64 = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Speed) => speed::compare(),
        Some(Command::Million { connections }) => million::run(connections),
        None => run_for(arguments.duration, arguments.base),
    }
    ExitCode::SUCCESS
}

/// A seed that fails ends the program, after saying how to run it again.
fn run_for(duration: Duration, base: u64) {
    let start = Instant::now();
    let mut seeds = 0;
    let simulated = Cell::new(Duration::ZERO);
    let events = Cell::new(0);
    while start.elapsed() < duration {
        for (name, faults, run) in workloads::ALL {
            let test = format!("the_loop_survives_{}", name.replace([' ', '-'], "_"));
            let check = Check::new(&test).seeds(1).base(base + seeds).faults(faults());
            check.run(|sim| {
                run(sim);
                simulated.set(simulated.get() + sim.now().since(oneloop::Time::default()));
                events.set(events.get() + sim.trace_len());
            });
        }
        seeds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let runs = seeds * workloads::ALL.len() as u64;
    println!("{runs} runs, from seed {base} on, {:.0} a second", runs as f64 / seconds);
    println!("{:.1} simulated hours", simulated.get().as_secs_f64() / 3600.0);
    println!("{} events, {:.0} a second", events.get(), events.get() as f64 / seconds);
}
