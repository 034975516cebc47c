//! The example `http` and clients that others wrote: curl(1), and varnishtest(1) with scripts of our own.

mod example;
mod support;

#[path = "http/answer.rs"]
mod answer;
#[path = "http/site.rs"]
mod site;

#[path = "http/conditions.rs"]
mod conditions;
#[cfg(target_os = "linux")]
#[path = "http/descriptors.rs"]
mod descriptors;
#[path = "http/files.rs"]
mod files;
#[path = "http/requests.rs"]
mod requests;
#[path = "http/scripts.rs"]
mod scripts;
