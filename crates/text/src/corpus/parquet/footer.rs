//! What a Parquet file says of itself, at its end, checked before the library believes it: the library
//! reserves room for as many children as a schema claims, and follows groups in groups as deep as they go.

use std::fs::File;
use std::io::{self, Error, ErrorKind, Read, Seek, SeekFrom};

use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::thrift::{Met, walk};
use crate::corpus::catch::catch_decoder_panic;

/// Groups in groups, at most.
const MAX_DEPTH: usize = 64;
/// `PAR1` at either end, and the length of the footer before the last one.
const FRAME_BYTES: u64 = 12;

/// Reads the description of a file of `size` bytes.
pub(super) fn read(file: &mut File, size: u64) -> Result<ParquetMetaData> {
    if size < FRAME_BYTES {
        return Err(ParquetError::General(format!("{size} bytes are too few for a Parquet file")));
    }
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(size - 8))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, magic @ ..] = tail;
    match &magic {
        b"PAR1" => {}
        b"PARE" => return Err(ParquetError::NYI("it is encrypted".into())),
        _ => return Err(ParquetError::General("it does not end with PAR1".into())),
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > size - FRAME_BYTES {
        return Err(ParquetError::General(format!("its footer claims {length} bytes, the file has {size}")));
    }
    let mut footer = vec![0; length as usize];
    file.seek(SeekFrom::Start(size - 8 - length))?;
    file.read_exact(&mut footer)?;
    check(&footer).map_err(|e| ParquetError::General(format!("its footer: {e}")))?;
    catch_decoder_panic(|| ParquetMetaDataReader::decode_metadata(&footer))
}

/// Walks over the footer: every list and every group must be as long as it says.
fn check(footer: &[u8]) -> io::Result<()> {
    let mut tree = Tree { open: Vec::new(), children: 0 };
    walk(&mut &*footer, &mut |met| match met {
        // FileMetaData.schema[…].num_children
        Met::Int(&[2, 5], children) => {
            tree.children = u64::try_from(children).map_err(Error::other)?;
            Ok(())
        }
        Met::End(&[2]) => tree.element(),
        _ => Ok(()),
    })?;
    if tree.open.is_empty() { Ok(()) } else { Err(wrong("a group has fewer columns than it says")) }
}

/// The groups of the schema, whose elements are written parents first.
struct Tree {
    /// Children still to come, of each open group.
    open: Vec<u64>,
    /// Children of the element at hand.
    children: u64,
}

impl Tree {
    fn element(&mut self) -> io::Result<()> {
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        match std::mem::take(&mut self.children) {
            0 => {}
            _ if self.open.len() == MAX_DEPTH => return Err(wrong("groups are nested too deep")),
            children => self.open.push(children),
        }
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        Ok(())
    }
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer of schema elements with these numbers of children.
    fn schema(children: &[u64]) -> Vec<u8> {
        let varint = |mut v: u64| {
            let mut bytes = Vec::new();
            while v >= 0x80 {
                bytes.push(v as u8 | 0x80);
                v >>= 7;
            }
            bytes.push(v as u8);
            bytes
        };
        // Field 2, a list of structures; in each, field 5, an i32 in zigzag.
        let mut footer = vec![0x29, 0xfc];
        footer.extend(varint(children.len() as u64));
        for &n in children {
            footer.push(0x55);
            footer.extend(varint(n << 1));
            footer.push(0);
        }
        footer.push(0);
        footer
    }

    #[test]
    fn groups_must_have_the_children_they_claim() {
        assert!(check(&schema(&[0])).is_ok());
        assert!(check(&schema(&[2, 0, 2, 0, 0])).is_ok());
        let error = |children: &[u64]| check(&schema(children)).unwrap_err().to_string();
        assert!(error(&[2, 0]).contains("fewer columns"));
        assert!(error(&[i32::MAX as u64, 0]).contains("fewer columns"));
        assert!(error(&[1, 1, 1, 3]).contains("fewer columns"));
        assert!(error(&vec![1; 100_000]).contains("nested too deep"));
        let mut list = schema(&[0]);
        list.splice(2..3, [0xff, 0xff, 0xff, 0xff, 7]);
        assert!(check(&list).is_err(), "a list of more elements than there are bytes");
        assert!(check(&[0x19; 200]).unwrap_err().to_string().contains("nested too deep"));
    }
}
