//! Behaviour, proven through the public face: over real HTTP and real stores. One test program, so that one link
//! serves all of them.

#![expect(unreachable_pub, reason = "the modules of one program")]

mod api;
mod artifacts;
mod bad_input;
mod delivery;
mod journeys;
mod support;
mod wire;
