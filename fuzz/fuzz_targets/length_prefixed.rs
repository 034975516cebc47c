//! Frames with their length in front, of all widths and in all shapes.
#![cfg_attr(fuzzing, no_main)]

#[path = "../../tests/properties/codec.rs"]
mod properties;

oneloop_fuzz::target!(properties::length_prefixed);
