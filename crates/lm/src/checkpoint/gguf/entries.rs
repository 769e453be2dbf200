//! The entries of a GGUF file in the making.

use anyhow::{Context, Result};

use super::metadata::Kind;

/// Keys and values, as they will lie in the file.
#[derive(Default)]
pub(in super::super) struct Entries {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) count: u64,
}

impl Entries {
    pub(in super::super) fn text(&mut self, key: &str, value: &str) {
        self.begin(key, Kind::String);
        string(&mut self.bytes, value);
    }

    /// A size.
    ///
    /// # Errors
    /// Readers take at most 32 bits.
    pub(in super::super) fn size(&mut self, key: &str, value: usize) -> Result<()> {
        let value = u32::try_from(value).with_context(|| format!("{key} {value} does not fit 32 bits"))?;
        self.begin(key, Kind::U32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    pub(in super::super) fn float(&mut self, key: &str, value: f32) {
        self.begin(key, Kind::F32);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(in super::super) fn flag(&mut self, key: &str, value: bool) {
        self.begin(key, Kind::Bool);
        self.bytes.push(value.into());
    }

    pub(in super::super) fn texts<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        self.begin_array(key, Kind::String, values.len());
        values.iter().for_each(|value| string(&mut self.bytes, value.as_ref()));
    }

    pub(in super::super) fn integers(&mut self, key: &str, values: &[i32]) {
        self.begin_array(key, Kind::I32, values.len());
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
    }

    fn begin(&mut self, key: &str, kind: Kind) {
        string(&mut self.bytes, key);
        self.bytes.extend_from_slice(&kind.number().to_le_bytes());
        self.count += 1;
    }

    fn begin_array(&mut self, key: &str, of: Kind, len: usize) {
        self.begin(key, Kind::Array);
        self.bytes.extend_from_slice(&of.number().to_le_bytes());
        self.bytes.extend_from_slice(&(len as u64).to_le_bytes());
    }
}

/// A string: its length and its bytes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}
