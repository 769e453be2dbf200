//! After a first round of an operation on [`Cpu`], further rounds of the same sizes allocate nothing.
//!
//! A program of its own, without the usual test harness: the allocator counts for the whole process.

mod harness;

use kernels::{
    AdamW, AttentionShape, Backend, Cpu, CpuOptions, Distil, DistilShape, Draw, Drawn, Dropout, HeadShape,
    Level, LinearShape, Parameter, Precision, StoredShape,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's; counting on the side does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, size) }
    }
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    const ONCE: &[&str] = &[
        "zeros",
        "arena",
        "activation",
        "blocks",
        "packed",
        "share",
        "len",
        "upload",
        "download",
        "ids",
        "scalars",
    ];
    let mut needed = harness::operations();
    needed.retain(|name| !ONCE.contains(name));
    let place = needed.iter().position(|name| *name == "draw").expect("it is there");
    needed.splice(place..place, harness::distillations());
    let watched: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(needed, watched, "operations of the trait (left), those that are watched (right)");

    for precision in [Precision::F32, Precision::Bf16] {
        for level in Level::available() {
            let mut cpu = Cpu::new(CpuOptions { threads: 2, precision, level });
            let mut tensors = Tensors::new(&mut cpu);
            for round in 0..4 {
                for (name, operation) in OPERATIONS {
                    let before = ALLOCATIONS.load(Relaxed);
                    operation(&mut cpu, &mut tensors);
                    let count = ALLOCATIONS.load(Relaxed) - before;
                    let allowed = round == 0 || count == 0;
                    assert!(
                        allowed,
                        "{level}, {precision:?}: {name} allocated {count} times in round {round}"
                    );
                }
            }
        }
    }
}

const ROWS: usize = 70;
const LENS: [u32; 2] = [30, 40];
const GROUPS: [usize; 3] = [35, 30, 5];
const WIDTH: usize = 48;
/// Enough that both threads get a chunk.
const FF: usize = 500;
const VOCAB: usize = 100;
const LINEAR: LinearShape = LinearShape { rows: ROWS, d_in: WIDTH, d_out: 3 * WIDTH };
const ATTENTION: AttentionShape =
    AttentionShape { n_head: 3, n_kv_head: 3, head_dim: WIDTH / 3, scale: 0.25, window: None };
/// Slot, start and length of two spans.
const SPANS: [u32; 6] = [0, 3, ROWS as u32 - 1, 1, 20, 1];
const CAPACITY: usize = ROWS + 2;
const HEAD: HeadShape = HeadShape::new(ROWS, WIDTH, VOCAB);
const DISTIL: DistilShape = DistilShape { student: HEAD, teacher_d_model: WIDTH, beta: 0.5 };
const STORED: StoredShape = StoredShape { student: HEAD, k: 1, beta: 0.5 };
const DROPOUT: Dropout = Dropout { p: 0.1, seed: 1, stream: 2, first_row: 0 };
const ADAMW: AdamW = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: true, grad_clip: 1.0 };

type Tensor = <Cpu as Backend>::Tensor;
type Operation = fn(&mut Cpu, &mut Tensors);

/// What the operations work on, in turn.
struct Tensors {
    stream: Tensor,
    dstream: Tensor,
    x: Tensor,
    dx: Tensor,
    /// Also what a linear layer turns `x` into.
    qkv: Tensor,
    dqkv: Tensor,
    normed: Tensor,
    gate_up: Tensor,
    dgate_up: Tensor,
    ff: Tensor,
    stats: Tensor,
    rms_stats: Tensor,
    head_stats: Tensor,
    lse: Tensor,
    keys: Tensor,
    values: Tensor,
    embedding: Tensor,
    dembedding: Tensor,
    weight: Tensor,
    dweight: Tensor,
    packed: Tensor,
    bias: Tensor,
    dbias: Tensor,
    norm: Tensor,
    dnorm: Tensor,
    gains: [Tensor; 2],
    dgains: [Tensor; 2],
    m: Tensor,
    v: Tensor,
    work: [Tensor; 3],
    resized: Tensor,
    indices: Vec<u32>,
    lens: Vec<u32>,
    spans: Vec<u32>,
    list: Vec<u32>,
    told: Vec<f64>,
    logprobs: Vec<f64>,
    norms: Vec<f64>,
    updates: Vec<f64>,
    entropies: Vec<f64>,
    dlogprobs: Vec<f64>,
}

impl Tensors {
    fn new(cpu: &mut Cpu) -> Self {
        let [mut weight, mut embedding] = [LINEAR.d_out, VOCAB].map(|rows| cpu.zeros(rows * WIDTH));
        cpu.upload(&mut weight, &harness::noise(1, LINEAR.d_out * WIDTH));
        cpu.upload(&mut embedding, &harness::noise(2, VOCAB * WIDTH));
        Self {
            stream: cpu.zeros(ROWS * WIDTH),
            dstream: cpu.zeros(ROWS * WIDTH),
            x: cpu.activation(ROWS * WIDTH),
            dx: cpu.activation(ROWS * WIDTH),
            qkv: cpu.activation(ROWS * 3 * WIDTH),
            dqkv: cpu.activation(ROWS * 3 * WIDTH),
            normed: cpu.activation(ROWS * 3 * WIDTH),
            gate_up: cpu.activation(ROWS * 2 * FF),
            dgate_up: cpu.activation(ROWS * 2 * FF),
            ff: cpu.activation(ROWS * FF),
            stats: cpu.zeros(ROWS * 2),
            rms_stats: cpu.zeros(ROWS),
            head_stats: cpu.zeros(ROWS * 2 * ATTENTION.n_head),
            lse: cpu.zeros(ROWS * ATTENTION.n_head),
            keys: cpu.activation(2 * CAPACITY * WIDTH),
            values: cpu.activation(2 * CAPACITY * WIDTH),
            embedding,
            dembedding: cpu.zeros(VOCAB * WIDTH),
            packed: cpu.packed(&weight, LINEAR.d_in, LINEAR.d_out),
            dweight: cpu.zeros(LINEAR.d_out * LINEAR.d_in),
            m: cpu.zeros(LINEAR.d_out * LINEAR.d_in),
            v: cpu.zeros(LINEAR.d_out * LINEAR.d_in),
            weight,
            bias: cpu.zeros(LINEAR.d_out),
            dbias: cpu.zeros(LINEAR.d_out),
            norm: cpu.zeros(WIDTH),
            dnorm: cpu.zeros(WIDTH),
            gains: [(); 2].map(|()| cpu.zeros(ATTENTION.head_dim)),
            dgains: [(); 2].map(|()| cpu.zeros(ATTENTION.head_dim)),
            work: [(); 3].map(|()| cpu.zeros(0)),
            resized: cpu.activation(0),
            indices: (0..ROWS as u32).collect(),
            lens: LENS.to_vec(),
            spans: SPANS.to_vec(),
            list: Vec::new(),
            told: Vec::new(),
            logprobs: Vec::new(),
            norms: Vec::new(),
            updates: Vec::new(),
            entropies: Vec::new(),
            dlogprobs: vec![-1.0; ROWS],
        }
    }
}

/// A round of each.
const OPERATIONS: &[(&str, Operation)] = &[
    ("upload_ids", |cpu, t| {
        [&SPANS[..], &[], &LENS].iter().for_each(|ids| cpu.upload_ids(&mut t.list, ids));
    }),
    // Every round begins its lists here.
    ("upload_scalars", |cpu, t| {
        [&mut t.logprobs, &mut t.entropies, &mut t.norms, &mut t.updates]
            .into_iter()
            .for_each(|list| cpu.upload_scalars(list, &[1.0]));
    }),
    ("read", |cpu, t| cpu.read(&mut t.told, &[&t.logprobs, &t.dlogprobs])),
    ("copy", |cpu, t| cpu.copy(&mut t.dx, &t.x)),
    ("resize", |cpu, t| {
        [WIDTH, 3 * WIDTH, 2 * WIDTH].iter().for_each(|&len| cpu.resize(&mut t.resized, len))
    }),
    ("fill", |cpu, t| cpu.fill(&mut t.dx, 0.5)),
    ("add", |cpu, t| cpu.add(&mut t.stream, &t.dstream, &t.x)),
    ("accumulate", |cpu, t| cpu.accumulate(&mut t.dstream, &t.x)),
    ("scale", |cpu, t| cpu.scale(&mut t.dx, 0.5)),
    ("scale_columns", |cpu, t| cpu.scale_columns(&mut t.dx, &t.x, None)),
    ("average", |cpu, t| cpu.average(&mut t.dstream, &t.x, 0.9)),
    ("gelu_forward", |cpu, t| cpu.gelu_forward(&mut t.x, &t.dx)),
    ("gelu_backward", |cpu, t| cpu.gelu_backward(&mut t.qkv, &t.dqkv, &t.dqkv)),
    ("swiglu_forward", |cpu, t| cpu.swiglu_forward(&mut t.ff, &t.gate_up, FF)),
    ("swiglu_backward", |cpu, t| cpu.swiglu_backward(&mut t.dgate_up, &t.ff, &t.gate_up, FF)),
    ("dropout", |cpu, t| cpu.dropout(&mut t.x, WIDTH, &DROPOUT)),
    ("embed_forward", |cpu, t| {
        cpu.embed_forward(&mut t.stream, &t.embedding, Some(&t.embedding), &t.indices, &t.indices, WIDTH);
    }),
    ("embed_backward", |cpu, t| {
        cpu.embed_backward(&mut t.dembedding, None, &t.stream, &t.indices, &t.indices, WIDTH);
    }),
    ("gather_forward", |cpu, t| cpu.gather_forward(&mut t.x, &t.dx, &t.indices, WIDTH)),
    ("gather_backward", |cpu, t| cpu.gather_backward(&mut t.dstream, &t.dx, &t.indices, WIDTH)),
    ("layer_norm_forward", |cpu, t| {
        cpu.layer_norm_forward(&mut t.x, &mut t.stats, &t.stream, &t.norm, Some(&t.norm), 1e-5);
    }),
    ("layer_norm_backward", |cpu, t| {
        let (dx, dweight, dbias) = (&mut t.dstream, &mut t.dnorm, None);
        cpu.layer_norm_backward(dx, dweight, dbias, &t.dx, &t.stream, &t.stats, &t.norm, &GROUPS);
    }),
    ("add_layer_norm_forward", |cpu, t| {
        let (sum, out, stats, norm) = (&mut t.stream, &mut t.x, &mut t.stats, &t.norm);
        cpu.add_layer_norm_forward(sum, out, stats, &t.dstream, &t.dx, norm, Some(norm), 1e-5);
    }),
    ("rms_norm_forward", |cpu, t| {
        cpu.rms_norm_forward(&mut t.x, &mut t.rms_stats, &t.stream, &t.norm, 1e-5);
    }),
    ("rms_norm_backward", |cpu, t| {
        let (dx, dweight) = (&mut t.dstream, &mut t.dnorm);
        cpu.rms_norm_backward(dx, dweight, &t.dx, &t.stream, &t.rms_stats, &t.norm, &GROUPS);
    }),
    ("add_rms_norm_forward", |cpu, t| {
        let (sum, out, stats) = (&mut t.stream, &mut t.x, &mut t.rms_stats);
        cpu.add_rms_norm_forward(sum, out, stats, &t.dstream, &t.dx, &t.norm, 1e-5);
    }),
    ("head_norm_forward", |cpu, t| {
        let (out, stats, [q, k]) = (&mut t.dqkv, &mut t.head_stats, &t.gains);
        cpu.head_norm_forward(out, stats, &t.qkv, q, k, 1e-5, &ATTENTION);
    }),
    ("head_norm_backward", |cpu, t| {
        let (stats, [q, k], [dq, dk]) = (&t.head_stats, &t.gains, &mut t.dgains);
        let (dqkv, shape) = (&mut t.qkv, &ATTENTION);
        cpu.head_norm_backward(dqkv, dq, dk, &t.dqkv, &t.normed, stats, q, k, shape, &GROUPS);
    }),
    ("rope_forward", |cpu, t| cpu.rope_forward(&mut t.qkv, &t.stream, &t.indices, &ATTENTION)),
    ("rope_backward", |cpu, t| cpu.rope_backward(&mut t.dqkv, &t.stream, &t.indices, &ATTENTION)),
    ("linear_forward", |cpu, t| {
        cpu.linear_forward(&mut t.qkv, &t.x, &t.weight, Some(&t.bias), LINEAR);
        cpu.linear_forward(&mut t.qkv, &t.x, &t.packed, Some(&t.bias), LINEAR);
    }),
    ("linear_backward_input", |cpu, t| cpu.linear_backward_input(&mut t.dx, &t.dqkv, &t.weight, LINEAR)),
    ("linear_backward_weight", |cpu, t| {
        let dbias = Some(&mut t.dbias);
        cpu.linear_backward_weight(&mut t.dweight, dbias, &t.dqkv, &t.x, LINEAR, &GROUPS);
    }),
    ("linear_gelu_forward", |cpu, t| {
        cpu.linear_gelu_forward(&mut t.normed, &mut t.qkv, &t.x, &t.weight, Some(&t.bias), LINEAR);
    }),
    ("linear_gelu_backward_input", |cpu, t| {
        let (dx, between) = (&mut t.resized, &mut t.dx);
        cpu.resize(dx, ROWS * WIDTH);
        cpu.linear_gelu_backward_input(dx, between, &t.dqkv, &t.weight, &t.x, LINEAR);
    }),
    ("linear_add_forward", |cpu, t| {
        let (out, between, residual) = (&mut t.dqkv, &mut t.qkv, &t.normed);
        cpu.linear_add_forward(out, between, residual, &t.x, &t.weight, Some(&t.bias), LINEAR);
    }),
    ("attention_forward", |cpu, t| {
        cpu.attention_forward(&mut t.x, &mut t.lse, &t.qkv, &t.lens, &ATTENTION, Some(&DROPOUT));
    }),
    ("attention_backward", |cpu, t| {
        let dropout = Some(&DROPOUT);
        cpu.attention_backward(&mut t.dqkv, &t.dx, &t.x, &t.lse, &t.qkv, &t.lens, &ATTENTION, dropout);
    }),
    ("attention_cached", |cpu, t| {
        let (keys, values) = (&mut t.keys, &mut t.values);
        cpu.attention_cached(&mut t.x, keys, values, &t.qkv, &t.spans, CAPACITY, &ATTENTION);
    }),
    ("cache_fork", |cpu, t| cpu.cache_fork(&mut t.keys, 0, 1..2, ROWS, CAPACITY, &ATTENTION)),
    ("head_forward", |cpu, t| {
        let (logprobs, entropies) = (&mut t.logprobs, Some(&mut t.entropies));
        cpu.head_forward(logprobs, entropies, &t.x, &t.embedding, &t.indices, &HEAD);
    }),
    ("head_backward", |cpu, t| {
        let (logprobs, dhidden, dweight) = (&mut t.logprobs, &mut t.dx, &mut t.dembedding);
        let (dlogprobs, targets) = (&t.dlogprobs, &t.indices);
        cpu.head_backward(
            logprobs,
            dhidden,
            Some(dweight),
            dlogprobs,
            Some(dlogprobs),
            &t.x,
            &t.embedding,
            targets,
            &HEAD,
            &GROUPS,
        );
    }),
    ("distil_forward", |cpu, t| {
        let head = [&t.x, &t.embedding];
        cpu.distil_forward(&mut t.logprobs, head, head, &t.indices, &DISTIL);
    }),
    ("distil_backward", |cpu, t| {
        let (divergences, dhidden, dweight) = (&mut t.logprobs, &mut t.dx, Some(&mut t.dembedding));
        let head = [&t.x, &t.embedding];
        let (d, targets) = (&t.dlogprobs, &t.indices);
        cpu.distil_backward(divergences, dhidden, dweight, d, head, head, targets, &DISTIL, &GROUPS);
    }),
    ("stored_forward", |cpu, t| {
        let (head, tokens) = ([&t.x, &t.embedding], &t.indices);
        cpu.stored_forward(&mut t.logprobs, head, tokens, &t.dlogprobs, tokens, &STORED);
    }),
    ("stored_backward", |cpu, t| {
        let (divergences, dhidden, dweight) = (&mut t.logprobs, &mut t.dx, Some(&mut t.dembedding));
        let (head, tokens, d) = ([&t.x, &t.embedding], &t.indices, &t.dlogprobs);
        cpu.stored_backward(divergences, dhidden, dweight, d, head, tokens, d, tokens, &STORED, &GROUPS);
    }),
    ("draw", |cpu, t| {
        let draw = |row: usize| Draw {
            temperature: 1.0,
            top_k: [0, 70, 0][row % 3],
            top_p: [1.0, 1.0, 0.9][row % 3],
            random: [1, 2, row as u64],
            n_tokens: VOCAB,
            added: &[(3, 1.0)],
            allowed: None,
        };
        let draws: [Draw<'_>; WIDTH] = std::array::from_fn(draw);
        cpu.draw(&mut [Drawn::Nothing; WIDTH], &t.embedding, VOCAB, &draws);
    }),
    ("token_logprobs", |cpu, t| {
        let asked: [(usize, u32); WIDTH] = std::array::from_fn(|row| (row, 7));
        cpu.token_logprobs(&mut [None; WIDTH], &t.embedding, VOCAB, &asked);
    }),
    ("likeliest", |cpu, t| cpu.likeliest(&mut [0; 20], &t.embedding, VOCAB, 5)),
    ("clear", |cpu, t| cpu.clear(&mut [&mut t.dstream, &mut t.dnorm])),
    ("norm", |cpu, t| cpu.norm(&mut t.norms, &[&t.dweight, &t.dnorm])),
    ("adamw", |cpu, t| {
        let (weight, m, v, grad) = (&mut t.weight, &mut t.m, &mut t.v, &t.dweight);
        let mut parameters = [Parameter { weight, m, v, grad, weight_decay: 0.1 }];
        cpu.adamw(&mut parameters, &ADAMW, &mut t.updates, &mut t.norms, &[&t.dlogprobs]);
    }),
    ("newton_schulz", |cpu, t| {
        let [a, b, c] = &mut t.work;
        cpu.newton_schulz(&mut t.m, [a, b, c], LINEAR.d_out, LINEAR.d_in);
    }),
];
