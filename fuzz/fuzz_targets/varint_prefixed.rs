//! Frames with a varint in front.
#![cfg_attr(fuzzing, no_main)]

#[path = "../../tests/properties/codec.rs"]
mod properties;

oneloop_fuzz::target!(properties::varint_prefixed);
