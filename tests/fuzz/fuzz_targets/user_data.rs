//! Parses any bytes as user-data and as vendor-data of either format.
#![no_main]

use appliance::nodespec::user_data;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(user_data::settings(data));
    drop(user_data::vendor_settings(data));
    drop(user_data::vendor2_settings(data));
});
