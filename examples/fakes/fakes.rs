//! Small carriers on the loopback interface, for trials and for tests.
//!
//! Each is a program (`examples/fake-twilio.rs` and its like) and a module of the tests. What they have in common,
//! the server and what goes wrong, is in [`carrier`].

pub mod carrier;
pub mod telepath;
pub mod twilio;
pub mod vobiz;
