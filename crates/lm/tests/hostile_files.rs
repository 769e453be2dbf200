//! A thousand damaged GGUF files and a thousand damaged model directories: reading one ends with a model or
//! with a message that names the file, never with a panic, and never takes memory that the size of the files
//! does not explain.
//!
//! A program of its own, without the usual test harness: the allocator measures the whole process.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use std::fs;
use std::path::{Path, PathBuf};

use kernels::rng;
use lm::checkpoint;
use peak_alloc::PeakAlloc;
use text::progress::Silent;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MUTATIONS: u64 = 1_000;

/// What reading may take, times the size of the files: numbers of 16 bits become `f32`, twice while an array
/// is put together, and a tokenizer is several tables of its tokens.
const TIMES: usize = 24;
/// What reading the smallest model may take besides.
const BESIDES_MODEL: usize = 1 << 16;
/// What making the smallest tokenizer may take besides: a regular expression over all of Unicode.
const BESIDES_TOKENIZER: usize = 1 << 21;

/// Numbers that a reader may fall over.
const EVIL: [u64; 14] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0xff_ffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    1 << 53,
    u64::MAX >> 1,
    (u64::MAX >> 1) + 1,
    u64::MAX,
];

/// Decides everything random here.
struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.rolled += 1;
        rng::below(self.seed, 1, self.rolled, n as u64) as usize
    }

    /// A place in a file, mostly near its beginning, where what others depend on stands.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let all = bytes.len();
        let n = if self.below(5) == 0 { all } else { all.min(3_000) };
        self.below(n)
    }
}

/// Damages bytes once or a few times.
fn damage(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    for _ in 0..1 + dice.below(3) {
        if damaged.is_empty() {
            break;
        }
        let at = dice.place(&damaged);
        match dice.below(6) {
            0 => damaged[at] ^= 1 << dice.below(8),
            1 => damaged.truncate(dice.below(bytes.len())),
            2 => damaged[at..].iter_mut().take(1 + dice.below(4096)).for_each(|byte| *byte = 0),
            3 => splice_digits(&mut damaged, at, dice),
            _ => {
                let (number, width) = (EVIL[dice.below(EVIL.len())], [1, 4, 8][dice.below(3)]);
                damaged
                    .iter_mut()
                    .skip(at)
                    .zip(&number.to_le_bytes()[..width])
                    .for_each(|(to, from)| *to = *from);
            }
        }
    }
    damaged
}

/// Puts another number in place of the next one that is written in digits.
fn splice_digits(bytes: &mut Vec<u8>, from: usize, dice: &mut Dice) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = bytes[from..].iter().position(is_digit).map(|at| from + at) else { return };
    let end = start + bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
    let mut number = EVIL[dice.below(EVIL.len())].to_string();
    match dice.below(8) {
        0 => number.insert(0, '-'),
        1 => number += "e308",
        2 => number += ".5",
        _ => {}
    }
    bytes.splice(start..end, number.into_bytes());
}

/// Does something with a model whose files have so many bytes, and looks at the memory that it takes.
fn measured<T>(files: usize, besides: usize, act: impl FnOnce() -> anyhow::Result<T>) -> Result<T, String> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = act();
    let took = MEMORY.peak_usage() - before;
    let said = result.map_err(|error| format!("{error:#}"));
    let allowed = TIMES * files + besides;
    assert!(took <= allowed, "{took} bytes of memory for {files} bytes of files: {:?}", said.err());
    said
}

/// Reads all that a model has.
fn read(path: &Path, files: usize) -> Result<(), String> {
    let model = measured(files, BESIDES_MODEL, || checkpoint::open(path, &Silent))?;
    measured(files, BESIDES_MODEL, || model.weights(checkpoint::to_host))?;
    let tokenizer = measured(files, BESIDES_TOKENIZER, || model.tokenizer())?;
    assert!(tokenizer.is_some() || !path.is_dir(), "{}: where is its tokenizer?", path.display());
    Ok(())
}

/// Damages the files of a model, one at a time; counts what is refused.
fn attack(what: &str, model: &Path, files: &[(PathBuf, Vec<u8>)], seeds: std::ops::Range<u64>) {
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    assert_eq!(read(model, total), Ok(()), "{what}");
    let mut refused = 0;
    for seed in seeds.clone() {
        let mut dice = Dice { seed, rolled: 0 };
        let (path, bytes) = &files[dice.below(files.len())];
        let damaged = damage(bytes, &mut dice);
        fs::write(path, &damaged).unwrap();
        if let Err(said) = read(model, total - bytes.len() + damaged.len()) {
            let names_a_file = files.iter().any(|(path, _)| said.contains(path.to_str().unwrap()));
            assert!(names_a_file, "{what}, seed {seed}: {said}");
            refused += 1;
        }
        fs::write(path, bytes).unwrap();
    }
    let all = seeds.end - seeds.start;
    assert!(refused > all / 3 && refused < all, "{what}: {refused} of {all} refused");
}

fn main() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dir = tempfile::tempdir().unwrap();
    // Tables that are made once are nobody's file.
    checkpoint::open(&golden.join("gguf/llama.gguf"), &Silent)
        .unwrap()
        .tokenizer()
        .unwrap()
        .unwrap()
        .encode("the 12");
    let architectures = ["gpt2", "llama", "qwen2", "qwen3"];
    let each = MUTATIONS / architectures.len() as u64;
    for (seeds, name) in (0..).step_by(each as usize).zip(architectures) {
        let path = dir.path().join(format!("{name}.gguf"));
        let bytes = fs::read(golden.join(format!("gguf/{name}.gguf"))).unwrap();
        attack(&format!("{name}.gguf"), &path, &[(path.clone(), bytes)], seeds..seeds + each);
    }
    for (seeds, family) in [(0, "gpt2"), (MUTATIONS / 2, "llama")] {
        let from = golden.join(format!("{family}-tiny"));
        let model = dir.path().join(family);
        fs::create_dir(&model).unwrap();
        let mut files: Vec<(PathBuf, Vec<u8>)> = ["config.json", "model.safetensors"]
            .map(|name| (model.join(name), fs::read(from.join(name)).unwrap()))
            .into();
        let gguf = checkpoint::open(&golden.join(format!("gguf/{family}.gguf")), &Silent).unwrap();
        let tokenizer = gguf.tokenizer().unwrap().unwrap().to_json().as_bytes().to_vec();
        files.push((model.join("tokenizer.json"), tokenizer));
        attack(family, &model, &files, seeds..seeds + MUTATIONS / 2);
    }
}
