//! A model of tests that calls the calculator whenever it is its turn, and never comes to an answer.

use kernels::{Cpu, CpuOptions, Precision, rng};

use crate::complete::Options;
use crate::data::Prompter;
use crate::data::messages::{Message, Role};
use crate::model::{self, Config, Weights};
use crate::progress::Silent;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::with_ours;

/// What it says, which is one token of its tokenizer.
pub(crate) const CALL: &str =
    "<tool_call>\n{\"name\": \"calculator\", \"arguments\": {\"expression\": \"1 + 1\"}}\n</tool_call>";

pub(crate) struct Rigged {
    pub(crate) cpu: Cpu,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) config: Config,
    pub(crate) weights: Weights<<Cpu as kernels::Backend>::Tensor>,
    /// The token of a call.
    pub(crate) call: u32,
}

/// The question.
pub(crate) fn asked() -> Vec<Message> {
    vec![Message::new(Role::User, "How much?")]
}

/// The likeliest tokens.
pub(crate) fn greedy(max_tokens: usize) -> Options {
    let mut options = Options { max_tokens, ..Options::default() };
    options.sampling.temperature = 0.0;
    options
}

/// What comes next is a function of the last token alone: blocks add nothing, and a row of the head is the code of the
/// token that it follows.
pub(crate) fn rigged() -> Rigged {
    let texts = (0..40).map(|i| Ok(format!("user assistant tool tools How much? {i}\n")));
    let plain = Tokenizer::train(texts, 290, &[], &Silent).expect("a tokenizer");
    let tokenizer = plain.extended(&[CALL.to_owned()]).and_then(|all| with_ours(&all)).expect("a template");
    let prompter = Prompter::new(&tokenizer).expect("a way to ask");
    let call = tokenizer.special(CALL).expect("a token");
    let (end, vocab_size, d_model) = (prompter.end_tokens()[0], tokenizer.vocab_size(), 64);
    let turn = *prompter.prompt(&asked()).expect("a prompt").last().expect("a token");
    let config = Config { tied_head: false, ..Config::gpt2(vocab_size, 1024, 1, 2, d_model) };
    let mut cpu = Cpu::new(CpuOptions { threads: 1, precision: Precision::F32, ..CpuOptions::default() });
    let code = |token: u64| -> Vec<f32> {
        let bit = |at: usize| rng::below(1, token, at as u64, 2) as f32;
        (0..d_model).map(|at| 2.0 * bit(at) - 1.0).collect()
    };
    let mut head = vec![0.0; vocab_size * d_model];
    for (token, after) in [(call, turn), (end, call)] {
        head[token as usize * d_model..][..d_model].copy_from_slice(&code(after.into()));
    }
    let codes: Vec<f32> = (0..vocab_size as u64).flat_map(code).collect();
    let specs = model::specs(&config);
    let mut given = specs.map(|spec| match spec.name.as_str() {
        "wte" => codes.clone(),
        "lm_head" => head.clone(),
        name => vec![if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 }; spec.len()],
    });
    let mut given = given.leaves_mut().into_iter().map(std::mem::take).collect::<Vec<_>>().into_iter();
    let weights = specs.map(|_| model::Leaf::Values(given.next().expect("a leaf for each")).upload(&mut cpu));
    Rigged { cpu, tokenizer, config, weights, call }
}
