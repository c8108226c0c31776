//! The few messages of Protocol Buffers in etcd's files that a restoration changes.

use anyhow::{Context, Result, bail, ensure};

/// A field of a message.
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// Its value, if it is a number.
    pub varint: u64,
    /// Its content, if it is text or a message.
    pub bytes: Option<&'a [u8]>,
}

/// The fields of a message, in their order.
pub fn fields(message: &[u8]) -> Result<Vec<Field<'_>>> {
    let mut rest = message;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let (number, kind) = (tag >> 3, tag & 7);
        fields.push(match kind {
            0 => Field {
                number,
                varint: take_varint(&mut rest)?,
                bytes: None,
            },
            2 => {
                let size = usize::try_from(take_varint(&mut rest)?)?;
                let bytes = rest.split_at_checked(size);
                let (bytes, behind) = bytes.context("a field is cut off")?;
                rest = behind;
                Field {
                    number,
                    varint: 0,
                    bytes: Some(bytes),
                }
            }
            _ => bail!("a field has another kind"),
        });
    }
    Ok(fields)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first().context("a number is cut off")?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number is too long")
}

/// Adds a field with a number.
pub fn put_varint(message: &mut Vec<u8>, number: u64, value: u64) {
    varint(message, number << 3);
    varint(message, value);
}

/// Adds a field with content.
pub fn put_bytes(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, value: u64) {
    let mut value = value;
    while value > 0x7f {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// CRC-32C (Castagnoli), as etcd computes it over its files.
pub fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut sum = !0_u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

/// The snapshot of API v2 in a file of etcd (`snappb.Snapshot`, in it `raftpb.Snapshot`), with its content changed by
/// `change`.
pub fn with_store(file: &[u8], change: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let outer = fields(file)?;
    let data = outer.iter().find(|field| field.number == 2);
    let data = data.and_then(|field| field.bytes).context("it is empty")?;
    let sum = outer.iter().find(|field| field.number == 1);
    ensure!(
        sum.is_some_and(|sum| sum.varint == u64::from(crc32c(data))),
        "its checksum is wrong"
    );
    let mut inner = Vec::new();
    for field in fields(data)? {
        match (field.number, field.bytes) {
            (1, Some(store)) => put_bytes(&mut inner, 1, &change(store)?),
            (number, Some(bytes)) => put_bytes(&mut inner, number, bytes),
            (number, None) => put_varint(&mut inner, number, field.varint),
        }
    }
    let mut all = Vec::new();
    put_varint(&mut all, 1, u64::from(crc32c(&inner)));
    put_bytes(&mut all, 2, &inner);
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut message = Vec::new();
        for number in [0, 1, 127, 128, 1 << 35, u64::MAX] {
            put_varint(&mut message, 3, number);
        }
        put_bytes(&mut message, 1, b"text");
        let read = fields(&message).unwrap();
        let numbers: Vec<u64> = read[..6].iter().map(|field| field.varint).collect();
        assert_eq!(numbers, [0, 1, 127, 128, 1 << 35, u64::MAX]);
        assert_eq!(read[6].bytes, Some(&b"text"[..]));
        for length in [1, message.len() - 1] {
            assert!(fields(&message[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
