//! A look at delta-packed integers before the library decodes them, since it reserves room for as many as
//! they claim.
//!
//! (Apache Parquet, `Encodings.md`, DELTA_BINARY_PACKED: blocks of small blocks, each with its own bit
//! width.)

/// The most values of a block; writers choose 128.
const MAX_BLOCK: u64 = 1 << 16;

/// Where the integers at the start of `data` end; `None` if they do not end in it, or are more than `most`.
pub(super) fn end(data: &[u8], most: usize) -> Option<usize> {
    let mut at = 0;
    let (block, parts) = (varint(data, &mut at)?, varint(data, &mut at)?);
    let (total, _first) = (varint(data, &mut at)?, varint(data, &mut at)?);
    let part = block.checked_div(parts)?;
    if block > MAX_BLOCK || part == 0 || part % 32 != 0 || total > most as u64 {
        return None;
    }
    let mut left = total.saturating_sub(1);
    while left > 0 {
        let _least = varint(data, &mut at)?;
        let widths = data.get(at..)?.get(..parts as usize)?;
        at += parts as usize;
        for &width in widths.iter().take(left.div_ceil(part) as usize) {
            at += usize::from(width) * part as usize / 8;
            left = left.saturating_sub(part);
        }
    }
    (at <= data.len()).then_some(at)
}

fn varint(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_and_lies_are_not_believed() {
        // 128 a block, 4 parts, 5 values from 7 (zigzag 14) on, least delta 0, the first part's are 2 bits
        // wide.
        let mut data = vec![0x80, 1, 4, 5, 14, 0, 2, 9, 9, 9];
        data.extend([0; 8]);
        assert_eq!(end(&data, 5), Some(18));
        assert_eq!(end(&[&data[..], b"rest"].concat(), 5), Some(18));
        assert_eq!(end(&data, 4), None, "more values than the page has");
        assert_eq!(end(&data[..17], 5), None);
        assert_eq!(end(&[0x80, 1, 4, 1, 14], 5), Some(5), "one value stands in the header");
        assert_eq!(end(&[0x80, 1, 0, 5, 14, 0], 5), None, "no parts");
        assert_eq!(end(&[0x80, 1, 0xff, 0xff, 0xff, 0x7f, 5, 14, 0], 5), None, "too many parts");
        assert_eq!(end(&[], 5), None);
    }
}
