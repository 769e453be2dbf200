//! The architecture of a model, drawn as a tree.

use gpt::model::{Config, Mlp, Spec, specs};

use crate::terminal::text::{count, table};

/// The architecture as a tree: modules in the order of the forward pass, their shapes and parameters.
pub(super) fn tree(config: &Config) -> String {
    let specs = specs(config);
    let leaves = specs.leaves();
    // Blocks are all alike: the first stands for them.
    let shown = leaves
        .into_iter()
        .filter(|spec| !spec.name.starts_with("blocks.") || spec.name.starts_with("blocks.0."));
    let mut modules: Vec<(String, Vec<&Spec>)> = Vec::new();
    for spec in shown {
        let module =
            spec.name.trim_end_matches(".weight").trim_end_matches(".bias").replace("blocks.0.", "│  ");
        match modules.last_mut().filter(|(name, _)| *name == module) {
            Some((_, specs)) => specs.push(spec),
            None => modules.push((module, vec![spec])),
        }
    }
    let size = |specs: &[&Spec]| specs.iter().map(|spec| spec.len()).sum::<usize>();
    let shape =
        |specs: &[&Spec]| specs.iter().map(|spec| shape(config, spec)).collect::<Vec<_>>().join(" + ");
    let is_tied = config.tied_head && config.n_label.is_none();
    let inside = |name: &str| name.starts_with('│');
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (i, (name, specs)) in modules.iter().enumerate() {
        let row_of =
            |branch: &str, name: &str| [format!("{branch} {name}"), shape(specs), count(size(specs) as u64)];
        if !inside(name) {
            let last = i + 1 == modules.len() && !is_tied;
            rows.push(row_of(if last { "└─" } else { "├─" }, name));
            continue;
        }
        if !inside(&modules[i - 1].0) {
            let block: usize =
                modules.iter().filter(|(name, _)| inside(name)).map(|(_, specs)| size(specs)).sum();
            let all = block * config.n_layer;
            let each = format!("{} each", count(block as u64));
            rows.push([format!("├─ blocks × {}", config.n_layer), each, count(all as u64)]);
        }
        let last = modules.get(i + 1).is_none_or(|(next, _)| !inside(next));
        rows.push(row_of(if last { "│  └─" } else { "│  ├─" }, name.trim_start_matches("│  ")));
    }
    if is_tied {
        rows.push(["└─ lm_head".into(), "= wte".into(), "0".into()]);
    }
    table(&rows)
}

/// `288 × 96`; where rows of several kinds and numbers stand together, `(96 + 32 + 32) × 96`.
fn shape(config: &Config, spec: &Spec) -> String {
    let (q, kv, ff) = (config.q_width(), config.kv_width(), config.d_ff);
    let rows = match spec.name.as_str() {
        name if name.ends_with("qkv.weight") && q != kv => format!("({q} + {kv} + {kv})"),
        name if name.ends_with("mlp_up.weight") && config.mlp == Mlp::SwiGlu => format!("({ff} + {ff})"),
        _ => spec.shape[0].to_string(),
    };
    let columns = spec.shape[1..].iter().map(usize::to_string);
    std::iter::once(rows).chain(columns).collect::<Vec<_>>().join(" × ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_shows_every_array_and_its_size() {
        let config = Config::gpt2(100, 16, 3, 2, 8);
        let drawn = tree(&config);
        let expected = "  \
  ├─ wte              100 × 8    800
  ├─ wpe               16 × 8    128
  ├─ blocks × 3      872 each  2,616
  │  ├─ norm1           8 + 8     16
  │  ├─ qkv       24 × 8 + 24    216
  │  ├─ attn_out    8 × 8 + 8     72
  │  ├─ norm2           8 + 8     16
  │  ├─ mlp_up    32 × 8 + 32    288
  │  └─ mlp_down   8 × 32 + 8    264
  ├─ final_norm         8 + 8     16
  └─ lm_head            = wte      0
";
        assert_eq!(drawn, expected);
        assert_eq!(config.parameters(), 800 + 128 + 2616 + 16);
    }

    #[test]
    fn rows_of_several_kinds_are_told_apart() {
        let config = Config { n_kv_head: 1, qk_norm: true, ..Config::modern(100, 16, 2, 2, 8) };
        let drawn = tree(&config);
        let expected = "  \
  ├─ wte                  100 × 8    800
  ├─ blocks × 2        1,752 each  3,504
  │  ├─ norm1                   8      8
  │  ├─ qkv       (8 + 4 + 4) × 8    128
  │  ├─ q_norm                  4      4
  │  ├─ k_norm                  4      4
  │  ├─ attn_out            8 × 8     64
  │  ├─ norm2                   8      8
  │  ├─ mlp_up      (64 + 64) × 8  1,024
  │  └─ mlp_down           8 × 64    512
  ├─ final_norm                 8      8
  └─ lm_head                = wte      0
";
        assert_eq!(drawn, expected);
    }
}
