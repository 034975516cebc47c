//! Services, which are no files: the loop's own figures, and an echo.

use std::time::Duration;

use serde_json::json;

use super::body::{Body, content};
use super::request::{Method, Request};
use super::response::{Refused, Response};

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    File,
    Stats,
    Echo,
    /// Which methods there are: these.
    Allow(&'static str),
}

/// What a request asks for; refused if that is nothing, or not to be had with this method.
pub(super) fn route(request: &Request<'_>) -> Result<Route, Refused> {
    let (route, methods) = match &*request.path {
        "*" => (Route::File, "GET, HEAD, POST, OPTIONS"), // which only OPTIONS has
        "/api/echo" => (Route::Echo, "POST, OPTIONS"),
        "/api/stats" => (Route::Stats, "GET, HEAD, OPTIONS"),
        path if path.starts_with("/api/") => return Err(Refused::new(404, "no such service")),
        _ => (Route::File, "GET, HEAD, OPTIONS"),
    };
    match (request.method, route) {
        (Method::Unknown, _) => Err(Refused::new(501, "no such method")),
        (Method::Options, _) => Ok(Route::Allow(methods)),
        (Method::Get | Method::Head, Route::File | Route::Stats) => Ok(route),
        (Method::Post, Route::Echo) => Ok(route),
        _ => Err(Refused::method(methods)),
    }
}

/// Sends what the loop did so far, as JSON.
pub(super) fn send_stats(response: &mut Response<'_, '_>) {
    let stats = response.conn.stats();
    let micros = |duration: Duration| duration.as_micros() as u64;
    let figures = json!({
        "connections": stats.connections,
        "accepts": stats.accepts,
        "closes": stats.closes_total(),
        "turns": stats.turns,
        "events": stats.events,
        "reads": stats.reads,
        "writes": stats.writes,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "memory_bytes": stats.memory_bytes,
        "turn_micros_p99": micros(stats.turn_time.quantile(0.99)),
        "timer_lag_micros_p99": micros(stats.timer_lag.quantile(0.99)),
    });
    response.begin(200).field("Cache-Control", "no-store");
    response.send_chunked("application/json", format!("{figures:#}\n").as_bytes());
}

/// Sends the content back, in chunks if it came in some.
pub(super) fn send_echo(response: &mut Response<'_, '_>, sent: &[u8]) {
    const TYPE: &str = "application/octet-stream";
    // It is what somebody sent: no browser is to take it for a page.
    response.begin(200).field("X-Content-Type-Options", "nosniff");
    match response.request.body {
        Some(Body::Chunked(_)) => response.send_chunked(TYPE, &content(sent)),
        _ => response.send_with(TYPE, sent),
    }
}
