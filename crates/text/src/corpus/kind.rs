//! What a file is: how it is packed, and how it is cut into records. The name says it; where the name does
//! not tell, as of a data set's `part-00000`, a `.jsonl` that somebody compressed or a `.txt` of JSON lines,
//! the content does.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::content::json_kind;
use super::form::{Form, Kind, Packing};
use super::name::{extension, is_code, unpacked_name};

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

impl Form {
    /// What the file at `path` is, or the extension that says that it cannot be read.
    pub(super) fn of(path: &Path) -> Result<Form, String> {
        let form = Form::of_name(&path.to_string_lossy())?;
        // A notebook is a JSON object, and source code to who reads it. What is taken out of a pipe to look
        // at it is gone.
        let tells = form.kind == Kind::Parquet || extension(&path.to_string_lossy()) == "ipynb";
        Ok(if tells || !path.is_file() { form } else { form.corrected(path) })
    }

    pub(super) fn of_name(name: &str) -> Result<Form, String> {
        let (stem, packing) = unpacked_name(name);
        let ext = extension(stem);
        if UNSUPPORTED.binary_search(&ext.as_str()).is_ok() {
            return Err(ext);
        }
        let kind = match ext.as_str() {
            "jsonl" | "jsonlines" | "ndjson" => Kind::Lines,
            "json" => Kind::Json,
            "csv" => Kind::Table(b','),
            "tab" | "tsv" => Kind::Table(b'\t'),
            "parquet" | "pq" => Kind::Parquet,
            ext if is_code(ext) => Kind::Code,
            _ => Kind::Prose,
        };
        match (packing, kind) {
            // Its table of contents is at the end: it cannot be read as a stream, and its pages are
            // compressed anyhow.
            (Packing::Gzip | Packing::Zstd, Kind::Parquet) => Err("compressed Parquet".into()),
            _ => Ok(Form { packing, kind }),
        }
    }

    /// What the content says of a file that claims to be text. One that cannot be read is found out later.
    fn corrected(self, path: &Path) -> Form {
        let (packing, kind) = if self.packing == Packing::None { self.by_magic(path) } else { self.into() };
        if kind == Kind::Parquet {
            return Form { packing, kind };
        }
        let json = json_kind(path, packing).unwrap_or(None);
        Form { packing, kind: json.unwrap_or(kind) }
    }

    fn by_magic(self, path: &Path) -> (Packing, Kind) {
        let mut head = [0; 4];
        let Ok(mut file) = File::open(path) else { return self.into() };
        if file.read_exact(&mut head).is_err() {
            return self.into();
        }
        match head {
            [0x1f, 0x8b, 8, _] => (Packing::Gzip, self.kind),
            [0x28, 0xb5, 0x2f, 0xfd] => (Packing::Zstd, self.kind),
            // A text may begin with these letters, but it does not end with them too.
            [b'P', b'A', b'R', b'1'] => {
                let mut tail = [0; 4];
                let ends = file.seek(SeekFrom::End(-4)).is_ok_and(|at| at >= 8)
                    && file.read_exact(&mut tail).is_ok()
                    && tail == head;
                if ends { (Packing::None, Kind::Parquet) } else { self.into() }
            }
            _ => self.into(),
        }
    }
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
            ("a.jsonlines", Packing::None, Kind::Lines),
            ("a.csv.gz", Packing::Gzip, Kind::Table(b',')),
            ("A.TSV", Packing::None, Kind::Table(b'\t')),
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
        let record = b"{\"text\": \"one\"}\n";
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, text).unwrap();
            encoder.finish().unwrap()
        };
        for name in ["a.jsonlines", "a.jl", "a.txt", "part-00000", "a.csv", "a.json", "a.log", "a.js"] {
            assert_eq!(of(name, record), form(Packing::None, Kind::Lines), "{name}");
            assert_eq!(of(name, &gzip(record)), form(Packing::Gzip, Kind::Lines), "{name}");
            assert_eq!(of(&format!("{name}.gz"), &gzip(record)), form(Packing::Gzip, Kind::Lines), "{name}");
        }
        assert_eq!(of("a.jsonl", b"[\n{\"text\": \"one\"}\n]"), form(Packing::None, Kind::Json));
        assert_eq!(of("a.txt", b"[{\"text\": \"one\"}]"), form(Packing::None, Kind::Json));
        assert_eq!(of("a.ipynb", b"{\n \"cells\": []\n}"), form(Packing::None, Kind::Code));
        assert_eq!(of("a.csv", b"text\nprose"), form(Packing::None, Kind::Table(b',')));
        assert_eq!(of("a.gz", b"plain text"), form(Packing::Gzip, Kind::Prose), "the name promised");
        assert_eq!(of("a.parquet", b"plain text"), form(Packing::None, Kind::Parquet), "the name promised");
    }
}
