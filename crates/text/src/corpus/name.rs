//! What the name of a file tells.

use super::form::Packing;

/// Extensions of files whose lines a person (or a program) wrote for a program to read.
const CODE: &[&str] = &[
    "asm", "bash", "bat", "c", "cc", "cfg", "clj", "cmake", "cpp", "cs", "css", "cu", "cuh", "cxx", "d",
    "dart", "el", "erl", "ex", "exs", "f90", "fs", "go", "gradle", "h", "hh", "hpp", "hs", "htm", "html",
    "hxx", "ini", "ipynb", "java", "jl", "js", "jsx", "kt", "less", "lisp", "lock", "lua", "m", "mjs", "ml",
    "mm", "nim", "php", "pl", "pm", "proto", "ps1", "py", "pyi", "pyx", "r", "rb", "rs", "s", "scala", "scm",
    "scss", "sh", "sql", "svg", "swift", "tcl", "toml", "ts", "tsx", "v", "vb", "vhd", "vim", "vue", "xml",
    "yaml", "yml", "zig",
];

/// Whether a file of this extension (lower case) is source code.
pub(super) fn is_code(extension: &str) -> bool {
    CODE.binary_search(&extension).is_ok()
}

/// The lower-case extension of a file name, or `""`. Only short alphanumeric ones count.
pub(super) fn extension(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    match name.rsplit_once('.') {
        Some((stem, ext))
            if !stem.is_empty()
                && (1..=10).contains(&ext.len())
                && ext.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            ext.to_ascii_lowercase()
        }
        _ => String::new(),
    }
}

/// The extension of what a document's source names: `FILE`, `FILE:LINE` or `FILE:LINE:PATH`, compressed or
/// not.
pub(super) fn source_extension(source: &str) -> String {
    let file = source.trim_end_matches(|c: char| c.is_ascii_digit()).strip_suffix(':').unwrap_or(source);
    extension(unpacked_name(file).0)
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
    fn code_is_found_by_binary_search() {
        assert!(CODE.is_sorted());
    }

    #[test]
    fn extensions_are_short_and_lower_case() {
        for (name, want) in [
            ("a/B.PY", "py"),
            ("x.tar.gz", "gz"),
            (".gitignore", ""),
            ("a.b/README", ""),
            ("x.αβ", ""),
            ("v1.", ""),
        ] {
            assert_eq!(extension(name), want, "{name}");
        }
        for (source, want) in [
            ("a.py", "py"),
            ("a.txt.gz:170", "txt"),
            ("a.jsonl.gz:17:b/c.rs", "rs"),
            ("a.md.zst:3", "md"),
            ("a.jsonl:17:Makefile", ""),
            ("a.mp3", "mp3"),
        ] {
            assert_eq!(source_extension(source), want, "{source}");
        }
    }
}
