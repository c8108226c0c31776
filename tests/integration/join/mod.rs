//! Joining: the exchange over real TLS, and everything that can go wrong with it.

mod authorities;
pub mod bed;
mod clocks;
mod faults;
mod follow;
mod load;
mod masters;
mod names;
mod pace;
mod renewal;
mod requests;
mod service;
pub mod shared;
mod slow;
mod tokens;
