//! The MP table (MultiProcessor Specification 1.4): how the kernel learns of its CPUs, their local APICs and
//! the I/O APIC where there is no ACPI.
//!
//! Every device signals by MSI-X but one: the serial port's line is the only interrupt the table routes.

use super::layout;

/// The most CPUs: APIC ids are one byte, one more is the I/O APIC's, and 255 means all.
pub const MAX_CPUS: u8 = 254;

/// The I/O APIC's input of the serial port, the same as its ISA interrupt.
pub const SERIAL_INTERRUPT: u8 = 4;

const FLOATING_POINTER_BYTES: usize = 16;
const SPECIFICATION_1_4: u8 = 4;
const APIC_VERSION: u8 = 0x14;
const ISA_BUS: u8 = 0;
const PCI_BUS: u8 = 1;

/// The floating pointer and the table behind it, to be written at [`layout::MP_TABLE`].
pub fn build(cpus: u8) -> Vec<u8> {
    let entries = entries(cpus);
    let table = configuration_table(&entries);
    let mut bytes = floating_pointer();
    bytes.extend(table);
    bytes
}

/// §4.1.
fn floating_pointer() -> Vec<u8> {
    #[allow(clippy::cast_possible_truncation)] // A constant below 1 MiB.
    let table = (layout::MP_TABLE + FLOATING_POINTER_BYTES as u64) as u32;
    let mut bytes = Vec::with_capacity(FLOATING_POINTER_BYTES);
    bytes.extend(b"_MP_");
    bytes.extend(table.to_le_bytes());
    bytes.extend([1, SPECIFICATION_1_4, 0]);
    bytes.resize(FLOATING_POINTER_BYTES, 0);
    seal(&mut bytes, 10);
    bytes
}

/// §4.2.
fn configuration_table(entries: &[Vec<u8>]) -> Vec<u8> {
    const HEADER_BYTES: usize = 44;
    #[allow(clippy::cast_possible_truncation)] // At most 254 CPUs of 20 bytes and a few entries more.
    let (length, count) =
        ((HEADER_BYTES + entries.iter().map(Vec::len).sum::<usize>()) as u16, entries.len() as u16);
    let mut bytes = Vec::with_capacity(usize::from(length));
    bytes.extend(b"PCMP");
    bytes.extend(length.to_le_bytes());
    bytes.extend([SPECIFICATION_1_4, 0]);
    bytes.extend(b"BULKHEADMICROVM     ");
    bytes.extend([0; 6]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(address(layout::LOCAL_APIC));
    bytes.extend([0; 4]);
    bytes.extend(entries.iter().flatten());
    seal(&mut bytes, 7);
    bytes
}

/// §4.3, in the order it asks for.
fn entries(cpus: u8) -> Vec<Vec<u8>> {
    let io_apic = cpus;
    let mut entries: Vec<_> = (0..cpus).map(processor).collect();
    entries.push(bus(ISA_BUS, b"ISA   "));
    entries.push(bus(PCI_BUS, b"PCI   "));
    entries.push(io_apic_entry(io_apic));
    entries.push(isa_interrupt(SERIAL_INTERRUPT, io_apic));
    entries
}

fn processor(id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const BOOT: u8 = 2;
    let flags = if id == 0 { ENABLED | BOOT } else { ENABLED };
    let mut entry = vec![0, id, APIC_VERSION, flags];
    // Signature and feature flags: the kernel asks CPUID instead.
    entry.resize(20, 0);
    entry
}

fn bus(id: u8, name: &[u8; 6]) -> Vec<u8> {
    let mut entry = vec![1, id];
    entry.extend(name);
    entry
}

fn io_apic_entry(id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    let mut entry = vec![2, id, APIC_VERSION, ENABLED];
    entry.extend(address(layout::IO_APIC));
    entry
}

/// A vectored interrupt with the ISA bus's polarity and trigger mode.
fn isa_interrupt(line: u8, io_apic: u8) -> Vec<u8> {
    vec![3, 0, 0, 0, ISA_BUS, line, io_apic, line]
}

fn address(of: u64) -> [u8; 4] {
    #[allow(clippy::cast_possible_truncation)] // Both APICs lie below 4 GiB.
    (of as u32).to_le_bytes()
}

/// Sets the byte at `checksum` such that all bytes add up to zero.
fn seal(bytes: &mut [u8], checksum: usize) {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(checksum) {
        *byte = byte.wrapping_sub(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    proptest! {
        #[test]
        fn the_kernel_finds_a_sound_table_with_every_cpu(cpus in 1..=MAX_CPUS) {
            let bytes = build(cpus);
            let (pointer, table) = bytes.split_at(FLOATING_POINTER_BYTES);
            prop_assert_eq!(&pointer[..4], b"_MP_");
            prop_assert_eq!(sum(pointer), 0);
            let base = u32::from_le_bytes(pointer[4..8].try_into().unwrap());
            prop_assert_eq!(u64::from(base), layout::MP_TABLE + 16);

            prop_assert_eq!(&table[..4], b"PCMP");
            prop_assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            prop_assert_eq!(sum(table), 0);

            let mut rest = &table[44..];
            let mut ids = Vec::new();
            let mut count = 0u16;
            while let Some(kind) = rest.first() {
                if *kind == 0 {
                    ids.push(rest[1]);
                }
                rest = &rest[if *kind == 0 { 20 } else { 8 }..];
                count += 1;
            }
            prop_assert_eq!(u16::from_le_bytes([table[34], table[35]]), count);
            prop_assert_eq!(ids, (0..cpus).collect::<Vec<_>>());
            prop_assert!(layout::MP_TABLE + bytes.len() as u64 <= layout::LEGACY_HOLE.end);
        }
    }
}
