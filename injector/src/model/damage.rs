//! What a corruption does to a packet.

/// What arrives changed, and who notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Who notices.
    pub checksum: Checksum,
    /// How much changes.
    pub extent: Extent,
    /// Where.
    pub region: Region,
}

/// Who notices a corrupted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The checksum fits the damage: the application reads damaged bytes.
    Valid,
    /// The checksum does not fit: the receiver's stack counts an error.
    Broken,
}

/// How much of a packet changes: 1 to `net_corrupt::MAX_CHANGES` of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// So many different bits flip.
    Bits(u32),
    /// So many different bytes change.
    Bytes(u32),
}

/// Which part of a packet changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// What is behind the transport header.
    Payload,
    /// The transport header.
    Headers,
}
