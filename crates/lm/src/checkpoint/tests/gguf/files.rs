//! Whole files: those of the gguf package, and ours.

use std::fs;

use half::{bf16, f16};
use tempfile::tempdir;

use super::super::families::shapes;
use super::super::variant::{floats, parse};
use super::*;
use crate::checkpoint::Stored;
use crate::model::{Biases, Leaf, Positions, Rope, RopeScaling, Weights, specs};
use kernels::BlockFormat;
use text::progress::{Progress, Stopped, Unit};

#[test]
fn a_file_of_the_gguf_package_loads_bit_for_bit() {
    for family in ["gpt2", "llama", "qwen2", "qwen3"] {
        let model = open(&golden(&format!("{family}.gguf"))).unwrap();
        let directory = open(&golden_dir(family)).unwrap();
        assert_eq!(model.architecture(), directory.architecture());
        assert!(model.warnings.is_empty(), "{:?}", model.warnings);
        assert_eq!(model.dtype(), "BF16, F16, F32");
        let config = |c: &Config| Config { dropout: 0.0, ..c.clone() };
        if family == "llama" {
            let Positions::Rotary(Rope { theta: 10_000.0, scaling }) = &model.config.positions else {
                panic!("{:?}", model.config)
            };
            let &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_seq_len } =
                scaling
            else {
                panic!("{scaling:?}")
            };
            assert!((factor - 8.0).abs() < 1e-4, "{factor}");
            assert_eq!((low_freq_factor, high_freq_factor, original_seq_len), (1.0, 4.0, 8192));
            let plain = Config { positions: directory.config.positions.clone(), ..config(&model.config) };
            assert_eq!(plain, config(&directory.config));
        } else {
            assert_eq!(config(&model.config), config(&directory.config));
        }

        let expected =
            parse(&fs::read(golden_dir("").with_file_name(format!("{family}.safetensors"))).unwrap());
        model
            .weights(|spec, values| {
                let exact = floats(&expected[&format!("weight.{}", spec.name)]);
                // The tensors take turns in three formats, and an array may be put together from several of
                // them.
                let fits = |(x, y): (&f32, &f32)| {
                    [*y, f16::from_f32(*y).to_f32(), bf16::from_f32(*y).to_f32()].contains(x)
                };
                assert_eq!(values.len(), exact.len());
                assert!(values.iter().zip(&exact).all(fits), "{family}: {}", spec.name);
            })
            .unwrap();
    }
}

#[test]
fn every_shape_that_can_be_written_comes_back() {
    let mut written = Vec::new();
    for (class, config) in shapes() {
        let shelf = tempdir().unwrap();
        let model = saved(&shelf.path().join("model"), &config);
        let out = shelf.path().join("deep/model.gguf");
        let result = write(&model, Quant::F32, &out);
        let no_words =
            config.n_label.is_some() || ["OpenAIGPTLMHeadModel", "GPTNeoForCausalLM"].contains(&class);
        let odd_yarn =
            matches!(config.rope(), Some(Rope { scaling: RopeScaling::Yarn { truncate: false, .. }, .. }));
        if no_words || odd_yarn {
            let said = format!("{:#}", result.unwrap_err());
            let reason = if odd_yarn { "YaRN" } else { "GPT-2, Llama, Qwen2 and Qwen3" };
            assert!(said.contains(reason) && said.contains("model.gguf cannot be written"), "{said}");
            assert!(!out.parent().unwrap().exists());
            continue;
        }
        let Written { architecture, bytes, .. } = result.unwrap();
        assert_eq!(fs::metadata(&out).unwrap().len(), bytes);
        let read = open(&out).unwrap();
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
        assert_eq!(read.config, Config { dropout: 0.0, ..config });
        assert_eq!((read.architecture(), read.dtype().as_str()), (class, "F32"));
        assert_eq!(read.weights(to_host).unwrap(), model.weights(to_host).unwrap());
        let (ours, theirs) = (tokenizer(), read.tokenizer().unwrap().unwrap());
        assert_eq!(ours.specials(), theirs.specials());
        assert_eq!((ours.encode("abba ab"), 6), (theirs.encode("abba ab"), theirs.vocab_size()));
        written.push(architecture);
        // From one file to the next nothing changes, whatever order its tensors have.
        let again = shelf.path().join("again.gguf");
        write_gguf(&read, &theirs, "tiny", Quant::F32, &again, &Silent).unwrap();
        assert_eq!(open(&again).unwrap().weights(to_host).unwrap(), model.weights(to_host).unwrap());
    }
    assert_eq!(written, ["gpt2", "gpt2", "llama", "llama", "llama", "llama", "qwen2", "qwen3"]);
}

/// A file's q8_0 stays in blocks, in our order of rows, with the numbers that it has; blocks that are asked for are
/// nearly those of the model.
#[test]
fn matrices_in_blocks_are_read_as_blocks() {
    let shelf = tempdir().unwrap();
    let llama = Config { n_kv_head: 2, d_ff: 64, qk_norm: false, ..Config::modern(7, 5, 2, 4, 32) };
    for (config, of_file) in [
        (Config { tied_head: true, ..llama.clone() }, Quant::Q8_0),
        (Config { tied_head: false, ..llama.clone() }, Quant::Q8_0),
        (llama, Quant::F16),
    ] {
        let model = saved(&shelf.path().join(format!("{of_file:?}-{}", config.tied_head)), &config);
        let out = shelf.path().join(format!("{of_file:?}-{}.gguf", config.tied_head));
        write(&model, of_file, &out).unwrap();
        let file = open(&out).unwrap();
        let in_blocks = |stored| {
            let mut names = Vec::new();
            let weights = file.stored_weights(stored, |spec, leaf| match leaf {
                Leaf::Values(values) => values,
                Leaf::Blocks(matrix) => {
                    names.push(spec.name.clone());
                    assert_eq!(matrix.shape(), [spec.shape[0], spec.shape[1]]);
                    matrix.values()
                }
            });
            (names, weights.unwrap())
        };
        let values = file.weights(to_host).unwrap();
        let (names, read) = in_blocks(Stored::AsInFile);
        assert_eq!((names.len() > 7, of_file), (of_file == Quant::Q8_0, of_file), "{names:?}");
        assert_eq!(Weights { lm_head: values.lm_head.clone(), ..read }, values, "{of_file:?}");
        assert_eq!(in_blocks(Stored::Exactly), (Vec::new(), values.clone()));
        assert_eq!(file.spared_bytes() > 0, of_file == Quant::Q8_0);
        let (names, read) = in_blocks(Stored::In(BlockFormat::Q4_0));
        assert_eq!(names.len(), 4 * config.n_layer + 1, "the matrices of blocks and the head: {names:?}");
        let off = |x: &[f32], y: &[f32]| {
            let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            x.iter().zip(y).map(|(x, y)| (x - y).abs() / largest).fold(0.0, f32::max)
        };
        assert!(off(values.head(), read.head()) < 0.005, "the head in 8 bits");
        assert_eq!(read.wte, values.wte);
        let off = off(&values.blocks[1].qkv.weight, &read.blocks[1].qkv.weight);
        assert!((0.01..0.13).contains(&off), "{off}");
    }
}

/// The tensors of what is one matrix here may be in blocks of several formats, as those of most files are.
#[test]
fn blocks_of_several_formats_make_one_matrix() {
    let shelf = tempdir().unwrap();
    let config = Config { n_kv_head: 2, d_ff: 512, tied_head: true, ..Config::modern(7, 5, 1, 4, 256) };
    let out = shelf.path().join("model.gguf");
    write(&saved(&shelf.path().join("model"), &config), Quant::F32, &out).unwrap();
    let formats = [
        ("attn_q", BlockFormat::Q4K),
        ("attn_k", BlockFormat::Q5_0),
        ("attn_v", BlockFormat::Q6K),
        ("attn_output", BlockFormat::Q5K),
        ("ffn_gate", BlockFormat::Q4_1),
        ("ffn_up", BlockFormat::Q5_1),
        ("ffn_down", BlockFormat::Q4_0),
        ("token_embd", BlockFormat::Q6K),
    ];
    let mixed = container::with_noise(&fs::read(&out).unwrap(), &formats);
    fs::write(&out, mixed).unwrap();
    let file = open(&out).unwrap();
    let values = file.weights(to_host).unwrap();
    let (mut names, mut spared) = (Vec::new(), 0);
    let read = file
        .stored_weights(Stored::AsInFile, |spec, leaf| match leaf {
            Leaf::Values(values) => values,
            Leaf::Blocks(matrix) => {
                let formats: Vec<String> =
                    matrix.bands().iter().map(|band| band.format.to_string()).collect();
                names.push(format!("{} {}", spec.name, formats.join("+")));
                assert_eq!(matrix.shape(), [spec.shape[0], spec.shape[1]]);
                spared += if spec.is_block_matrix() { 4 * matrix.len() - matrix.bytes() } else { 0 };
                matrix.values()
            }
        })
        .unwrap();
    let expected = [
        "wte q6_k",
        "blocks.0.qkv.weight q4_k+q5_0+q6_k",
        "blocks.0.attn_out.weight q5_k",
        "blocks.0.mlp_up.weight q4_1+q5_1",
        "blocks.0.mlp_down.weight q4_0",
    ];
    assert_eq!(names, expected);
    assert_eq!(read.lm_head.as_ref(), Some(&values.wte));
    assert_eq!(Weights { lm_head: None, ..read }, values);
    assert_eq!(file.spared_bytes(), spared as u64);
}

#[test]
fn matrices_are_quantised_and_vectors_are_not() {
    let shelf = tempdir().unwrap();
    // Rows of 32 fit the blocks, those of the last matrix, 40, do not.
    let config = Config { d_ff: 40, ..Config::gpt2(7, 5, 1, 2, 32) };
    let model = saved(&shelf.path().join("model"), &config);
    let exact = model.weights(to_host).unwrap();
    let formats = |list: &[(&str, usize)]| -> Vec<(String, usize)> {
        list.iter().map(|(format, count)| (format.to_string(), *count)).collect()
    };
    for (quant, expected, tolerance) in [
        (Quant::F16, formats(&[("F16", 5), ("F32", 11)]), 1.0 / 2048.0),
        (Quant::Q8_0, formats(&[("F16", 1), ("F32", 11), ("Q8_0", 4)]), 0.6 / 127.0),
        (Quant::Q4_0, formats(&[("F16", 1), ("F32", 11), ("Q4_0", 3), ("Q8_0", 1)]), 1.0 / 8.0),
    ] {
        let out = shelf.path().join(format!("{quant:?}.gguf"));
        assert_eq!(write(&model, quant, &out).unwrap().formats, expected);
        let read = open(&out).unwrap().weights(to_host).unwrap();
        let pairs = exact.leaves().into_iter().zip(read.leaves());
        for (spec, (a, b)) in specs(&config).leaves().into_iter().zip(pairs) {
            let largest = a.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let error = a.iter().zip(b).fold(0.0f32, |worst, (x, y)| worst.max((x - y).abs()));
            let is_plain = spec.shape.len() == 1 || spec.name == "wpe";
            assert_eq!(error == 0.0, is_plain, "{quant:?}: {}", spec.name);
            assert!(error <= tolerance * largest, "{quant:?}: {} differs by {error}", spec.name);
        }
    }
}

/// Asks to stop once it has heard of `after` tensors.
struct Impatient(std::sync::atomic::AtomicUsize);

impl Progress for Impatient {
    fn begin(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn line(&self, _: &str) {}
    fn end(&self) {}
    fn should_stop(&self) -> bool {
        self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) == 0
    }
}

#[test]
fn what_fails_leaves_nothing_and_nothing_is_overwritten() {
    let shelf = tempdir().unwrap();
    let config = Config { norm_eps: 1e-6, ..Config::gpt2(7, 5, 1, 1, 2) };
    let model = saved(&shelf.path().join("model"), &config);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(shelf.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let out = shelf.path().join("out.gguf");
    let impatient = Impatient(3.into());
    let stopped = write_gguf(&model, &tokenizer(), "tiny", Quant::F32, &out, &impatient).unwrap_err();
    assert!(stopped.is::<Stopped>(), "{stopped:#}");
    assert_eq!(names(), ["model"]);

    let weights = model.weights(|_, values| vec![1e9; values.len()]).unwrap();
    let huge = shelf.path().join("huge");
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut from_host,
        eot_token: None,
        eos_token: None,
        end_tokens: &[],
        files: &[],
        about: about(0),
    };
    save(&huge, contents).unwrap();
    let said = format!("{:#}", write(&open(&huge).unwrap(), Quant::F16, &out).unwrap_err());
    assert!(said.contains("out.gguf was not written") && said.contains("token_embd.weight"), "{said}");
    assert_eq!(names(), ["huge", "model"]);

    // What a killed program left behind does not stay.
    fs::write(shelf.path().join("out.gguf.mynah.tmp"), "half").unwrap();
    write(&model, Quant::F32, &out).unwrap();
    assert_eq!(names(), ["huge", "model", "out.gguf"]);
    // What was there is replaced by a whole file, or stays.
    let before = fs::read(&out).unwrap();
    write(&open(&huge).unwrap(), Quant::F16, &out).unwrap_err();
    assert_eq!(fs::read(&out).unwrap(), before);
    write(&model, Quant::F16, &out).unwrap();
    assert_ne!(fs::read(&out).unwrap(), before);
}

#[test]
fn a_tokenizer_with_more_tokens_than_the_model_is_refused() {
    let shelf = tempdir().unwrap();
    let model = saved(&shelf.path().join("model"), &Config::gpt2(5, 5, 1, 1, 2));
    let said = format!("{:#}", write(&model, Quant::F32, &shelf.path().join("x.gguf")).unwrap_err());
    assert!(said.contains("number 5, the model has 5"), "{said}");
}

#[test]
fn a_shape_between_the_architectures_is_refused() {
    let shelf = tempdir().unwrap();
    let model = saved(&shelf.path().join("model"), &Config::modern(7, 5, 1, 1, 4));
    let both = Config { qk_norm: true, biases: Biases::Qkv, ..model.config.clone() };
    let model = Checkpoint { config: both, ..model };
    let said = format!("{:#}", write(&model, Quant::F32, &shelf.path().join("x.gguf")).unwrap_err());
    assert!(said.contains("no architecture of GGUF"), "{said}");
}
