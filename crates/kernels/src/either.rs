//! One of two backends, chosen when a program runs: what is generic in a [`Backend`] is compiled once for
//! both.

use crate::{
    AdamW, AttentionShape, Backend, BlockMatrix, Draw, Drawn, Dropout, HeadShape, LinearShape, Parameter,
    TokenLogprob,
};
use std::ops::Range;

/// Of a backend, a tensor or a list: the first's or the second's.
#[derive(Clone, Debug)]
pub enum Either<A, B> {
    /// The first's.
    First(A),
    /// The second's.
    Second(B),
}

use Either::{First, Second};

/// # Panics
///
/// Where it is the other's: what one backend made was given to another.
impl<A, B> Either<A, B> {
    pub(crate) fn first(&self) -> &A {
        let First(x) = self else { panic!("{OTHER}") };
        x
    }

    pub(crate) fn second(&self) -> &B {
        let Second(x) = self else { panic!("{OTHER}") };
        x
    }

    pub(crate) fn first_mut(&mut self) -> &mut A {
        let First(x) = self else { panic!("{OTHER}") };
        x
    }

    pub(crate) fn second_mut(&mut self) -> &mut B {
        let Second(x) = self else { panic!("{OTHER}") };
        x
    }
}

const OTHER: &str = "a tensor or a list of another backend";

/// The type of an argument of some kind, in the trait.
macro_rules! argument {
    (out) => { &mut Self::Tensor };
    (x) => { &Self::Tensor };
    (x?) => { Option<&Self::Tensor> };
    (out?) => { Option<&mut Self::Tensor> };
    (ids) => { &Self::Ids };
    (ids out) => { &mut Self::Ids };
    (list) => { &Self::Scalars };
    (list?) => { Option<&Self::Scalars> };
    (list out) => { &mut Self::Scalars };
    (list out?) => { Option<&mut Self::Scalars> };
    (= $type:ty) => { $type };
}

/// An argument of some kind as one of the two takes it.
macro_rules! side {
    ($of:ident $of_mut:ident, $name:ident: x) => {
        $name.$of()
    };
    ($of:ident $of_mut:ident, $name:ident: ids) => {
        $name.$of()
    };
    ($of:ident $of_mut:ident, $name:ident: list) => {
        $name.$of()
    };
    ($of:ident $of_mut:ident, $name:ident: out) => {
        $name.$of_mut()
    };
    ($of:ident $of_mut:ident, $name:ident: ids out) => {
        $name.$of_mut()
    };
    ($of:ident $of_mut:ident, $name:ident: list out) => {
        $name.$of_mut()
    };
    ($of:ident $of_mut:ident, $name:ident: x?) => {
        $name.map(|x| x.$of())
    };
    ($of:ident $of_mut:ident, $name:ident: list?) => {
        $name.map(|x| x.$of())
    };
    ($of:ident $of_mut:ident, $name:ident: out?) => {
        $name.map(|x| x.$of_mut())
    };
    ($of:ident $of_mut:ident, $name:ident: list out?) => {
        $name.map(|x| x.$of_mut())
    };
    ($of:ident $of_mut:ident, $name:ident: = $type:ty) => {
        $name
    };
}

/// Methods that do what the chosen one does.
macro_rules! delegate {
    ($($method:ident($($name:ident: [$($kind:tt)*]),*);)*) => {
        $(fn $method(&mut self, $($name: argument!($($kind)*)),*) {
            match self {
                First(b) => b.$method($(side!(first first_mut, $name: $($kind)*)),*),
                Second(b) => b.$method($(side!(second second_mut, $name: $($kind)*)),*),
            }
        })*
    };
}

/// Methods that make something.
macro_rules! make {
    ($($method:ident($($name:ident: $type:ty),*) -> $made:ident;)*) => {
        $(fn $method(&mut self, $($name: $type),*) -> Self::$made {
            match self {
                First(b) => First(b.$method($($name),*)),
                Second(b) => Second(b.$method($($name),*)),
            }
        })*
    };
}

impl<A: Backend, B: Backend> Backend for Either<A, B> {
    type Tensor = Either<A::Tensor, B::Tensor>;
    type Ids = Either<A::Ids, B::Ids>;
    type Scalars = Either<A::Scalars, B::Scalars>;

    make! {
        zeros(len: usize) -> Tensor;
        activation(len: usize) -> Tensor;
        ids() -> Ids;
        scalars() -> Scalars;
    }

    fn arena(&mut self, lens: &[usize]) -> Vec<Self::Tensor> {
        match self {
            First(b) => b.arena(lens).into_iter().map(First).collect(),
            Second(b) => b.arena(lens).into_iter().map(Second).collect(),
        }
    }

    fn blocks(&mut self, matrix: BlockMatrix) -> Self::Tensor {
        match self {
            First(b) => First(b.blocks(matrix)),
            Second(b) => Second(b.blocks(matrix)),
        }
    }

    fn share(&mut self, weight: &mut Self::Tensor) -> Self::Tensor {
        match self {
            First(b) => First(b.share(weight.first_mut())),
            Second(b) => Second(b.share(weight.second_mut())),
        }
    }

    fn packed(&mut self, weight: &Self::Tensor, d_in: usize, d_out: usize) -> Self::Tensor {
        match self {
            First(b) => First(b.packed(weight.first(), d_in, d_out)),
            Second(b) => Second(b.packed(weight.second(), d_in, d_out)),
        }
    }

    fn len(&self, x: &Self::Tensor) -> usize {
        match self {
            First(b) => b.len(x.first()),
            Second(b) => b.len(x.second()),
        }
    }

    fn read(&mut self, out: &mut Vec<f64>, lists: &[&Self::Scalars]) {
        match self {
            First(b) => b.read(out, &each(lists, |list| list.first())),
            Second(b) => b.read(out, &each(lists, |list| list.second())),
        }
    }

    delegate! {
        upload(out: [out], values: [= &[f32]]);
        download(out: [= &mut [f32]], x: [x]);
        upload_ids(out: [ids out], values: [= &[u32]]);
        upload_scalars(out: [list out], values: [= &[f64]]);
        copy(out: [out], x: [x]);
        resize(x: [out], len: [= usize]);
        fill(out: [out], value: [= f32]);
        add(out: [out], a: [x], b: [x]);
        accumulate(sum: [out], x: [x]);
        scale(x: [out], factor: [= f32]);
        scale_columns(x: [out], factors: [x], bias: [x?]);
        average(mean: [out], x: [x], decay: [= f32]);
        gelu_forward(out: [out], x: [x]);
        gelu_backward(dx: [out], dout: [x], x: [x]);
        swiglu_forward(out: [out], x: [x], d_ff: [= usize]);
        swiglu_backward(dx: [out], dout: [x], x: [x], d_ff: [= usize]);
        dropout(x: [out], width: [= usize], dropout: [= &Dropout]);
        embed_forward(out: [out], wte: [x], wpe: [x?], tokens: [ids], positions: [ids], d_model: [= usize]);
        embed_backward(dwte: [out], dwpe: [out?], dout: [x], tokens: [ids], positions: [ids], d_model: [= usize]);
        gather_forward(out: [out], x: [x], rows: [ids], width: [= usize]);
        gather_backward(dx: [out], dout: [x], rows: [ids], width: [= usize]);
        layer_norm_forward(out: [out], stats: [out], x: [x], weight: [x], bias: [x?], eps: [= f32]);
        layer_norm_backward(dx: [out], dweight: [out], dbias: [out?], dout: [x], x: [x], stats: [x], weight: [x], groups: [= &[usize]]);
        add_layer_norm_forward(sum: [out], out: [out], stats: [out], a: [x], b: [x], weight: [x], bias: [x?], eps: [= f32]);
        rms_norm_forward(out: [out], stats: [out], x: [x], weight: [x], eps: [= f32]);
        rms_norm_backward(dx: [out], dweight: [out], dout: [x], x: [x], stats: [x], weight: [x], groups: [= &[usize]]);
        add_rms_norm_forward(sum: [out], out: [out], stats: [out], a: [x], b: [x], weight: [x], eps: [= f32]);
        head_norm_forward(out: [out], stats: [out], qkv: [x], q_weight: [x], k_weight: [x], eps: [= f32], shape: [= &AttentionShape]);
        head_norm_backward(dqkv: [out], dq_weight: [out], dk_weight: [out], dout: [x], qkv: [x], stats: [x], q_weight: [x], k_weight: [x], shape: [= &AttentionShape], groups: [= &[usize]]);
        rope_forward(qkv: [out], table: [x], positions: [ids], shape: [= &AttentionShape]);
        rope_backward(dqkv: [out], table: [x], positions: [ids], shape: [= &AttentionShape]);
        linear_forward(out: [out], x: [x], weight: [x], bias: [x?], shape: [= LinearShape]);
        linear_backward_input(dx: [out], dout: [x], weight: [x], shape: [= LinearShape]);
        linear_backward_weight(dweight: [out], dbias: [out?], dout: [x], x: [x], shape: [= LinearShape], groups: [= &[usize]]);
        linear_gelu_forward(out: [out], product: [out], x: [x], weight: [x], bias: [x?], shape: [= LinearShape]);
        linear_gelu_backward_input(dx: [out], between: [out], dout: [x], weight: [x], x: [x], shape: [= LinearShape]);
        linear_add_forward(out: [out], between: [out], residual: [x], x: [x], weight: [x], bias: [x?], shape: [= LinearShape]);
        attention_forward(out: [out], lse: [out], qkv: [x], lens: [ids], shape: [= &AttentionShape], dropout: [= Option<&Dropout>]);
        attention_backward(dqkv: [out], dout: [x], out: [x], lse: [x], qkv: [x], lens: [ids], shape: [= &AttentionShape], dropout: [= Option<&Dropout>]);
        attention_cached(out: [out], keys: [out], values: [out], qkv: [x], spans: [ids], capacity: [= usize], shape: [= &AttentionShape]);
        cache_fork(cache: [out], from: [= usize], into: [= Range<usize>], len: [= usize], capacity: [= usize], shape: [= &AttentionShape]);
        head_forward(logprobs: [list out], entropies: [list out?], hidden: [x], weight: [x], targets: [ids], shape: [= &HeadShape]);
        head_backward(logprobs: [list out], dhidden: [out], dweight: [out?], dlogprobs: [list], dentropies: [list?], hidden: [x], weight: [x], targets: [ids], shape: [= &HeadShape], groups: [= &[usize]]);
        draw(out: [= &mut [Drawn]], logits: [x], vocab_size: [= usize], draws: [= &[Draw<'_>]]);
        token_logprobs(out: [= &mut [Option<TokenLogprob>]], logits: [x], vocab_size: [= usize], asked: [= &[(usize, u32)]]);
        likeliest(out: [= &mut [u32]], logits: [x], vocab_size: [= usize], row: [= usize]);
    }

    fn clear(&mut self, tensors: &mut [&mut Self::Tensor]) {
        match self {
            First(b) => b.clear(&mut each_mut(tensors, |x| x.first_mut())),
            Second(b) => b.clear(&mut each_mut(tensors, |x| x.second_mut())),
        }
    }

    fn add_up_ranks(
        &mut self,
        tensors: &mut [&mut Self::Tensor],
        additions: &[[usize; 2]],
        sum: usize,
    ) -> bool {
        match self {
            First(b) => b.add_up_ranks(&mut each_mut(tensors, |x| x.first_mut()), additions, sum),
            Second(b) => b.add_up_ranks(&mut each_mut(tensors, |x| x.second_mut()), additions, sum),
        }
    }

    fn send_to_ranks(&mut self, tensors: &mut [&mut Self::Tensor], from: usize) -> bool {
        match self {
            First(b) => b.send_to_ranks(&mut each_mut(tensors, |x| x.first_mut()), from),
            Second(b) => b.send_to_ranks(&mut each_mut(tensors, |x| x.second_mut()), from),
        }
    }

    fn norm(&mut self, out: &mut Self::Scalars, tensors: &[&Self::Tensor]) {
        match self {
            First(b) => b.norm(out.first_mut(), &each(tensors, |x| x.first())),
            Second(b) => b.norm(out.second_mut(), &each(tensors, |x| x.second())),
        }
    }

    fn adamw(
        &mut self,
        parameters: &mut [Parameter<'_, Self::Tensor>],
        settings: &AdamW,
        updates: &mut Self::Scalars,
        norms: &mut Self::Scalars,
        finite: &[&Self::Scalars],
    ) {
        /// Parameters as one of the two takes them.
        macro_rules! of {
            ($of:ident $of_mut:ident) => {{
                let each = parameters.iter_mut().map(|p| Parameter {
                    weight: p.weight.$of_mut(),
                    m: p.m.$of_mut(),
                    v: p.v.$of_mut(),
                    grad: p.grad.$of(),
                    weight_decay: p.weight_decay,
                });
                each.collect::<Vec<_>>()
            }};
        }
        match self {
            First(b) => {
                let finite = each(finite, |list| list.first());
                b.adamw(&mut of!(first first_mut), settings, updates.first_mut(), norms.first_mut(), &finite);
            }
            Second(b) => {
                let finite = each(finite, |list| list.second());
                b.adamw(
                    &mut of!(second second_mut),
                    settings,
                    updates.second_mut(),
                    norms.second_mut(),
                    &finite,
                );
            }
        }
    }

    fn newton_schulz(
        &mut self,
        x: &mut Self::Tensor,
        work: [&mut Self::Tensor; 3],
        rows: usize,
        columns: usize,
    ) {
        match self {
            First(b) => b.newton_schulz(x.first_mut(), work.map(|x| x.first_mut()), rows, columns),
            Second(b) => b.newton_schulz(x.second_mut(), work.map(|x| x.second_mut()), rows, columns),
        }
    }
}

/// References to one of the two.
fn each<'a, T, S>(all: &[&'a T], side: impl Fn(&'a T) -> &'a S) -> Vec<&'a S> {
    all.iter().map(|x| side(x)).collect()
}

/// The same of those that are written.
fn each_mut<'a, T, S>(all: &'a mut [&mut T], side: impl Fn(&'a mut T) -> &'a mut S) -> Vec<&'a mut S> {
    all.iter_mut().map(|x| side(x)).collect()
}
