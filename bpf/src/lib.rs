//! What it takes to have the kernel run a BPF program of a few instructions (bpf(2)): the instructions, and the two places
//! where programs are attached. What one may do, the kernel's verifier sees to.

mod call;
pub mod cgroup_devices;
pub mod instruction;
mod program;
pub mod socket_lookup;
