//! Joining: the exchange over real TLS, and everything that can go wrong with it.

pub mod bed;
mod clocks;
mod faults;
mod load;
mod masters;
mod pace;
mod requests;
mod service;
pub mod shared;
mod slow;
mod tokens;
