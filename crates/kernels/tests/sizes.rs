//! Sizes whose products wrap around are refused before any memory is touched, in the name of the operation,
//! in release builds too.
//!
//! Wherever there is such a length, tensors have the one that the wrapped product asks for. So whoever
//! multiplies without looking finds every length right, and goes on to indices that lie far outside.

#[allow(dead_code, reason = "nothing is computed here, so there is no noise")]
mod harness;

use kernels::{
    AttentionShape, Backend, BlockFormat, BlockMatrix, CacheSpan, Cpu, CpuOptions, Distil, DistilShape, Draw,
    Drawn, Dropout, HeadShape, Level, LinearShape, Precision, Reference, StoredShape,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Ids in the memory of a backend.
fn ids<B: Backend>(b: &mut B, values: &[u32]) -> B::Ids {
    let mut ids = b.ids();
    b.upload_ids(&mut ids, values);
    ids
}

/// Four times this is 2⁶⁴: as a `usize`, nothing.
const HUGE: usize = 1 << 62;

const DRAW: Draw<'_> =
    Draw { temperature: 1.0, top_k: 0, top_p: 1.0, random: [0; 3], n_tokens: 1, added: &[], allowed: None };

/// Runs an operation at sizes that must be refused. With `case` it chooses among several.
type Refused<B> = fn(&mut B, usize);

/// Every operation that multiplies sizes, how many cases it has, and they.
fn operations<B: Distil>() -> Vec<(&'static str, usize, Refused<B>)> {
    vec![
        ("blocks", 2, |b, case| {
            let shape = [[HUGE, 4], [4, HUGE]][case];
            b.blocks(BlockMatrix::quantise(BlockFormat::Q8_0, &[], shape).expect("no value is too large"));
        }),
        ("packed", 2, |b, case| {
            let none = b.zeros(0);
            let (d_in, d_out) = [(HUGE, 4), (4, HUGE)][case];
            b.packed(&none, d_in, d_out);
        }),
        ("swiglu_forward", 1, |b, _| {
            let (mut out, x) = (b.zeros(0), b.zeros(0));
            b.swiglu_forward(&mut out, &x, 1 << 63);
        }),
        ("swiglu_backward", 1, |b, _| {
            let (mut dx, dout, x) = (b.zeros(0), b.zeros(0), b.zeros(0));
            b.swiglu_backward(&mut dx, &dout, &x, 1 << 63);
        }),
        ("embed_forward", 3, |b, case| {
            let (mut out, wte, wpe) = (b.zeros(0), b.zeros(8), b.zeros(8));
            let width = [HUGE, HUGE, 1 << 63][case];
            let wpe = [None, Some(&wpe), None][case];
            let rows = ids(b, &[0; 4]);
            b.embed_forward(&mut out, &wte, wpe, &rows, &rows, width);
        }),
        ("embed_backward", 2, |b, case| {
            let (mut dwte, mut dwpe, dout) = (b.zeros(8), b.zeros(8), b.zeros(0));
            let dwpe = if case == 0 { None } else { Some(&mut dwpe) };
            let rows = ids(b, &[0; 4]);
            b.embed_backward(&mut dwte, dwpe, &dout, &rows, &rows, HUGE);
        }),
        ("gather_forward", 1, |b, _| {
            let (mut out, x) = (b.zeros(0), b.zeros(8));
            let rows = ids(b, &[0; 4]);
            b.gather_forward(&mut out, &x, &rows, HUGE);
        }),
        ("gather_backward", 1, |b, _| {
            let (mut dx, dout) = (b.zeros(8), b.zeros(0));
            let rows = ids(b, &[0; 4]);
            b.gather_backward(&mut dx, &dout, &rows, HUGE);
        }),
        ("head_norm_forward", 2, |b, case| {
            let (mut out, mut stats, qkv) = (b.zeros(24), b.zeros(24), b.zeros(24));
            let gain = b.zeros(HEADS[case].head_dim.min(8));
            b.head_norm_forward(&mut out, &mut stats, &qkv, &gain, &gain, 1e-5, &HEADS[case]);
        }),
        ("head_norm_backward", 2, |b, case| {
            let (mut dqkv, stats, qkv) = (b.zeros(24), b.zeros(24), b.zeros(24));
            let (mut dq, mut dk, gain) = (b.zeros(8), b.zeros(8), b.zeros(8));
            let dout = b.zeros(24);
            b.head_norm_backward(
                &mut dqkv,
                &mut dq,
                &mut dk,
                &dout,
                &qkv,
                &stats,
                &gain,
                &gain,
                &HEADS[case],
                &[8],
            );
        }),
        ("rope_forward", 3, |b, case| {
            let (mut qkv, table) = (b.zeros([24, 24, 0][case]), b.zeros(8));
            let rows = ids(b, &[0; 4]);
            b.rope_forward(&mut qkv, &table, &rows, &[HEADS[0], HEADS[1], ROWS_WRAP][case]);
        }),
        ("rope_backward", 3, |b, case| {
            let (mut qkv, table) = (b.zeros([24, 24, 0][case]), b.zeros(8));
            let rows = ids(b, &[0; 4]);
            b.rope_backward(&mut qkv, &table, &rows, &[HEADS[0], HEADS[1], ROWS_WRAP][case]);
        }),
        ("linear_forward", 3, |b, case| {
            let (mut out, x, weight) = linear::<B>(b, case);
            b.linear_forward(&mut out, &x, &weight, None, LINEAR[case]);
        }),
        ("linear_backward_input", 3, |b, case| {
            let (dout, mut dx, weight) = linear::<B>(b, case);
            b.linear_backward_input(&mut dx, &dout, &weight, LINEAR[case]);
        }),
        ("linear_backward_weight", 3, |b, case| {
            let (dout, x, mut dweight) = linear::<B>(b, case);
            b.linear_backward_weight(&mut dweight, None, &dout, &x, LINEAR[case], &[4]);
        }),
        // Fused: the product refuses in its own name.
        ("linear_gelu_forward", 3, |b, case| {
            let (mut out, x, weight) = linear::<B>(b, case);
            let mut product = b.zeros(b.len(&out));
            b.linear_gelu_forward(&mut out, &mut product, &x, &weight, None, LINEAR[case]);
        }),
        ("linear_gelu_backward_input", 3, |b, case| {
            let (dout, mut dx, weight) = linear::<B>(b, case);
            let (mut between, x) = (b.zeros(b.len(&dx)), b.zeros(b.len(&dx)));
            b.linear_gelu_backward_input(&mut dx, &mut between, &dout, &weight, &x, LINEAR[case]);
        }),
        ("linear_add_forward", 3, |b, case| {
            let (mut out, x, weight) = linear::<B>(b, case);
            let (mut between, residual) = (b.zeros(b.len(&out)), b.zeros(b.len(&out)));
            b.linear_add_forward(&mut out, &mut between, &residual, &x, &weight, None, LINEAR[case]);
        }),
        ("attention_forward", 5, |b, case| {
            let (lens, shape, dropout) = attention(case);
            let lens = ids(b, &lens);
            let (mut out, mut lse, qkv) = (b.zeros(0), b.zeros(0), b.zeros(0));
            b.attention_forward(&mut out, &mut lse, &qkv, &lens, &shape, dropout.as_ref());
        }),
        ("attention_backward", 5, |b, case| {
            let (lens, shape, dropout) = attention(case);
            let lens = ids(b, &lens);
            let (mut dqkv, dout, out, lse, qkv) =
                (b.zeros(0), b.zeros(0), b.zeros(0), b.zeros(0), b.zeros(0));
            b.attention_backward(&mut dqkv, &dout, &out, &lse, &qkv, &lens, &shape, dropout.as_ref());
        }),
        ("attention_cached", 5, |b, case| {
            const MAX: usize = u32::MAX as usize;
            let span = CacheSpan { slot: 0, start: 0, len: 1 };
            let (spans, capacity, shape) = [
                (vec![CacheSpan { slot: MAX, ..span }], 4, SMALL),
                (vec![span], HUGE, SMALL),
                (vec![CacheSpan { start: MAX, ..span }], 4, SMALL),
                (vec![CacheSpan { start: MAX - 1, len: 2, ..span }], 4, SMALL),
                (vec![span], 4, HEADS[1]),
            ][case]
                .clone();
            let rows: usize = spans.iter().map(|span| span.len).sum();
            let spans = ids(b, &CacheSpan::ids(&spans).collect::<Vec<u32>>());
            let (mut out, qkv) = (b.activation(rows * 4), b.activation(rows * 12));
            let (mut keys, mut values) = (b.activation(4 * 4), b.activation(4 * 4));
            b.attention_cached(&mut out, &mut keys, &mut values, &qkv, &spans, capacity, &shape);
        }),
        ("cache_fork", 5, |b, case| {
            let (from, into, capacity, shape) = [
                (HUGE, 0..1, 4, SMALL),
                (0, HUGE..HUGE + 1, 4, SMALL),
                (usize::MAX, 0..1, 4, SMALL),
                (0, 1..2, HUGE, SMALL),
                (0, 1..2, 4, HEADS[1]),
            ][case]
                .clone();
            let mut cache = b.activation(2 * 4 * 4);
            b.cache_fork(&mut cache, from, into, 4, capacity, &shape);
        }),
        ("head_forward", 3, |b, case| {
            let (hidden, weight) = (b.zeros(0), b.zeros(HEAD_WEIGHTS[case]));
            let (mut logprobs, targets) = (b.scalars(), ids(b, &[0; 4]));
            b.head_forward(&mut logprobs, None, &hidden, &weight, &targets, &HEAD[case]);
        }),
        ("head_backward", 3, |b, case| {
            let (hidden, weight) = (b.zeros(0), b.zeros(HEAD_WEIGHTS[case]));
            let (mut dhidden, mut dweight) = (b.zeros(0), b.zeros(HEAD_WEIGHTS[case]));
            let (mut logprobs, mut derivatives, targets) = (b.scalars(), b.scalars(), ids(b, &[0; 4]));
            b.upload_scalars(&mut derivatives, &[0.0; 4]);
            b.head_backward(
                &mut logprobs,
                &mut dhidden,
                Some(&mut dweight),
                &derivatives,
                None,
                &hidden,
                &weight,
                &targets,
                &HEAD[case],
                &[4],
            );
        }),
        ("distil_forward", 4, |b, case| {
            let ([hidden, weight], (mut divergences, targets)) =
                ([(); 2].map(|()| b.zeros(0)), (b.scalars(), ids(b, &[0; 4])));
            let (student, teacher) = ([&hidden, &weight], [&hidden, &weight]);
            b.distil_forward(&mut divergences, student, teacher, &targets, &distil(case));
        }),
        ("distil_backward", 4, |b, case| {
            let [mut dhidden, mut dweight, hidden, weight] = [(); 4].map(|()| b.zeros(0));
            let (mut divergences, mut d, targets) = (b.scalars(), b.scalars(), ids(b, &[0; 4]));
            b.upload_scalars(&mut d, &[0.0; 4]);
            let (dh, dw, head) = (&mut dhidden, Some(&mut dweight), [&hidden, &weight]);
            b.distil_backward(&mut divergences, dh, dw, &d, head, head, &targets, &distil(case), &[4]);
        }),
        ("stored_forward", 3, |b, case| {
            let ([hidden, weight], mut divergences) = ([(); 2].map(|()| b.zeros(0)), b.scalars());
            let (tokens, targets, logprobs) = stored(b);
            let shape = StoredShape { student: HEAD[case], k: 1, beta: 0.5 };
            b.stored_forward(&mut divergences, [&hidden, &weight], &tokens, &logprobs, &targets, &shape);
        }),
        ("stored_backward", 3, |b, case| {
            let [mut dhidden, mut dweight, hidden, weight] = [(); 4].map(|()| b.zeros(0));
            let ((tokens, targets, p), mut divergences) = (stored(b), b.scalars());
            let (dh, dw, head) = (&mut dhidden, Some(&mut dweight), [&hidden, &weight]);
            let shape = StoredShape { student: HEAD[case], k: 1, beta: 0.5 };
            b.stored_backward(&mut divergences, dh, dw, &p, head, &tokens, &p, &targets, &shape, &[4]);
        }),
        ("draw", 1, |b, _| {
            let (logits, draws) = (b.zeros(0), [DRAW; 4]);
            b.draw(&mut [Drawn::Nothing; 4], &logits, HUGE, &draws);
        }),
        ("newton_schulz", 2, |b, case| {
            let [mut x, mut a, mut c, mut d] = [(); 4].map(|()| b.zeros(0));
            let (rows, columns) = [(HUGE, 4), (4, HUGE)][case];
            b.newton_schulz(&mut x, [&mut a, &mut c, &mut d], rows, columns);
        }),
    ]
}

/// Heads of one row of four values; and rows whose number of values wraps.
const SMALL: AttentionShape =
    AttentionShape { n_head: 1, n_kv_head: 1, head_dim: 4, scale: 1.0, window: None };
const HEADS: [AttentionShape; 2] = [
    // (4 + 2 · 2) · 2⁶¹ is 2⁶⁴.
    AttentionShape { n_head: 4, n_kv_head: 2, head_dim: 1 << 61, ..SMALL },
    // n_head + 2 · n_kv_head is 3 · 2⁶³, hence 2⁶³, and twice that 2⁶⁴.
    AttentionShape { n_head: 1 << 63, n_kv_head: 1 << 63, head_dim: 2, ..SMALL },
];
/// 3 · 2⁶² values a row, and four of them none.
const ROWS_WRAP: AttentionShape = AttentionShape { head_dim: HUGE, ..SMALL };

/// Where rows, where the weight, and where both wrap.
const LINEAR: [LinearShape; 3] = [
    LinearShape { rows: HUGE, d_in: 4, d_out: 4 },
    LinearShape { rows: 0, d_in: HUGE, d_out: 4 },
    LinearShape { rows: 4, d_in: HUGE, d_out: HUGE },
];

/// Output rows, input rows and weight of the lengths that wrapped products are.
fn linear<B: Backend>(b: &mut B, case: usize) -> (B::Tensor, B::Tensor, B::Tensor) {
    let LinearShape { rows, d_in, d_out } = LINEAR[case];
    (b.zeros(rows.wrapping_mul(d_out)), b.zeros(rows.wrapping_mul(d_in)), b.zeros(d_in.wrapping_mul(d_out)))
}

/// Sequences, a shape and dropout of which nothing is left when they are multiplied.
fn attention(case: usize) -> (Vec<u32>, AttentionShape, Option<Dropout>) {
    let dropout = Dropout { p: 0.1, seed: 1, stream: 2, first_row: 3 };
    match case {
        0 => (vec![1 << 31; 2], AttentionShape { head_dim: 1 << 32, ..SMALL }, None),
        1 => (vec![1 << 31], AttentionShape { head_dim: 1 << 33, ..SMALL }, None),
        2 => (vec![4], ROWS_WRAP, None),
        3 => (vec![1], HEADS[0], None),
        _ => (vec![1], HEADS[1], Some(dropout)),
    }
}

const HEAD: [HeadShape; 3] =
    [HeadShape::new(4, HUGE, 4), HeadShape::new(4, HUGE, 1), HeadShape::new(4, 0, HUGE)];
const HEAD_WEIGHTS: [usize; 3] = [0, 0, 0];

/// The student's head, or the teacher's.
fn distil(case: usize) -> DistilShape {
    match HEAD.get(case) {
        Some(&student) => DistilShape { student, teacher_d_model: 4, beta: 0.5 },
        None => DistilShape { student: HEAD[0], teacher_d_model: HUGE, beta: 0.5 },
    }
}

/// One token of each of four rows, what is predicted of them, and the token's log-probabilities.
fn stored<B: Backend>(b: &mut B) -> (B::Ids, B::Ids, B::Scalars) {
    let mut logprobs = b.scalars();
    b.upload_scalars(&mut logprobs, &[-1.0; 4]);
    (ids(b, &[0; 4]), ids(b, &[0; 4]), logprobs)
}

/// What `work` panics with.
fn refusal(work: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(work)).err()?;
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
}

fn assert_refused<B: Distil>(name: &str, mut backend: impl FnMut() -> B) {
    for (operation, cases, run) in operations::<B>() {
        for case in 0..cases {
            let mut backend = backend();
            let message = refusal(|| run(&mut backend, case));
            let message =
                message.unwrap_or_else(|| panic!("{name}: {operation}, case {case}, was not refused"));
            let operation = match operation {
                "linear_gelu_forward" | "linear_add_forward" => "linear_forward",
                "linear_gelu_backward_input" => "linear_backward_input",
                own => own,
            };
            assert!(
                message.contains(&format!("{operation}: ")),
                "{name}: {operation}, case {case}: {message}"
            );
        }
    }
}

#[test]
fn sizes_that_wrap_around_are_refused() {
    for threads in [1, 2] {
        for precision in [Precision::F32, Precision::Bf16] {
            let options = CpuOptions { threads, precision, level: Level::detect() };
            assert_refused(&format!("{options:?}"), || Cpu::new(options));
        }
    }
    assert_refused("reference", || Reference);
}

/// Those that treat every value alone, or take their sizes from tensors, have nothing to multiply.
#[test]
fn every_operation_that_multiplies_sizes_is_listed() {
    const WITHOUT_SIZES: &[&str] = &[
        "zeros",
        "arena",
        "activation",
        "share",
        "len",
        "upload",
        "download",
        "ids",
        "upload_ids",
        "scalars",
        "upload_scalars",
        "read",
        "copy",
        "resize",
        "fill",
        "add",
        "accumulate",
        "scale",
        "scale_columns",
        "average",
        "gelu_forward",
        "gelu_backward",
        "dropout",
        "layer_norm_forward",
        "layer_norm_backward",
        "rms_norm_forward",
        "rms_norm_backward",
        "token_logprobs",
        "likeliest",
        "add_layer_norm_forward",
        "add_rms_norm_forward",
        "clear",
        "norm",
        "adamw",
    ];
    let mut needed = harness::operations();
    needed.retain(|name| !WITHOUT_SIZES.contains(name));
    let place = needed.iter().position(|name| *name == "draw").expect("it is there");
    needed.splice(place..place, harness::distillations());
    let listed: Vec<&str> = operations::<Reference>().iter().map(|(name, ..)| *name).collect();
    assert_eq!(needed, listed, "operations of the trait (left), those whose sizes are tried (right)");
}

/// Groups are the rows, no fewer and no more, also where their sum would wrap around to be as many.
#[test]
fn groups_that_are_not_the_rows_are_refused() {
    refuses_other_groups(&mut Reference);
    refuses_other_groups(&mut Cpu::default());
}

fn refuses_other_groups<B: Distil>(b: &mut B) {
    let linear = LinearShape { rows: 2, d_in: 4, d_out: 4 };
    let head = HeadShape::new(2, 4, 4);
    let [mut dx, x, dout] = [(); 3].map(|()| b.zeros(8));
    let [mut dqkv, qkv] = [(); 2].map(|()| b.zeros(24));
    let [mut dgain, mut dk, gain, stats] = [(); 4].map(|()| b.zeros(4));
    let ([mut dweight, weight], rms_stats) = ([(); 2].map(|()| b.zeros(16)), b.zeros(2));
    let (mut logprobs, mut derivatives, mut targets) = (b.scalars(), b.scalars(), b.ids());
    b.upload_scalars(&mut derivatives, &[0.0; 2]);
    b.upload_ids(&mut targets, &[0; 2]);
    for groups in [&[][..], &[1], &[2, 1], &[usize::MAX, 3]] {
        let messages = [
            refusal(|| b.layer_norm_backward(&mut dx, &mut dgain, None, &dout, &x, &stats, &gain, groups)),
            refusal(|| b.rms_norm_backward(&mut dx, &mut dgain, &dout, &x, &rms_stats, &gain, groups)),
            refusal(|| {
                let (dqkv, dq, dk) = (&mut dqkv, &mut dgain, &mut dk);
                b.head_norm_backward(dqkv, dq, dk, &qkv, &qkv, &stats, &gain, &gain, &SMALL, groups);
            }),
            refusal(|| b.linear_backward_weight(&mut dweight, None, &dout, &x, linear, groups)),
            refusal(|| {
                b.head_backward(
                    &mut logprobs,
                    &mut dx,
                    Some(&mut dweight),
                    &derivatives,
                    None,
                    &x,
                    &weight,
                    &targets,
                    &head,
                    groups,
                );
            }),
            refusal(|| {
                let shape = DistilShape { student: head, teacher_d_model: 4, beta: 0.5 };
                let (dw, heads) = (Some(&mut dweight), [&x, &weight]);
                b.distil_backward(
                    &mut logprobs,
                    &mut dx,
                    dw,
                    &derivatives,
                    heads,
                    heads,
                    &targets,
                    &shape,
                    groups,
                );
            }),
        ];
        let operations = ["layer_norm", "rms_norm", "head_norm", "linear", "head", "distil"]
            .map(|name| format!("{name}_backward"));
        for (message, operation) in messages.into_iter().zip(operations) {
            let named = message.as_ref().is_some_and(|message| message.starts_with(&operation));
            assert!(named, "{operation} of groups of {groups:?} rows: {message:?}");
        }
    }
}

/// A row that does not exist is refused at the door, wherever its number times its width would lie.
#[test]
fn rows_that_do_not_exist_are_refused() {
    let mut cpu = Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() });
    let (mut out, mut table) = (cpu.zeros(4), cpu.zeros(8));
    let messages = [
        refusal(|| cpu.gather_forward(&mut out, &table, &vec![2], 4)),
        refusal(|| cpu.token_logprobs(&mut [None], &table, 4, &[(2, 0)])),
        refusal(|| cpu.token_logprobs(&mut [None], &table, 0, &[(0, 0)])),
        refusal(|| cpu.likeliest(&mut [0], &table, 4, usize::MAX)),
        refusal(|| cpu.gather_backward(&mut table, &out, &vec![2], 4)),
        refusal(|| cpu.embed_forward(&mut out, &table, Some(&table), &vec![1], &vec![2], 4)),
        refusal(|| cpu.embed_backward(&mut table, None, &out, &vec![u32::MAX], &vec![], 4)),
    ];
    let expected = [
        "gather_forward: row 2 of 2",
        "token_logprobs: row 2 of 2, of 4 logits each",
        "token_logprobs: row 0 of 0, of 0 logits each",
        "likeliest: row 18446744073709551615 of 2, of 4 logits each",
        "gather_backward: row 2 of 2",
        "embed_forward: row 2 of 2",
        "embed_backward: row 4294967295 of 2",
    ];
    assert_eq!(messages.each_ref().map(|message| message.as_deref()), expected.map(Some));
}

/// What a shape says of itself, for whoever makes tensors by it.
#[test]
fn widths_that_wrap_around_are_refused() {
    let wide = AttentionShape { head_dim: 1 << 63, n_head: 2, n_kv_head: 2, ..SMALL };
    let widths = [
        refusal(|| _ = HEADS[0].qkv_width()),
        refusal(|| _ = HEADS[1].qkv_width()),
        refusal(|| _ = wide.q_width()),
        refusal(|| _ = wide.kv_width()),
    ];
    for message in widths {
        assert!(message.is_some_and(|message| message.starts_with("a row of AttentionShape")));
    }
    assert_eq!([SMALL.q_width(), SMALL.kv_width(), SMALL.qkv_width()], [4, 4, 12]);
}

#[test]
fn estimates_and_measurements_refuse_them_too() {
    let mut cpu = Cpu::default();
    let prefix = |operation: &'static str| move |message: String| message.starts_with(operation);
    let layer = LinearShape { rows: 1, d_in: HUGE, d_out: 4 };
    let head = HeadShape::new(1, 1, 1);
    assert!(refusal(|| _ = cpu.working_bytes(&[layer], &head)).is_some_and(prefix("working_bytes: ")));
    assert!(refusal(|| _ = cpu.working_bytes(&[], &HEAD[0])).is_some_and(prefix("working_bytes: ")));
    let forward = kernels::cpu::bench::LinearProduct::Forward;
    let measure = || _ = kernels::cpu::bench::linear(&mut cpu, forward, layer, std::time::Duration::ZERO);
    assert!(refusal(measure).is_some_and(prefix("bench::linear: ")));
}
