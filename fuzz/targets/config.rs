#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bluegreen_cli::fuzzing::config(bytes));
