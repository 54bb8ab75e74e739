//! Against the kernel, in a network namespace of each test's own.

use std::future::Future;

use agent_api::agent::{self, SetNetworkRequest};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;
