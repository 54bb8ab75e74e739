//! An empty ext4 file system, for a container's writable disk.
//!
//! What makes it quick to write (some 30 KB for any size) and quick to use: no copies of the superblock, and
//! block groups that say in their descriptors that their bitmaps are still to be made (`uninit_bg`). Every
//! group keeps its own bitmaps and inodes. Only a disk that outlives its VM has a journal. Offsets and names
//! are those of Documentation/filesystems/ext4 in Linux, the journal's those of its journal.rst.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: usize = 4096;
const BLOCKS_PER_GROUP: u32 = 8 * BLOCK as u32;

/// One inode for 16 KiB, as mke2fs has it.
const INODES_PER_GROUP: u32 = 8192;
const INODE: usize = 256;
const INODE_TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE as u32 / BLOCK as u32;

const DESCRIPTOR: usize = 32;

/// Bounds of a journal's size, in bytes. It is written round and round: in time, all of it has blocks.
const MIN_JOURNAL: u64 = 16 << 20;
const MAX_JOURNAL: u64 = 64 << 20;

const ROOT: u32 = 2;
const JOURNAL_INODE: u32 = 8;
/// The first inode that is not reserved; by custom, `lost+found`.
const LOST_AND_FOUND: u32 = 11;

/// The file system is made of whole block groups.
pub(crate) const GROUP_SIZE: u64 = BLOCKS_PER_GROUP as u64 * BLOCK as u64;

/// The largest, in bytes. What is written ahead grows with the size; this keeps it within a megabyte.
pub(crate) const MAX_SIZE: u64 = 1 << 40;

/// Whether a VM that is killed leaves a file system that the next one can mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Journal {
    /// It does: what was being written is completed from the journal, or was never begun.
    Kept,
    /// Nobody will mount it again.
    None,
}

/// Where things lie. Group 0 starts with the superblock and the group descriptors; what follows, every
/// group has: two bitmaps and the inode table. In group 0, the two directories come after them, then the
/// journal, which is never as large as a group.
#[derive(Clone, Copy)]
struct Layout {
    groups: u32,
    descriptor_blocks: u32,
    journal_blocks: u32,
}

/// What tells one file system from another.
struct Identity {
    uuid: [u8; 16],
    hash_seed: [u8; 16],
}

/// Makes `file`, which must be empty, a file system of `size` bytes rounded up to whole groups, but no
/// more than [`MAX_SIZE`].
pub(crate) fn format(file: &File, size: u64, journal: Journal) -> io::Result<()> {
    let layout = Layout::of(size.min(MAX_SIZE), journal);
    let identity = Identity::random()?;
    file.set_len(u64::from(layout.groups) * GROUP_SIZE)?;
    let put = |block: u32, bytes: &[u8]| file.write_all_at(bytes, u64::from(block) * BLOCK as u64);
    put(0, &superblock(layout, &identity))?;
    put(1, &descriptors(layout, &identity))?;
    for group in [0, layout.last_group()] {
        put(layout.block_bitmap(group), &bitmap(layout.used_blocks(group), BLOCKS_PER_GROUP))?;
    }
    put(layout.inode_bitmap(0), &bitmap(LOST_AND_FOUND, INODES_PER_GROUP))?;
    put(layout.inode_table(0), &inodes(layout))?;
    if journal == Journal::Kept {
        put(layout.journal_block(), &journal_superblock(layout, &identity))?;
    }
    put(layout.root_block(), &directory(&[(ROOT, "."), (ROOT, ".."), (LOST_AND_FOUND, "lost+found")]))?;
    put(layout.lost_and_found_block(), &directory(&[(LOST_AND_FOUND, "."), (ROOT, "..")]))
}

impl Layout {
    fn of(size: u64, journal: Journal) -> Self {
        // At most MAX_SIZE / GROUP_SIZE.
        let groups = size.div_ceil(GROUP_SIZE).max(1) as u32;
        let journal_bytes = match journal {
            Journal::Kept => (size / 256).clamp(MIN_JOURNAL, MAX_JOURNAL),
            Journal::None => 0,
        };
        Self {
            groups,
            descriptor_blocks: groups.div_ceil((BLOCK / DESCRIPTOR) as u32),
            journal_blocks: (journal_bytes / BLOCK as u64) as u32,
        }
    }

    fn block_bitmap(self, group: u32) -> u32 {
        let before = if group == 0 { 1 + self.descriptor_blocks } else { 0 };
        group * BLOCKS_PER_GROUP + before
    }

    fn inode_bitmap(self, group: u32) -> u32 {
        self.block_bitmap(group) + 1
    }

    fn inode_table(self, group: u32) -> u32 {
        self.block_bitmap(group) + 2
    }

    fn root_block(self) -> u32 {
        self.inode_table(0) + INODE_TABLE_BLOCKS
    }

    fn lost_and_found_block(self) -> u32 {
        self.root_block() + 1
    }

    fn journal_block(self) -> u32 {
        self.lost_and_found_block() + 1
    }

    fn used_blocks(self, group: u32) -> u32 {
        if group == 0 { self.journal_block() + self.journal_blocks } else { 2 + INODE_TABLE_BLOCKS }
    }

    fn last_group(self) -> u32 {
        self.groups - 1
    }

    fn free_inodes(group: u32) -> u32 {
        INODES_PER_GROUP - if group == 0 { LOST_AND_FOUND } else { 0 }
    }
}

impl Identity {
    fn random() -> io::Result<Self> {
        let mut this = Self { uuid: [0; 16], hash_seed: [0; 16] };
        for bytes in [&mut this.uuid, &mut this.hash_seed] {
            rustix::rand::getrandom(bytes.as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
        }
        Ok(this)
    }
}

/// The first block: 1024 bytes for a boot loader, then the superblock.
fn superblock(layout: Layout, identity: &Identity) -> [u8; BLOCK] {
    const AT: usize = 1024;
    const HAS_JOURNAL: u32 = 0x4;
    const EXT_ATTR: u32 = 0x8;
    const DIR_INDEX: u32 = 0x20;
    /// Copies of the superblock in the groups of `s_backup_bgs` only: none.
    const SPARSE_SUPER2: u32 = 0x200;
    const FILETYPE: u32 = 0x2;
    const EXTENTS: u32 = 0x40;
    const LARGE_FILE: u32 = 0x2;
    const HUGE_FILE: u32 = 0x8;
    const GDT_CSUM: u32 = 0x10;
    const DIR_NLINK: u32 = 0x20;
    const EXTRA_ISIZE: u32 = 0x40;

    let used_blocks: u32 = (0..layout.groups).map(|group| layout.used_blocks(group)).sum();
    let free_inodes = (0..layout.groups).map(Layout::free_inodes).sum();
    let mut block = [0; BLOCK];
    let fields = [
        (0x00, layout.groups * INODES_PER_GROUP),
        (0x04, layout.groups * BLOCKS_PER_GROUP),
        (0x0c, layout.groups * BLOCKS_PER_GROUP - used_blocks),
        (0x10, free_inodes),
        (0x18, 2), // s_log_block_size: 1024 << 2
        (0x1c, 2), // s_log_cluster_size
        (0x20, BLOCKS_PER_GROUP),
        (0x24, BLOCKS_PER_GROUP), // s_clusters_per_group
        (0x28, INODES_PER_GROUP),
        (0x4c, 1), // s_rev_level: inode sizes and features count
        (0x54, LOST_AND_FOUND),
        (0x5c, EXT_ATTR | DIR_INDEX | SPARSE_SUPER2),
        (0x60, FILETYPE | EXTENTS),
        (0x64, LARGE_FILE | HUGE_FILE | GDT_CSUM | DIR_NLINK | EXTRA_ISIZE),
        (0x160, 1), // s_flags: directory hashes of signed characters
    ];
    for (offset, value) in fields {
        put_u32(&mut block, AT + offset, value);
    }
    let short_fields = [
        (0x36, u16::MAX), // s_max_mnt_count: never check for that reason
        (0x38, 0xef53),   // s_magic
        (0x3a, 1),        // s_state: clean
        (0x3c, 1),        // s_errors: go on
        (0x58, INODE as u16),
        (0x15c, 32), // s_min_extra_isize
        (0x15e, 32), // s_want_extra_isize
    ];
    for (offset, value) in short_fields {
        put_u16(&mut block, AT + offset, value);
    }
    put(&mut block, AT + 0x68, &identity.uuid);
    put(&mut block, AT + 0xec, &identity.hash_seed);
    put(&mut block, AT + 0xfc, &[1]); // s_def_hash_version: half MD4
    if let Some(journal) = journal_inode(layout) {
        put_u32(&mut block, AT + 0x5c, EXT_ATTR | DIR_INDEX | SPARSE_SUPER2 | HAS_JOURNAL);
        put_u32(&mut block, AT + 0xe0, JOURNAL_INODE);
        // A copy of where the journal is: its inode's blocks and size (s_jnl_blocks).
        put(&mut block, AT + 0xfd, &[1]); // s_jnl_backup_type
        put(&mut block, AT + 0x10c, &journal[0x28..0x64]);
        put(&mut block, AT + 0x10c + 16 * 4, &journal[0x4..0x8]);
    }
    block
}

/// The journal's first block (jbd2, big-endian): empty.
fn journal_superblock(layout: Layout, identity: &Identity) -> [u8; BLOCK] {
    const MAGIC: u32 = 0xc03b_3998;
    const SUPERBLOCK_V2: u32 = 4;
    let mut block = [0; BLOCK];
    let fields = [
        (0x00, MAGIC),
        (0x04, SUPERBLOCK_V2),
        (0x0c, BLOCK as u32),
        (0x10, layout.journal_blocks),
        (0x14, 1), // s_first: the log begins behind this block
        (0x18, 1), // s_sequence
        (0x1c, 0), // s_start: nothing to replay
        (0x40, 1), // s_nr_users
    ];
    for (offset, value) in fields {
        put(&mut block, offset, &u32::to_be_bytes(value));
    }
    put(&mut block, 0x30, &identity.uuid);
    block
}

/// The group descriptors, which say of most groups that nothing has been written there.
fn descriptors(layout: Layout, identity: &Identity) -> Vec<u8> {
    const INODE_UNINIT: u16 = 0x1;
    const BLOCK_UNINIT: u16 = 0x2;
    /// The inode table reads as zeros, for the file is sparse: no need to write them.
    const INODE_ZEROED: u16 = 0x4;

    let mut blocks = vec![0; layout.descriptor_blocks as usize * BLOCK];
    for (group, descriptor) in (0..layout.groups).zip(blocks.chunks_exact_mut(DESCRIPTOR)) {
        let uninit = match group {
            0 => 0,
            // It may be short in other file systems, so its blocks are always told.
            last if last == layout.last_group() => INODE_UNINIT,
            _ => INODE_UNINIT | BLOCK_UNINIT,
        };
        put_u32(descriptor, 0x0, layout.block_bitmap(group));
        put_u32(descriptor, 0x4, layout.inode_bitmap(group));
        put_u32(descriptor, 0x8, layout.inode_table(group));
        put_u16(descriptor, 0xc, (BLOCKS_PER_GROUP - layout.used_blocks(group)) as u16);
        put_u16(descriptor, 0xe, Layout::free_inodes(group) as u16);
        put_u16(descriptor, 0x10, if group == 0 { 2 } else { 0 }); // bg_used_dirs_count
        put_u16(descriptor, 0x12, INODE_ZEROED | uninit);
        put_u16(descriptor, 0x1c, Layout::free_inodes(group) as u16); // bg_itable_unused
        let checksum =
            [&identity.uuid, group.to_le_bytes().as_slice(), &descriptor[..0x1e]].into_iter().fold(!0, crc16);
        put_u16(descriptor, 0x1e, checksum);
    }
    blocks
}

/// A block whose first `used` bits are set, and those beyond `length` too.
fn bitmap(used: u32, length: u32) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for bit in (0..used).chain(length..BLOCKS_PER_GROUP) {
        block[bit as usize / 8] |= 1 << (bit % 8);
    }
    block
}

/// The inode table's first block, with the two directories and the journal.
fn inodes(layout: Layout) -> [u8; BLOCK] {
    let mut table = [0; BLOCK];
    // A directory has a link from its parent, one from itself, and one from each directory in it.
    let inodes = [
        (ROOT, Some(inode(0o040755, 3, layout.root_block(), 1))),
        (LOST_AND_FOUND, Some(inode(0o040700, 2, layout.lost_and_found_block(), 1))),
        (JOURNAL_INODE, journal_inode(layout)),
    ];
    for (number, inode) in inodes {
        let at = (number as usize - 1) * INODE;
        put(&mut table, at, inode.as_ref().map_or(&[], |inode| inode.as_slice()));
    }
    table
}

fn journal_inode(layout: Layout) -> Option<[u8; INODE]> {
    match layout.journal_blocks {
        0 => None,
        blocks => Some(inode(0o100600, 1, layout.journal_block(), blocks)),
    }
}

/// The inode of a file in consecutive blocks, at most as many as an extent can have (32,768).
fn inode(mode: u16, links: u16, first_block: u32, blocks: u32) -> [u8; INODE] {
    let mut inode = [0; INODE];
    put_u16(&mut inode, 0x00, mode);
    put_u32(&mut inode, 0x04, blocks * BLOCK as u32); // i_size
    put_u16(&mut inode, 0x1a, links);
    put_u32(&mut inode, 0x1c, blocks * (BLOCK / 512) as u32); // i_blocks
    put_u32(&mut inode, 0x20, 0x80000); // EXT4_EXTENTS_FL
    // The extent tree: its header (one of at most four entries), and its one extent.
    put_u16(&mut inode, 0x28, 0xf30a);
    put_u16(&mut inode, 0x2a, 1);
    put_u16(&mut inode, 0x2c, 4);
    put_u16(&mut inode, 0x38, blocks as u16);
    put_u32(&mut inode, 0x3c, first_block);
    put_u16(&mut inode, 0x80, 32); // i_extra_isize
    inode
}

/// A directory's one block; all entries are directories. The last one takes the room that is left.
fn directory(entries: &[(u32, &str)]) -> [u8; BLOCK] {
    const DIRECTORY: u8 = 2;
    let mut block = [0; BLOCK];
    let mut at = 0;
    for (number, (inode, name)) in entries.iter().enumerate() {
        let length =
            if number + 1 == entries.len() { BLOCK - at } else { (8 + name.len()).next_multiple_of(4) };
        put_u32(&mut block, at, *inode);
        put_u16(&mut block, at + 4, length as u16);
        put(&mut block, at + 6, &[name.len() as u8, DIRECTORY]);
        put(&mut block, at + 8, name.as_bytes());
        at += length;
    }
    block
}

fn put(block: &mut [u8], offset: usize, bytes: &[u8]) {
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn put_u16(block: &mut [u8], offset: usize, value: u16) {
    put(block, offset, &value.to_le_bytes());
}

fn put_u32(block: &mut [u8], offset: usize, value: u32) {
    put(block, offset, &value.to_le_bytes());
}

/// CRC-16 with the reflected polynomial 0xa001, as group descriptors have it.
fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xa001 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_checksum_is_the_known_one() {
        // CRC-16/MODBUS of the customary check string.
        assert_eq!(crc16(!0, b"123456789"), 0x4b37);
    }

    fn formatted(size: u64, journal: Journal) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        format(file.as_file(), size, journal).unwrap();
        file
    }

    fn e2fsck(options: &str, file: &tempfile::NamedTempFile) -> (Option<i32>, String) {
        let check = Command::new("/sbin/e2fsck").arg(options).arg(file.path()).output();
        let check = check.expect("e2fsprogs is installed");
        (check.status.code(), String::from_utf8_lossy(&check.stdout).into_owned())
    }

    #[test]
    fn e2fsck_finds_nothing_to_repair_whatever_the_size() {
        for journal in [Journal::None, Journal::Kept] {
            for size in [1, GROUP_SIZE + 1, 10 << 30, MAX_SIZE] {
                let (code, said) = e2fsck("-fn", &formatted(size, journal));
                assert!(code == Some(0) && !said.contains("Fix"), "{journal:?} {size}: {said}");
            }
        }
    }

    #[test]
    fn what_is_in_the_journal_is_completed() {
        let file = formatted(1 << 30, Journal::Kept);
        let directory = tempfile::tempdir().unwrap();
        let (block, commands) = (directory.path().join("block"), directory.path().join("commands"));
        std::fs::write(&block, [0xa5; BLOCK]).unwrap();
        // A transaction that a VM committed to the journal, and did not live to write in its place.
        let place = 31_000;
        let script = format!("jo\njw -b {place} {}\njc\n", block.display());
        std::fs::write(&commands, script).unwrap();
        let wrote =
            Command::new("/sbin/debugfs").arg("-wf").arg(&commands).arg(file.path()).output().unwrap();
        assert!(wrote.status.success(), "{wrote:?}");
        let mut found = [0; BLOCK];
        let offset = place * BLOCK as u64;
        file.as_file().read_exact_at(&mut found, offset).unwrap();
        assert_eq!(found, [0; BLOCK]);
        let (code, said) = e2fsck("-fy", &file);
        assert!(code.is_some_and(|code| code <= 1) && said.contains("recovering journal"), "{said}");
        file.as_file().read_exact_at(&mut found, offset).unwrap();
        assert_eq!(found, [0xa5; BLOCK]);
        assert_eq!(e2fsck("-fn", &file).0, Some(0));
    }

    #[test]
    fn little_is_written() {
        for journal in [Journal::None, Journal::Kept] {
            let file = formatted(10 << 30, journal);
            let metadata = file.as_file().metadata().unwrap();
            assert_eq!(metadata.len(), 10 << 30);
            assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks", metadata.blocks());
        }
    }
}
