//! [`Checkpoint`] → GGUF file, one array in memory at a time; the file gets its name when it is whole.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use kernels::BlockFormat;

use super::super::disk::Disk;
use super::super::dtype::Dtype;
use super::super::family::Piece;
use super::super::model::Checkpoint;
use super::super::number_format::NumberFormat;
use super::super::save::{beside, parent};
use super::super::writer::Writer;
use super::architecture::{Architecture, INPUT, OUTPUT, POSITIONS};
use super::entries::{Entries, string};
use super::{header, rope, vocabulary};
use crate::model::{Config, RopeScaling, Spec};
use text::progress::{Progress, Stopped, Unit};
use text::tokenizer::Tokenizer;

/// The number format of matrices; vectors and the embedding of positions are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// As they are in memory.
    F32,
    /// Half precision.
    F16,
    /// Blocks of 8-bit integers; `f16` where rows are no whole blocks.
    Q8_0,
    /// Blocks of 4-bit integers; of 8 bits in the embedding and the head, whose errors go straight into the logits.
    Q4_0,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Length of the file.
    pub bytes: u64,
    /// How many tensors have each number format, such as 12 `F32`.
    pub formats: Vec<(String, usize)>,
}

/// The version that is written.
const VERSION: u32 = *header::VERSIONS.end();

/// `general.quantization_version`: how blocks of integers are laid out.
const QUANTIZATION_VERSION: usize = 2;

impl Quant {
    /// The format that a tensor gets.
    fn format(self, piece: &Piece) -> NumberFormat {
        let row = piece.shape.last().copied().unwrap_or(1);
        let in_blocks = |format: BlockFormat| match row.is_multiple_of(format.block_len()) {
            true => NumberFormat::Blocks(format),
            false => NumberFormat::Float(Dtype::F16),
        };
        match self {
            _ if piece.shape.len() < 2 || piece.name == POSITIONS => NumberFormat::Float(Dtype::F32),
            Quant::F32 => NumberFormat::Float(Dtype::F32),
            Quant::F16 => NumberFormat::Float(Dtype::F16),
            Quant::Q4_0 if ![INPUT, OUTPUT].contains(&piece.name.as_str()) => in_blocks(BlockFormat::Q4_0),
            Quant::Q8_0 | Quant::Q4_0 => in_blocks(BlockFormat::Q8_0),
        }
    }

    /// `general.file_type`.
    fn file_type(self) -> usize {
        match self {
            Quant::F32 => 0,
            Quant::F16 => 1,
            Quant::Q4_0 => 2,
            Quant::Q8_0 => 7,
        }
    }
}

/// Writes a model and its tokenizer as the GGUF file `out`, under the name `name`.
///
/// # Errors
/// The model or its tokenizer is of a kind that GGUF has no words for; a value is beyond the number format;
/// what could not be written and why; a stop asked for through `progress`. Then nothing is left. What `out`
/// was before is replaced when the new file is whole.
pub fn write(
    model: &Checkpoint,
    tokenizer: &Tokenizer,
    name: &str,
    quant: Quant,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Written> {
    let shown = out.display();
    let plan =
        Plan::new(model, tokenizer, name, quant).with_context(|| format!("{shown} cannot be written"))?;
    let disk = &mut Disk::default();
    let temporary = beside(out, ".mynah.tmp")?;
    let done = make_room(disk, out, &temporary, plan.bytes())
        .and_then(|()| plan.fill(disk, &temporary, model, progress))
        .and_then(|()| disk.rename(&temporary, out))
        .and_then(|()| disk.sync_dir(parent(out)));
    if let Err(error) = done {
        if temporary.exists() {
            disk.remove(&temporary)?;
        }
        return Err(if error.is::<Stopped>() {
            error
        } else {
            error.context(format!("{shown} was not written"))
        });
    }
    Ok(Written { architecture: plan.architecture.name, bytes: plan.bytes(), formats: plan.formats() })
}

/// Prepares the place: directory, no leftovers, free space.
fn make_room(disk: &mut Disk<'_>, out: &Path, temporary: &Path, needed: u64) -> Result<()> {
    let dir = parent(out);
    if !dir.exists() {
        disk.create_dir(dir)?;
    }
    if temporary.exists() {
        disk.remove(temporary)?;
    }
    let free = disk.free_bytes(dir)?;
    let (mb, left, dir) = (needed.div_ceil(1_000_000), free / 1_000_000, dir.display());
    ensure!(free >= needed, "it needs {mb} MB and {dir} has {left} MB left: free some space");
    Ok(())
}

/// All that is known before the first number is read.
struct Plan {
    architecture: &'static Architecture,
    head: Vec<u8>,
    /// What each array of the model becomes, and the tensors that are none of its arrays.
    tensors: Vec<(Source, Planned)>,
}

/// Where the values of a tensor come from.
enum Source {
    /// The leaf of this number.
    Leaf(usize),
    /// Here.
    Values(Vec<f32>),
}

/// A tensor of the file.
struct Planned {
    piece: Piece,
    format: NumberFormat,
}

impl Planned {
    fn bytes(&self) -> u64 {
        let blocks = self.piece.values.len() / self.format.block_len();
        (blocks * self.format.block_bytes().expect("it is written")) as u64
    }
}

impl Plan {
    fn new(model: &Checkpoint, tokenizer: &Tokenizer, name: &str, quant: Quant) -> Result<Self> {
        let config = &model.config;
        let architecture = Architecture::for_config(config)?;
        let mut tensors = Vec::new();
        if let Some(factors) = factors(config) {
            let spec = Spec { name: String::new(), shape: vec![factors.len()], ..model.specs.wte.clone() };
            let piece = Piece::whole(rope::FACTORS.into(), &spec);
            tensors
                .push((Source::Values(factors), Planned { piece, format: NumberFormat::Float(Dtype::F32) }));
        }
        for (leaf, spec) in model.specs.leaves().into_iter().enumerate() {
            for piece in architecture.names.pieces(config, spec) {
                let format = quant.format(&piece);
                tensors.push((Source::Leaf(leaf), Planned { piece, format }));
            }
        }

        let mut entries = Entries::default();
        entries.text("general.architecture", architecture.name);
        entries.text("general.type", "model");
        entries.text("general.name", name);
        entries.size("general.file_type", quant.file_type())?;
        entries.size("general.quantization_version", QUANTIZATION_VERSION)?;
        architecture.write(config, &mut entries)?;
        vocabulary::write(&mut entries, tokenizer, config.vocab_size).context("its tokenizer")?;
        let mut plan = Plan { architecture, head: Vec::new(), tensors };
        plan.head = plan.head(&entries);
        Ok(plan)
    }

    /// Everything before the tensors, padded.
    fn head(&self, entries: &Entries) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(header::MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&entries.count.to_le_bytes());
        head.extend_from_slice(&entries.bytes);
        let mut offset = 0u64;
        for (_, planned) in &self.tensors {
            let Planned { piece, format } = planned;
            string(&mut head, &piece.name);
            head.extend_from_slice(&(piece.shape.len() as u32).to_le_bytes());
            for side in piece.shape.iter().rev() {
                head.extend_from_slice(&(*side as u64).to_le_bytes());
            }
            head.extend_from_slice(&header::number_of(*format).to_le_bytes());
            head.extend_from_slice(&offset.to_le_bytes());
            offset += padded(planned.bytes());
        }
        head.resize(padded(head.len() as u64) as usize, 0);
        head
    }

    fn bytes(&self) -> u64 {
        self.head.len() as u64 + self.tensors.iter().map(|(_, planned)| padded(planned.bytes())).sum::<u64>()
    }

    fn formats(&self) -> Vec<(String, usize)> {
        let mut formats = std::collections::BTreeMap::new();
        for (_, planned) in &self.tensors {
            *formats.entry(planned.format.to_string()).or_insert(0) += 1;
        }
        formats.into_iter().collect()
    }

    fn fill(
        &self,
        disk: &mut Disk<'_>,
        path: &Path,
        model: &Checkpoint,
        progress: &dyn Progress,
    ) -> Result<()> {
        let name =
            path.file_name().and_then(|name| name.to_str()).context("a name that is text is needed")?;
        let mut writer = Writer::create(disk, parent(path), name)?;
        writer.write(&self.head)?;
        progress.begin("write", self.bytes(), Unit::Bytes);
        progress.advance(self.head.len() as u64);
        let specs = model.specs.leaves();
        let mut read: Option<(usize, Vec<f32>)> = None;
        for (source, Planned { piece, format }) in &self.tensors {
            if progress.should_stop() {
                return Err(Stopped("nothing was written").into());
            }
            let values = match source {
                Source::Values(values) => values,
                Source::Leaf(leaf) => {
                    if read.as_ref().is_none_or(|(other, _)| other != leaf) {
                        read = Some((*leaf, model.read(specs[*leaf])?));
                    }
                    &read.as_ref().expect("it was read just now").1
                }
            };
            let values = piece.in_file_order(&values[piece.values.clone()]);
            let mut bytes = format.encode(&values).with_context(|| format!("the tensor {}", piece.name))?;
            bytes.resize(padded(bytes.len() as u64) as usize, 0);
            writer.write(&bytes)?;
            progress.advance(bytes.len() as u64);
        }
        progress.end();
        writer.finish()?;
        Ok(())
    }
}

fn padded(bytes: u64) -> u64 {
    bytes.next_multiple_of(header::ALIGNMENT)
}

/// The factors of the rotary embedding, where the architecture keeps them as a tensor.
fn factors(config: &Config) -> Option<Vec<f32>> {
    let rope = config.rope()?;
    matches!(rope.scaling, RopeScaling::Llama3 { .. }).then(|| rope::factors(rope, config.head_dim))
}
