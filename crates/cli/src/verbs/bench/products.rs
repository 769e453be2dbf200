//! The matrix products of a training step, each beside the peak.

use anyhow::Result;
use kernels::LinearShape;
use kernels::cpu::bench::{self, LinearProduct};
use serde_json::json;

use super::{Bench, DURATION, ROWS};
use crate::precision;
use crate::session::Purpose;

impl Bench<'_> {
    /// Forward and both backward products of every layer.
    pub(super) fn products(&self) -> Result<()> {
        let c = &self.config;
        let head = LinearShape { rows: ROWS, d_in: c.d_model, d_out: c.vocab_size };
        let names = ["qkv", "attn_out", "mlp_up", "mlp_down", "lm_head"];
        let layers = names.into_iter().zip(c.products(ROWS).into_iter().chain([head]));
        let products = [
            ("forward", LinearProduct::Forward),
            ("backward_input", LinearProduct::BackwardInput),
            ("backward_weight", LinearProduct::BackwardWeight),
        ];
        let mut cpu = self.session.cpu(Purpose::NewTraining)?;
        for (layer, shape) in layers {
            let LinearShape { d_in, d_out, .. } = shape;
            for (name, product) in products {
                // A machine shared with others drifts: the peak is taken again beside each product.
                let peak = bench::peak(&mut cpu, DURATION / 3);
                let speed = bench::linear(&mut cpu, product, shape, DURATION);
                let json = json!({
                    "bench": "products",
                    "preset": self.name,
                    "precision": precision::name(cpu.options().precision),
                    "threads": cpu.options().threads,
                    "layer": layer,
                    "product": name,
                    "rows": ROWS,
                    "d_in": d_in,
                    "d_out": d_out,
                    "flops_per_sec": speed.round(),
                    "fraction_of_peak": speed / peak,
                });
                self.session.result(&json, || {
                    let (gigaflops, percent) = (speed / 1e9, 100.0 * speed / peak);
                    format!("{layer:<9} {name:<16} {ROWS} × {d_in:<4} → {d_out:<6} {gigaflops:6.0} GFLOP/s, {percent:3.0} % of peak\n")
                })?;
            }
        }
        Ok(())
    }
}
