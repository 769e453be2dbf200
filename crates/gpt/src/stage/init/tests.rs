//! What a model becomes before a stage begins.

use super::*;
use crate::checkpoint::{Contents, Dtype, Quant};
use crate::progress::Silent;
use crate::tools::rigged::{Rigged, rigged};
use kernels::BlockFormat;

#[test]
fn new_rows_begin_at_the_mean_and_padding_stays() {
    let rows = vec![1.0, 2.0, 3.0, 6.0, 9.0, 9.0];
    let mean = [2.0, 4.0];
    let padded = grown(rows.clone(), 2, 3, 2..3, NewRows::Mean);
    assert_eq!(padded, [&rows[..4], &mean].concat(), "the padding row is a token now");
    let longer = grown(rows.clone(), 2, 5, 2..5, NewRows::Mean);
    assert_eq!(longer, [&rows[..4], &mean, &mean, &mean].concat());
    assert_eq!(grown(rows.clone(), 2, 4, 3..4, NewRows::Zero), [&rows[..], &[0.0, 0.0]].concat());
    assert_eq!(grown(rows.clone(), 2, 3, 2..2, NewRows::Mean), rows);
    let drawn = grown(rows, 2, 4, 2..4, NewRows::Drawn { seed: 1 });
    assert_ne!(drawn[4..6], drawn[6..8], "marks differ from each other");
}

/// A model in a file of blocks is the same to the bit as its numbers, so that results do not tell how it was stored.
#[test]
fn matrices_beneath_an_adapter_stay_in_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let Rigged { mut cpu, tokenizer, config, weights, .. } = rigged();
    let contents = Contents {
        config: &config,
        weights: &weights,
        dtype: Dtype::F32,
        moments: None,
        beside: &[],
        read: &mut checkpoint::from_backend(&mut cpu),
        eot_token: tokenizer.end_of_text(),
        eos_token: tokenizer.eos(),
        end_tokens: &[],
        files: &tokenizer.files(),
        about: About::default(),
    };
    let (numbers, file) = (dir.path().join("numbers"), dir.path().join("model.gguf"));
    checkpoint::save(&numbers, contents).unwrap();
    let model = checkpoint::open(&numbers, &Silent).unwrap();
    checkpoint::write_gguf(&model, &tokenizer, "tiny", Quant::Q8_0, &file, &Silent).unwrap();
    let in_blocks = |path: &Path, stored: Option<Stored>| {
        let model = checkpoint::open(path, &Silent).unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let mut init = Init::new("tiny".into(), model, tokenizer, &[]).unwrap();
        if let Some(stored) = stored {
            init = init.beside(&Lora::default(), None).unwrap().stored(stored);
        }
        let specs = specs(&config);
        let leaf = |spec: &Spec| init.stored_leaf(spec, vec![0.5; spec.len()]).unwrap();
        let is_in_blocks = |spec: &&&Spec| matches!(leaf(spec), Leaf::Blocks(_));
        specs.leaves().iter().filter(is_in_blocks).map(|spec| spec.name.clone()).collect::<Vec<_>>()
    };
    let matrices: Vec<String> = specs(&config)
        .leaves()
        .into_iter()
        .filter(|spec| spec.is_block_matrix())
        .map(|spec| spec.name.clone())
        .collect();
    assert_eq!(matrices.len(), 4);
    assert_eq!(in_blocks(&file, Some(Stored::AsInFile)), matrices);
    assert_eq!(in_blocks(&numbers, Some(Stored::In(BlockFormat::Nf4))), matrices);
    for (path, stored) in [(&file, Some(Stored::Exactly)), (&numbers, Some(Stored::AsInFile)), (&file, None)]
    {
        assert_eq!(in_blocks(path, stored), Vec::<String>::new(), "{stored:?}");
    }
}
