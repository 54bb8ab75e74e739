//! The on-disk structures, as fs/erofs/erofs_fs.h has them. All numbers are little-endian.

/// The block size of our images: a page, the largest Linux takes on x86.
pub(crate) const BLOCK: u64 = 4096;
pub(crate) const BLOCK_BITS: u8 = 12;
/// Inodes are addressed in units of this many bytes from the metadata area's start.
pub(crate) const INODE_SLOT: u64 = 32;
/// No block: a hole, or data that is not there.
pub(crate) const NULL_BLOCK: u32 = u32::MAX;

const SUPER_OFFSET: usize = 1024;
/// Fields of the superblock, from the image's start.
pub(crate) const MAGIC_FIELD: usize = SUPER_OFFSET;
pub(crate) const ROOT_NID_FIELD: usize = SUPER_OFFSET + 14;
pub(crate) const BLOCKS_FIELD: usize = SUPER_OFFSET + 36;
pub(crate) const META_BLOCK_FIELD: usize = SUPER_OFFSET + 40;
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_SB_CHECKSUM: u32 = 1;
const COMPAT_MTIME: u32 = 2;
const INCOMPAT_CHUNKED_FILE: u32 = 4;

pub(crate) const COMPACT_INODE: usize = 32;
pub(crate) const EXTENDED_INODE: usize = 64;

/// How an inode's data is found (`i_format` from its second bit on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum DataLayout {
    FlatPlain = 0,
    FlatInline = 2,
    ChunkBased = 4,
}

/// What a stack's merging asks of a layer as a whole. It stands in the image's first bytes, which EROFS leaves to boot
/// loaders. An image without a note makes no claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// As the only layer, it needs no merging: nothing in it is there for the sake of layers below.
    pub(crate) stands_alone: bool,
    /// The layer states no attributes for its root directory.
    pub(crate) root_implied: bool,
}

const NOTE_MAGIC: [u8; 15] = *b"Bulkhead layer\0";
const STANDS_ALONE: u8 = 1;
const ROOT_IMPLIED: u8 = 2;

impl Note {
    fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let [magic @ .., flags] = &mut bytes;
        *magic = NOTE_MAGIC;
        for (is_set, flag) in [(self.stands_alone, STANDS_ALONE), (self.root_implied, ROOT_IMPLIED)] {
            *flags |= if is_set { flag } else { 0 };
        }
        bytes
    }

    /// Reads the note of an image that begins with `block`.
    pub(crate) fn decode(block: &[u8]) -> Note {
        match block.strip_prefix(&NOTE_MAGIC).and_then(<[u8]>::first) {
            Some(flags) => {
                Note { stands_alone: flags & STANDS_ALONE != 0, root_implied: flags & ROOT_IMPLIED != 0 }
            }
            None => Note::default(),
        }
    }
}

/// What distinguishes one image's superblock from another's.
pub(crate) struct Superblock {
    pub(crate) note: Note,
    pub(crate) root_nid: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) has_chunks: bool,
}

impl Superblock {
    /// The image's first block. Its build time is 0, which is then the time of all compact inodes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let incompat = if self.has_chunks { INCOMPAT_CHUNKED_FILE } else { 0 };
        let mut block = self.note.encode().to_vec();
        block.resize(SUPER_OFFSET, 0);
        let mut put = |bytes: &[u8]| block.extend_from_slice(bytes);
        put(&MAGIC.to_le_bytes());
        put(&[0; 4]); // checksum, below
        put(&(COMPAT_SB_CHECKSUM | COMPAT_MTIME).to_le_bytes());
        put(&[BLOCK_BITS, 0]);
        put(&self.root_nid.to_le_bytes());
        put(&self.inodes.to_le_bytes());
        put(&[0; 12]); // build_time, build_time_nsec
        put(&self.blocks.to_le_bytes());
        put(&self.meta_block.to_le_bytes());
        put(&[0; 4]); // xattr_blkaddr: no shared attributes
        put(&self.uuid);
        put(&[0; 16]); // volume_name
        put(&incompat.to_le_bytes());
        block.resize(BLOCK as usize, 0);
        // The kernel's crc32c does not invert its result.
        let checksum = !crc32c::crc32c(block.get(SUPER_OFFSET..).unwrap_or_default());
        if let Some(field) = block.get_mut(SUPER_OFFSET + 4..SUPER_OFFSET + 8) {
            field.copy_from_slice(&checksum.to_le_bytes());
        }
        block
    }
}

/// An inode's own fields.
pub(crate) struct Inode {
    pub(crate) layout: DataLayout,
    /// `i_xattr_icount`.
    pub(crate) xattr_count: u16,
    /// File type and permissions.
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) size: u64,
    /// `i_u`: first block, device number or chunk format.
    pub(crate) union: u32,
    pub(crate) ino: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Inode {
    /// Whether all fields fit the 32-byte form, which has the image's build time (0) as its time.
    pub(crate) fn is_compact(&self) -> bool {
        self.compact_fields().is_some() && self.seconds == 0 && self.nanoseconds == 0
    }

    /// Link count, size, user and group in the widths of the 32-byte form.
    fn compact_fields(&self) -> Option<(u16, u32, u16, u16)> {
        let narrow = |value: u32| u16::try_from(value).ok();
        Some((narrow(self.links)?, u32::try_from(self.size).ok()?, narrow(self.uid)?, narrow(self.gid)?))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let compact = self.compact_fields().filter(|_| self.is_compact());
        let format = (self.layout as u16) << 1 | u16::from(compact.is_none());
        let mut bytes = Vec::with_capacity(EXTENDED_INODE);
        let mut put = |field: &[u8]| bytes.extend_from_slice(field);
        put(&format.to_le_bytes());
        put(&self.xattr_count.to_le_bytes());
        put(&self.mode.to_le_bytes());
        match compact {
            Some((links, size, uid, gid)) => {
                put(&links.to_le_bytes());
                put(&size.to_le_bytes());
                put(&[0; 4]);
                put(&self.union.to_le_bytes());
                put(&self.ino.to_le_bytes());
                put(&uid.to_le_bytes());
                put(&gid.to_le_bytes());
                put(&[0; 4]);
            }
            None => {
                put(&[0; 2]);
                put(&self.size.to_le_bytes());
                put(&self.union.to_le_bytes());
                put(&self.ino.to_le_bytes());
                put(&self.uid.to_le_bytes());
                put(&self.gid.to_le_bytes());
                put(&self.seconds.to_le_bytes());
                put(&self.nanoseconds.to_le_bytes());
                put(&self.links.to_le_bytes());
                put(&[0; 16]);
            }
        }
        bytes
    }
}

/// A directory entry's fixed part.
pub(crate) const DIRENT: usize = 12;

pub(crate) fn encode_dirent(nid: u64, name_offset: u16, file_type: u8) -> [u8; DIRENT] {
    let mut bytes = [0; DIRENT];
    let (number, rest) = bytes.split_at_mut(8);
    number.copy_from_slice(&nid.to_le_bytes());
    let [low, high] = name_offset.to_le_bytes();
    rest.copy_from_slice(&[low, high, file_type, 0]);
    bytes
}
