//! The example `http` under load and under slow attacks, by programs that others wrote for that.

mod example;
mod support;

#[path = "http/answer.rs"]
mod answer;
#[path = "http/site.rs"]
mod site;

#[path = "http/load.rs"]
mod load;
#[path = "http/slow.rs"]
mod slow;
