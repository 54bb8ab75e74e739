//! `bulkhead-file-server`: serves directories of the host to one sandbox's guest.

fn main() {}
