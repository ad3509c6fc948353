#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wscluster_fuzz_entry::request_head(data));
