//! The architectures that are read and written: names of tensors, and the entries that are a [`Config`].

use anyhow::{Context, Result, bail, ensure};

use super::super::family::{Names, Rows, Tensor, interleaved, part, whole};
use super::super::fit::EMBEDDING;
use super::super::tensor_file::TensorFiles;
use super::entries::Entries;
use super::fields::Fields;
use super::metadata::Metadata;
use super::rope;
use crate::model::{Biases, Config, Positions};

/// A family of models, as GGUF files spell it.
pub(super) struct Architecture {
    /// `general.architecture`.
    pub(super) name: &'static str,
    /// The class that `transformers` loads such models with.
    pub(super) class: &'static str,
    /// The tensors of its files.
    pub(super) names: Names,
    shape: Shape,
}

/// Which choices of a [`Config`] an architecture makes.
enum Shape {
    Gpt2,
    Llama { biases: Biases, qk_norm: bool },
}

const ARCHITECTURES: [&Architecture; 4] = [&GPT2, &LLAMA, &QWEN2, &QWEN3];

static GPT2: Architecture = Architecture {
    name: "gpt2",
    class: "GPT2LMHeadModel",
    names: Names {
        tensors: &[
            ENDS,
            &[
                whole("wpe", POSITIONS),
                whole("final_norm.bias", "output_norm.bias"),
                whole("blocks.{}.norm1.bias", "blk.{}.attn_norm.bias"),
                whole("blocks.{}.qkv.weight", "blk.{}.attn_qkv.weight"),
                whole("blocks.{}.qkv.bias", "blk.{}.attn_qkv.bias"),
                whole("blocks.{}.attn_out.bias", "blk.{}.attn_output.bias"),
                whole("blocks.{}.norm2.bias", "blk.{}.ffn_norm.bias"),
                whole("blocks.{}.mlp_up.weight", "blk.{}.ffn_up.weight"),
                whole("blocks.{}.mlp_up.bias", "blk.{}.ffn_up.bias"),
                whole("blocks.{}.mlp_down.bias", "blk.{}.ffn_down.bias"),
            ],
        ],
        buffers: &[],
        scales_attention: true,
    },
    shape: Shape::Gpt2,
};

/// Its heads keep the values of a rotated pair beside each other, as Llama was published.
static LLAMA: Architecture = Architecture {
    name: "llama",
    class: "LlamaForCausalLM",
    names: Names {
        tensors: &[
            ENDS,
            SWIGLU,
            &[
                interleaved("blocks.{}.qkv.weight", "blk.{}.attn_q.weight", Rows::Queries),
                interleaved("blocks.{}.qkv.weight", "blk.{}.attn_k.weight", Rows::Keys),
                part("blocks.{}.qkv.weight", "blk.{}.attn_v.weight", Rows::Values),
            ],
        ],
        // Not learned, but not ignored either: the configuration is made of it.
        buffers: &[rope::FACTORS],
        scales_attention: true,
    },
    shape: Shape::Llama { biases: Biases::None, qk_norm: false },
};

static QWEN2: Architecture = Architecture {
    name: "qwen2",
    class: "Qwen2ForCausalLM",
    names: Names {
        tensors: &[
            ENDS,
            SWIGLU,
            QWEN,
            &[
                part("blocks.{}.qkv.bias", "blk.{}.attn_q.bias", Rows::Queries),
                part("blocks.{}.qkv.bias", "blk.{}.attn_k.bias", Rows::Keys),
                part("blocks.{}.qkv.bias", "blk.{}.attn_v.bias", Rows::Values),
            ],
        ],
        buffers: &[],
        scales_attention: true,
    },
    shape: Shape::Llama { biases: Biases::Qkv, qk_norm: false },
};

static QWEN3: Architecture = Architecture {
    name: "qwen3",
    class: "Qwen3ForCausalLM",
    names: Names {
        tensors: &[
            ENDS,
            SWIGLU,
            QWEN,
            &[
                whole("blocks.{}.q_norm", "blk.{}.attn_q_norm.weight"),
                whole("blocks.{}.k_norm", "blk.{}.attn_k_norm.weight"),
            ],
        ],
        buffers: &[],
        scales_attention: true,
    },
    shape: Shape::Llama { biases: Biases::None, qk_norm: true },
};

/// The embedding of positions, which programs want to be plain floats.
pub(super) const POSITIONS: &str = "position_embd.weight";
/// Those of tokens.
pub(super) const INPUT: &str = "token_embd.weight";
/// The head.
pub(super) const OUTPUT: &str = "output.weight";

/// What every architecture has.
const ENDS: &[Tensor] = &[
    whole(EMBEDDING, INPUT),
    whole("blocks.{}.norm1.weight", "blk.{}.attn_norm.weight"),
    whole("blocks.{}.attn_out.weight", "blk.{}.attn_output.weight"),
    whole("blocks.{}.norm2.weight", "blk.{}.ffn_norm.weight"),
    whole("blocks.{}.mlp_down.weight", "blk.{}.ffn_down.weight"),
    whole("final_norm.weight", "output_norm.weight"),
    whole("lm_head", OUTPUT),
];

const SWIGLU: &[Tensor] = &[
    part("blocks.{}.mlp_up.weight", "blk.{}.ffn_gate.weight", Rows::Gate),
    part("blocks.{}.mlp_up.weight", "blk.{}.ffn_up.weight", Rows::Up),
];

const QWEN: &[Tensor] = &[
    part("blocks.{}.qkv.weight", "blk.{}.attn_q.weight", Rows::Queries),
    part("blocks.{}.qkv.weight", "blk.{}.attn_k.weight", Rows::Keys),
    part("blocks.{}.qkv.weight", "blk.{}.attn_v.weight", Rows::Values),
];

impl Architecture {
    /// That of a file.
    pub(super) fn of(metadata: &Metadata) -> Result<&'static Architecture> {
        let name = metadata.text("general.architecture")?.context("general.architecture is missing")?;
        let found = ARCHITECTURES.into_iter().find(|architecture| architecture.name == name);
        found
            .with_context(|| format!("general.architecture {name:?} is not supported; known are {}", known()))
    }

    /// The one that models of this shape are written as.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn for_config(config: &Config) -> Result<&'static Architecture> {
        let found = ARCHITECTURES.into_iter().find(|architecture| {
            let Config { vocab_size, seq_len, n_layer, n_head, d_model, .. } = *config;
            // All that a file says, from the model; all that the architecture decides, from itself.
            let theirs = match architecture.shape {
                Shape::Gpt2 => Config::gpt2(vocab_size, seq_len, n_layer, n_head, d_model),
                Shape::Llama { biases, qk_norm } => Config {
                    n_kv_head: config.n_kv_head,
                    head_dim: config.head_dim,
                    positions: Positions::Rotary(config.rope().cloned().unwrap_or_default()),
                    biases,
                    qk_norm,
                    ..Config::modern(vocab_size, seq_len, n_layer, n_head, d_model)
                },
            };
            let Config { d_ff, dropout, norm_eps, tied_head, .. } = *config;
            *config == Config { d_ff, dropout, norm_eps, tied_head, ..theirs }
        });
        found.with_context(|| {
            format!(
                "no architecture of GGUF is a model of this shape; those of GPT-2, Llama, Qwen2 and Qwen3 ({}) can be \
                 written, those of GPT-1 (norms after the layers) and GPT-3 (banded layers) cannot, nor those that score",
                known()
            )
        })
    }

    /// The configuration that a file describes, its head taken to be tied.
    pub(super) fn config(&self, fields: &Fields<'_>, tensors: &TensorFiles) -> Result<Config> {
        let embedding = self.names.of(EMBEDDING);
        let Some(&[vocab_size, _]) = tensors.get(embedding).map(|tensor| tensor.shape()) else {
            bail!("the tensor {embedding}, one row a token, is missing");
        };
        if let Some(said) = fields.optional_size("vocab_size")? {
            ensure!(
                said == vocab_size,
                "{} is {said}, {embedding} has {vocab_size} rows",
                fields.key("vocab_size")
            );
        }
        let (seq_len, n_layer) = (fields.size("context_length")?, fields.size("block_count")?);
        let (n_head, d_model) = (fields.size("attention.head_count")?, fields.size("embedding_length")?);
        let n_kv_head = fields.optional_size("attention.head_count_kv")?.unwrap_or(n_head);
        let (base, eps) = match self.shape {
            Shape::Gpt2 => {
                ensure!(
                    n_kv_head == n_head,
                    "{} differs from head_count",
                    fields.key("attention.head_count_kv")
                );
                (Config::gpt2(vocab_size, seq_len, n_layer, n_head, d_model), "attention.layer_norm_epsilon")
            }
            Shape::Llama { biases, qk_norm } => {
                let base = Config::modern(vocab_size, seq_len, n_layer, n_head, d_model);
                let head_dim = head_dim(fields, base.head_dim)?;
                let positions = Positions::Rotary(rope::read(fields, tensors, head_dim, seq_len)?);
                (
                    Config { n_kv_head, head_dim, positions, biases, qk_norm, ..base },
                    "attention.layer_norm_rms_epsilon",
                )
            }
        };
        let norm_eps = fields.float(eps)?.with_context(|| format!("{} is missing", fields.key(eps)))? as f32;
        Ok(Config { d_ff: fields.size("feed_forward_length")?, norm_eps, ..base })
    }

    /// The entries that describe a model.
    ///
    /// # Errors
    /// A number, or a rotary embedding, that GGUF has no words for.
    pub(super) fn write(&self, config: &Config, entries: &mut Entries) -> Result<()> {
        let key = |name: &str| format!("{}.{name}", self.name);
        let mut sizes = vec![
            ("vocab_size", config.vocab_size),
            ("context_length", config.seq_len),
            ("embedding_length", config.d_model),
            ("block_count", config.n_layer),
            ("feed_forward_length", config.d_ff),
            ("attention.head_count", config.n_head),
            ("attention.head_count_kv", config.n_kv_head),
        ];
        if config.rope().is_some() {
            let head = ["attention.key_length", "attention.value_length", "rope.dimension_count"];
            sizes.extend(head.map(|name| (name, config.head_dim)));
        }
        for (name, size) in sizes {
            entries.size(&key(name), size)?;
        }
        let eps = match self.shape {
            Shape::Gpt2 => "attention.layer_norm_epsilon",
            Shape::Llama { .. } => "attention.layer_norm_rms_epsilon",
        };
        entries.float(&key(eps), config.norm_eps);
        match config.rope() {
            Some(rope) => rope::write(entries, rope, &key, self.names.is_buffer(rope::FACTORS)),
            None => Ok(()),
        }
    }
}

/// Width of a head; all of it is rotated.
fn head_dim(fields: &Fields<'_>, default: usize) -> Result<usize> {
    let head_dim = fields.optional_size("attention.key_length")?.unwrap_or(default);
    for name in ["attention.value_length", "rope.dimension_count"] {
        let other = fields.optional_size(name)?.unwrap_or(head_dim);
        ensure!(
            other == head_dim,
            "{} is {other}, not the {head_dim} of a head's keys: not supported",
            fields.key(name)
        );
    }
    Ok(head_dim)
}

fn known() -> String {
    ARCHITECTURES.map(|architecture| architecture.name).join(", ")
}
