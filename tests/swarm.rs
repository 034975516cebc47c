//! The loop under thousands of seeds: mixed workloads, every fault, both kernels.

#[path = "swarm/workloads.rs"]
mod workloads;

use oneloop::sim::Check;

/// Seeds of each workload: a debug build, which walks over everything after every turn, takes a tenth.
const SEEDS: u64 = if cfg!(debug_assertions) { 30 } else { 300 };

fn check(name: &'static str) {
    let find = |all: &&workloads::Workload| name.ends_with(&all.0.replace([' ', '-'], "_"));
    let (_, faults, run) = workloads::ALL.iter().find(find).expect("a workload of that name");
    Check::new(name).seeds(SEEDS).faults(faults()).run(run);
}

macro_rules! swarm {
    ($($name:ident,)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn every_workload_is_run() {
            assert_eq!([$(stringify!($name)),*].len(), workloads::ALL.len());
        }
    };
}

swarm! {
    the_loop_survives_echo,
    the_loop_survives_echo_without_loss,
    the_loop_survives_requests,
    the_loop_survives_requests_without_loss,
    the_loop_survives_chat,
    the_loop_survives_proxy,
    the_loop_survives_proxy_without_loss,
    the_loop_survives_forwarding,
    the_loop_survives_forwarding_without_loss,
    the_loop_survives_netcat,
    the_loop_survives_netcat_without_loss,
    the_loop_survives_slow_readers,
    the_loop_survives_frames,
    the_loop_survives_frames_without_loss,
    the_loop_survives_descriptors_run_out,
    the_loop_survives_half_closed,
    the_loop_survives_orders,
    the_loop_survives_memory,
    the_loop_survives_clocks,
    the_loop_survives_clocks_that_jump,
    the_loop_survives_deadlines,
    the_loop_survives_deadlines_missed_by_the_clock,
    the_loop_survives_full_house,
    the_loop_survives_told,
    the_loop_survives_callers,
    the_loop_survives_races,
    the_loop_survives_names,
    the_loop_survives_drains,
    the_loop_survives_mail,
    the_loop_survives_slow_callbacks,
    the_loop_survives_datagrams,
    the_loop_survives_datagrams_by_name,
    the_loop_survives_unix_sockets,
}
