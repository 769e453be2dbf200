//! Writing a checkpoint so that, whatever happens in between, there is a whole one under every name that
//! counts: everything goes into a temporary directory, each file is flushed, and the directory then gets its
//! name at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use serde_json::json;

use super::adapter;
use super::disk::Disk;
use super::dtype::Dtype;
use super::family::{Family, Piece, name_labels};
use super::manifest::{About, FileRecord, MANIFEST, Manifest, Task, is_plain, verify};
use super::writer::{Array, Writer, write_arrays};
use super::{CONFIG, EXACT, FIRST_MOMENT, GENERATION_CONFIG, MODEL, OPTIMIZER, SECOND_MOMENT};
use crate::model::{Config, Spec, Weights, is_learned, specs, specs_of};

/// Everything that goes into a checkpoint. `T` is an array, wherever it lies. Where an adapter stands beside the
/// weights, it and what is learned besides goes there, and the rest does not.
pub struct Contents<'a, T> {
    /// The model's shape.
    pub config: &'a Config,
    /// The model.
    pub weights: &'a Weights<T>,
    /// The format that the model's files have. With moments, weights that they do not hold exactly are kept
    /// beside those.
    pub dtype: Dtype,
    /// The optimizer's first and second moments, for a checkpoint that training continues from.
    pub moments: Option<(&'a Weights<T>, &'a Weights<T>)>,
    /// Further models that training needs to go on.
    pub beside: &'a [Beside<'a, T>],
    /// Copies a leaf to the host: [`from_host`], [`from_backend`].
    pub read: &'a mut dyn FnMut(&T, &mut [f32]),
    /// The token that begins and ends a document.
    pub eot_token: Option<u32>,
    /// The token that ends what the model says: its answer, if it is a chat model, else the document.
    pub eos_token: Option<u32>,
    /// What else ends a text, as the model that training began with says.
    pub end_tokens: &'a [u32],
    /// Further files by name, such as `tokenizer.json`.
    pub files: &'a [(&'a str, &'a [u8])],
    /// Where it comes from.
    pub about: About,
}

/// A further model of a checkpoint, such as the value model of PPO, exactly and in a file of its own.
pub struct Beside<'a, T> {
    /// The file's name.
    pub name: &'static str,
    /// The model's shape.
    pub config: &'a Config,
    /// Its weights, and the optimizer's moments where it is trained, by the prefix of their names in the
    /// file.
    pub trees: Vec<(&'static str, &'a Weights<T>)>,
}

/// Copies leaves that are on the host already.
#[expect(clippy::ptr_arg, reason = "it is a `Contents::read` for leaves of this type")]
pub fn from_host(leaf: &Vec<f32>, out: &mut [f32]) {
    out.copy_from_slice(leaf);
}

/// Copies leaves from a backend.
pub fn from_backend<B: Backend>(backend: &mut B) -> impl FnMut(&B::Tensor, &mut [f32]) {
    |leaf, out| backend.download(out, leaf)
}

/// Writes the checkpoint `dir`. A good checkpoint of the same stage and step that is there already stays as
/// it is, unless its step was unfinished and no longer is; a damaged one is set aside as `NAME.damaged`.
///
/// # Errors
/// What could not be written and why; then nothing of it is left, and other checkpoints are as before.
pub fn save<T>(dir: &Path, contents: Contents<'_, T>) -> Result<()> {
    save_on(&mut Disk::default(), dir, contents)
}

/// [`save`] on a watched disk.
pub fn save_on<T>(disk: &mut Disk<'_>, dir: &Path, contents: Contents<'_, T>) -> Result<()> {
    let context = || format!("the checkpoint {} was not saved", dir.display());
    let temporary = beside(dir, ".tmp").with_context(context)?;
    let done = clear_target(disk, dir, &contents).and_then(|room| match room {
        Target::Taken => Ok(()),
        Target::Free => fill(disk, &temporary, contents).and_then(|()| publish(disk, &temporary, dir)),
        Target::Unfinished => fill(disk, &temporary, contents)
            .and_then(|()| disk.remove(dir))
            .and_then(|()| publish(disk, &temporary, dir)),
    });
    let Err(error) = done else { return Ok(()) };
    if temporary.exists()
        && let Err(second) = disk.remove(&temporary)
    {
        return Err(error.context(format!("{second:#}")).context(context()));
    }
    Err(error.context(context()))
}

/// `NAME` → `NAME` + `suffix`, in the same directory.
pub(super) fn beside(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let name = dir.file_name().context("a path that ends in a name is needed")?;
    let mut name = OsString::from(name);
    name.push(suffix);
    Ok(dir.with_file_name(name))
}

/// The directory that `dir` is named in.
pub(super) fn parent(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// What stands where the checkpoint is to be.
enum Target {
    /// Nothing.
    Free,
    /// The same checkpoint.
    Taken,
    /// The same, before its step was evaluated.
    Unfinished,
}

/// Prepares the place: parent directory, no leftovers, free space.
fn clear_target<T>(disk: &mut Disk<'_>, dir: &Path, contents: &Contents<'_, T>) -> Result<Target> {
    let parent_dir = parent(dir);
    if !parent_dir.exists() {
        disk.create_dir(parent_dir)?;
        disk.sync_dir(parent(parent_dir))?;
    }
    let temporary = beside(dir, ".tmp")?;
    if temporary.exists() {
        disk.remove(&temporary)?;
    }
    let needed = needed_bytes(contents)?;
    let free = disk.free_bytes(parent_dir)?;
    ensure!(
        free >= needed,
        "it needs {} MB and {} has {} MB left: free some space or keep fewer checkpoints (keep_last), then give the \
         same command again",
        needed.div_ceil(1_000_000),
        parent_dir.display(),
        free / 1_000_000
    );
    if dir.exists() { check_occupant(disk, dir, &contents.about) } else { Ok(Target::Free) }
}

/// Decides about a directory that has the checkpoint's name already.
fn check_occupant(disk: &mut Disk<'_>, dir: &Path, about: &About) -> Result<Target> {
    match verify(dir) {
        Ok(Manifest { about: there, .. }) => {
            let same = (&there.stage, there.step, there.seed) == (&about.stage, about.step, about.seed);
            let same =
                same && there.recipe_digest == about.recipe_digest && there.data_digest == about.data_digest;
            ensure!(
                same,
                "another checkpoint has this name (stage {}, step {}, seed {}): choose another directory",
                there.stage,
                there.step,
                there.seed
            );
            let finishes = there.unfinished.is_some() && about.unfinished.is_none();
            Ok(if finishes { Target::Unfinished } else { Target::Taken })
        }
        Err(_) if dir.join(MANIFEST).exists() || is_empty(dir) || is_step(dir) => {
            let aside = beside(dir, ".damaged")?;
            if aside.exists() {
                disk.remove(&aside)?;
            }
            disk.rename(dir, &aside)?;
            Ok(Target::Free)
        }
        Err(_) => bail!("the directory holds something else: choose another one, or remove it"),
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn is_step(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-"))
}

/// Bytes of all arrays and files, and a little for headers.
fn needed_bytes<T>(contents: &Contents<'_, T>) -> Result<u64> {
    let &Contents { config, dtype, .. } = contents;
    let family = Family::for_config(config)?;
    let specs = specs_of(config, contents.weights);
    let array = |spec: &Spec| {
        if specs.adapter.is_some() {
            return 4 * 4 * spec.len();
        }
        let exact = dtype == Dtype::F32 && family.names.pieces(config, spec).iter().all(Piece::is_exact);
        let beside = if exact { 2 * 4 } else { 3 * 4 };
        (dtype.bytes() + if contents.moments.is_some() { beside } else { 0 }) * spec.len()
    };
    let learned = |specs: &Weights<Spec>| -> Vec<Spec> {
        specs.leaves().into_iter().filter(|spec| is_learned(specs, spec)).cloned().collect()
    };
    let arrays: usize = learned(&specs).iter().map(array).sum();
    let tree = |config: &Config, tree: &Weights<T>| {
        4 * learned(&specs_of(config, tree)).iter().map(Spec::len).sum::<usize>()
    };
    let of_model = |m: &Beside<'_, T>| m.trees.iter().map(|(_, of)| tree(m.config, of)).sum::<usize>();
    let beside: usize = contents.beside.iter().map(of_model).sum();
    let files: usize = contents.files.iter().map(|(_, bytes)| bytes.len()).sum();
    Ok((arrays + beside + files + (1 << 20)) as u64)
}

/// Gives the finished directory its name.
fn publish(disk: &mut Disk<'_>, temporary: &Path, dir: &Path) -> Result<()> {
    disk.sync_dir(temporary)?;
    disk.rename(temporary, dir)?;
    disk.sync_dir(parent(dir))
}

/// Writes all files, the manifest last.
fn fill<T>(disk: &mut Disk<'_>, dir: &Path, contents: Contents<'_, T>) -> Result<()> {
    let Contents {
        config,
        weights,
        dtype,
        moments,
        beside,
        read,
        eot_token,
        eos_token,
        end_tokens,
        files,
        about,
    } = contents;
    let specs = specs_of(config, weights);
    assert_eq!(
        specs.leaves().len(),
        weights.leaves().len(),
        "the weights are not those of the configuration"
    );

    disk.create_dir(dir)?;
    let mut records = BTreeMap::new();
    for (name, bytes) in files {
        write_file(disk, dir, name, bytes, &mut records)?;
    }
    let exact = match adapter::write(disk, dir, config, weights, about.base.as_ref(), read)? {
        Some((written, exact)) => {
            records.extend(written.into_iter().map(|(name, record)| (name.to_owned(), record)));
            exact
        }
        None => {
            let ends = Ends { eot_token, eos_token, end_tokens };
            write_model(disk, dir, config, weights, dtype, &ends, about.task.as_ref(), read, &mut records)?
        }
    };
    let under =
        |prefix: &'static str| move |spec: &Spec| vec![Piece::whole(format!("{prefix}{}", spec.name), spec)];
    if let Some((m, v)) = moments {
        let mut all = arrays(&specs, m, under(FIRST_MOMENT));
        let second = arrays(&specs, v, under(SECOND_MOMENT)).into_iter();
        all.extend(second.filter(|array| about.optimizer.has_second_moment(&specs, array.spec)));
        let weights = arrays(&specs, weights, under(EXACT)).into_iter().zip(exact);
        all.extend(weights.filter(|(_, exact)| !exact).map(|(array, _)| array));
        let (optimizer, _) = write_arrays(disk, dir, OPTIMIZER, &all, Dtype::F32, read)?;
        records.insert(OPTIMIZER.to_owned(), optimizer);
    }

    for Beside { name, config, trees } in beside {
        let specs: Vec<_> = trees.iter().map(|(_, tree)| specs_of(config, tree)).collect();
        let with_specs = trees.iter().zip(&specs);
        let all: Vec<_> =
            with_specs.flat_map(|((prefix, tree), specs)| arrays(specs, tree, under(prefix))).collect();
        let (record, _) = write_arrays(disk, dir, name, &all, Dtype::F32, read)?;
        records.insert((*name).to_owned(), record);
    }

    let mut writer = Writer::create(disk, dir, MANIFEST)?;
    writer.write(Manifest::new(about, records).to_text()?.as_bytes())?;
    writer.finish()?;
    Ok(())
}

/// Tokens that begin and end texts, see [`Contents`].
struct Ends<'a> {
    eot_token: Option<u32>,
    eos_token: Option<u32>,
    end_tokens: &'a [u32],
}

/// Writes the files of a whole model, and tells of each leaf whether they give back the same bits.
#[allow(clippy::too_many_arguments)]
fn write_model<T>(
    disk: &mut Disk<'_>,
    dir: &Path,
    config: &Config,
    weights: &Weights<T>,
    dtype: Dtype,
    &Ends { eot_token, eos_token, end_tokens }: &Ends<'_>,
    task: Option<&Task>,
    read: &mut dyn FnMut(&T, &mut [f32]),
    records: &mut BTreeMap<String, FileRecord>,
) -> Result<Vec<bool>> {
    let (family, specs) = (Family::for_config(config)?, specs(config));
    let mut config_json = family.config_json(config, eot_token, eos_token, dtype);
    if let Some(task) = task.filter(|task| !task.labels.is_empty()) {
        assert_eq!(Some(task.labels.len()), config.n_label, "every score has a name, or none");
        name_labels(&mut config_json, &task.labels);
    }
    let config_json = pretty(&config_json)?;
    let mut ends: Vec<u32> = Vec::new();
    for end in eos_token.into_iter().chain(eot_token).chain(end_tokens.iter().copied()) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    // What else ends a document ends an answer too.
    let ends = if ends.len() > 1 { json!(ends) } else { json!(ends.first()) };
    let generation = pretty(&json!({ "bos_token_id": eot_token, "eos_token_id": ends }))?;
    write_file(disk, dir, CONFIG, config_json.as_bytes(), records)?;
    write_file(disk, dir, GENERATION_CONFIG, generation.as_bytes(), records)?;

    let of_model = arrays(&specs, weights, |spec| family.names.pieces(config, spec));
    let (model, exact) = write_arrays(disk, dir, MODEL, &of_model, dtype, read)?;
    records.insert(MODEL.to_owned(), model);
    Ok(exact)
}

/// Writes a file that is made already.
fn write_file(
    disk: &mut Disk<'_>,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    records: &mut BTreeMap<String, FileRecord>,
) -> Result<()> {
    assert!(is_plain(name), "{name:?} is not the name of a file in the checkpoint");
    let mut writer = Writer::create(disk, dir, name)?;
    writer.write(bytes)?;
    let replaced = records.insert(name.to_owned(), writer.finish()?);
    assert!(replaced.is_none(), "the checkpoint has two files of the name {name}");
    Ok(())
}

fn pretty(json: &serde_json::Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(json)? + "\n")
}

/// Every leaf of a tree that is learned, on its way into the tensors that `pieces` names.
fn arrays<'a, T>(
    specs: &'a Weights<Spec>,
    tree: &'a Weights<T>,
    pieces: impl Fn(&Spec) -> Vec<Piece>,
) -> Vec<Array<'a, T>> {
    let pairs = specs.leaves().into_iter().zip(tree.leaves());
    pairs
        .filter(|(spec, _)| is_learned(specs, spec))
        .map(|(spec, leaf)| Array { leaf, spec, pieces: pieces(spec) })
        .collect()
}
