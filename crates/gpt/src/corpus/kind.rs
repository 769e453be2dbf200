//! What a file is: how it is packed, and how it is cut into records. The name says it; where the name does not tell, as
//! of a data set's `part-00000` or a `.jsonl` that somebody compressed, the first bytes do.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::clean::{extension, is_code};

/// Kinds that hold text but cannot be read yet, or that never are text.
const UNSUPPORTED: &[&str] = &[
    "7z",
    "a",
    "arrow",
    "avi",
    "bin",
    "bmp",
    "bz2",
    "class",
    "db",
    "dll",
    "dmg",
    "doc",
    "docx",
    "dylib",
    "eot",
    "epub",
    "exe",
    "feather",
    "gif",
    "h5",
    "ico",
    "jar",
    "jpeg",
    "jpg",
    "lib",
    "lz4",
    "mp3",
    "mp4",
    "npy",
    "npz",
    "o",
    "obj",
    "odt",
    "onnx",
    "otf",
    "pdf",
    "pickle",
    "pkl",
    "png",
    "ppt",
    "pptx",
    "pt",
    "pth",
    "pyc",
    "rar",
    "rlib",
    "rmeta",
    "safetensors",
    "so",
    "sqlite",
    "tar",
    "tgz",
    "tif",
    "tiff",
    "ttf",
    "wasm",
    "wav",
    "webp",
    "whl",
    "woff",
    "woff2",
    "xls",
    "xlsx",
    "xz",
    "zip",
];

/// How the bytes of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// How a file is cut into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON, one object a line.
    Lines,
    /// JSON: an array of objects, or objects one after the other.
    Json,
    /// Parquet: rows with named columns.
    Parquet,
    /// Source code: the file is one document.
    Code,
    /// Text: cut at paragraphs.
    Prose,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) packing: Packing,
    pub(super) kind: Kind,
}

impl Form {
    /// What the file at `path` is, or the extension that says that it cannot be read.
    pub(super) fn of(path: &Path) -> Result<Form, String> {
        let form = Form::of_name(&path.to_string_lossy())?;
        let tells = form.packing != Packing::None || matches!(form.kind, Kind::Code | Kind::Parquet);
        Ok(if tells { form } else { form.corrected(path) })
    }

    pub(super) fn of_name(name: &str) -> Result<Form, String> {
        let (stem, packing) = unpacked_name(name);
        let ext = extension(stem);
        if UNSUPPORTED.binary_search(&ext.as_str()).is_ok() {
            return Err(ext);
        }
        let kind = match ext.as_str() {
            "jsonl" | "ndjson" => Kind::Lines,
            "json" => Kind::Json,
            "parquet" | "pq" => Kind::Parquet,
            ext if is_code(ext) => Kind::Code,
            _ => Kind::Prose,
        };
        match (packing, kind) {
            // Its table of contents is at the end: it cannot be read as a stream, and its pages are compressed anyhow.
            (Packing::Gzip | Packing::Zstd, Kind::Parquet) => Err("compressed Parquet".into()),
            _ => Ok(Form { packing, kind }),
        }
    }

    /// What the content says of a file that claims to be text. One that cannot be read is found out later.
    fn corrected(self, path: &Path) -> Form {
        let mut head = [0; 4];
        // What is taken out of a pipe is gone.
        let file = if path.is_file() { File::open(path).ok() } else { None };
        let Some(mut file) = file else { return self };
        if file.read_exact(&mut head).is_err() {
            return self;
        }
        match head {
            [0x1f, 0x8b, 8, _] => Form { packing: Packing::Gzip, ..self },
            [0x28, 0xb5, 0x2f, 0xfd] => Form { packing: Packing::Zstd, ..self },
            // A text may begin with these letters, but it does not end with them too.
            [b'P', b'A', b'R', b'1'] => {
                let mut tail = [0; 4];
                let ends = file.seek(SeekFrom::End(-4)).is_ok_and(|at| at >= 8)
                    && file.read_exact(&mut tail).is_ok()
                    && tail == head;
                if ends { Form { kind: Kind::Parquet, ..self } } else { self }
            }
            _ => self,
        }
    }
}

/// A name without the extension of its compression.
pub(super) fn unpacked_name(name: &str) -> (&str, Packing) {
    let packing = match extension(name).as_str() {
        "gz" => Packing::Gzip,
        "zst" | "zstd" => Packing::Zstd,
        _ => return (name, Packing::None),
    };
    (name.rsplit_once('.').map_or(name, |(stem, _)| stem), packing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell() {
        assert!(UNSUPPORTED.is_sorted());
        for (name, packing, kind) in [
            ("a.JSONL.gz", Packing::Gzip, Kind::Lines),
            ("a.jsonl.zst", Packing::Zstd, Kind::Lines),
            ("a.json", Packing::None, Kind::Json),
            ("a.py.gz", Packing::Gzip, Kind::Code),
            ("b/a.txt.ZSTD", Packing::Zstd, Kind::Prose),
            ("data/train-00000-of-00003.parquet", Packing::None, Kind::Parquet),
            ("LICENSE", Packing::None, Kind::Prose),
        ] {
            assert_eq!(Form::of_name(name), Ok(Form { packing, kind }), "{name}");
        }
        assert_eq!(Form::of_name("a.tar.gz"), Err("tar".into()));
        assert_eq!(Form::of_name("a.tar.zst"), Err("tar".into()));
        assert_eq!(Form::of_name("a.parquet.gz"), Err("compressed Parquet".into()));
    }

    #[test]
    fn content_tells_where_the_name_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            Form::of(&dir.path().join(name)).unwrap()
        };
        let form = |packing, kind| Form { packing, kind };
        assert_eq!(of("a.jsonl", b"\x1f\x8b\x08\0more"), form(Packing::Gzip, Kind::Lines));
        assert_eq!(of("wiki_00", b"\x28\xb5\x2f\xfdmore"), form(Packing::Zstd, Kind::Prose));
        assert_eq!(of("part-00000", b"PAR1....PAR1"), form(Packing::None, Kind::Parquet));
        assert_eq!(of("part.txt", b"PAR1 is a word"), form(Packing::None, Kind::Prose));
        assert_eq!(of("four", b"PAR1"), form(Packing::None, Kind::Prose));
        assert_eq!(of("a.gz", b"plain text"), form(Packing::Gzip, Kind::Prose), "the name promised");
        assert_eq!(of("a.parquet", b"plain text"), form(Packing::None, Kind::Parquet), "the name promised");
    }
}
