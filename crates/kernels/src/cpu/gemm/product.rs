//! Products of whole matrices by all threads.
//!
//! First the right factor is packed by everybody together; then the result is cut into chunks, whose takers
//! pack their rows of the left factor block by block and multiply.

use super::super::aligned::Aligned;
use super::super::pool::{Disjoint, Pool};
use super::super::scratch::Scratch;
use super::super::tensor::Sink;
use super::codes::Codes;
use super::kernel::Kernel;
use super::layout::{Block, Blocks, Columns, UNIT};
use super::pack::Factor;
use super::tile::{Out, PREFETCH_WORDS, Tile};
use std::ops::Range;

/// Most rows of a chunk: a block of them, packed, stays in the second-level cache.
const CHUNK_ROWS: usize = 96;
/// Most columns of a chunk whose result is added up over several blocks, so that it stays in that cache as
/// well.
const CHUNK_COLUMNS: usize = 768;
/// Panels of the right factor that are packed side by side, and values of k: whole words.
const PACK_PANELS: usize = 4;
const PACK_K: usize = 32;
/// Rows from which on a chunk is rather cut across: fewer, and panels of the right factor are read too often.
const FEW_ROWS: usize = 32;
/// Chunks a thread should find, so that none is left waiting for another's last one.
const CHUNKS_PER_THREAD: usize = 4;

/// `out (=|+=) left · right + bias`: `out` is `[m, n]` row-major, k is what `blocks` cover.
pub(crate) struct Product<'a> {
    pub(crate) m: usize,
    pub(crate) n: usize,
    /// How k is cut, by the [`Kernel::push`] of its kernel.
    pub(crate) blocks: &'a Blocks,
    pub(crate) left: Factor<'a>,
    pub(crate) right: Right<'a>,
    /// Added to every row.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether the product is added to `out` (in `f32`), or overwrites it.
    pub(crate) add: bool,
}

/// A right factor that [`pack_right`] has packed, for the same blocks.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a>(Packed<'a>);

/// How it lies in memory.
#[derive(Clone, Copy)]
enum Packed<'a> {
    Words(&'a [u32]),
    /// The upper halves of words whose lower ones are zero.
    Halves(&'a [u16]),
    Codes(&'a Codes),
}

impl Packed<'_> {
    /// Whether it is a factor of these columns and blocks.
    fn fits(self, columns: Columns, blocks: &Blocks) -> bool {
        let len = columns.padded() * blocks.words();
        match self {
            Packed::Words(words) => words.len() == len,
            Packed::Halves(halves) => halves.len() == len,
            Packed::Codes(codes) => {
                let [d_out, d_in] = codes.shape();
                d_out.next_multiple_of(UNIT) == columns.padded() && d_in == blocks.k()
            }
        }
    }
}

/// The weight of a linear layer, laid out as the right factor of its product.
pub(crate) struct PackedWeight {
    stored: Stored,
    d_in: usize,
    d_out: usize,
}

enum Stored {
    Words(Aligned<u32>),
    Halves(Aligned<u16>),
    Codes(Codes),
}

impl Stored {
    /// What a kernel packed, in as little memory as it can be multiplied from.
    fn new(kernel: Kernel, words: Aligned<u32>) -> Self {
        if !kernel.takes_halves() {
            return Stored::Words(words);
        }
        let mut halves = Aligned::zeros(words.len());
        halves.iter_mut().zip(words.iter()).for_each(|(half, word)| *half = (word >> 16) as u16);
        Stored::Halves(halves)
    }
}

impl PackedWeight {
    /// Packs `weight`, `[d_out, d_in]`.
    pub(crate) fn new(
        kernel: Kernel,
        pool: &mut Pool,
        weight: Factor<'_>,
        d_in: usize,
        d_out: usize,
    ) -> Self {
        let mut blocks = Blocks::default();
        kernel.push(&mut blocks, d_in);
        let mut words = Aligned::zeros(kernel.packed_words(&blocks, d_out));
        pack_right(kernel, pool, &mut words, weight, &blocks, d_out);
        Self { stored: Stored::new(kernel, words), d_in, d_out }
    }

    /// A weight in blocks, which stays in them.
    pub(crate) fn of_codes(codes: Codes) -> Self {
        let [d_out, d_in] = codes.shape();
        Self { stored: Stored::Codes(codes), d_in, d_out }
    }

    /// Number of values of the matrix.
    pub(crate) fn len(&self) -> usize {
        self.d_in * self.d_out
    }

    /// As a factor of a product with `d_in` and `d_out`.
    pub(crate) fn right(&self, d_in: usize, d_out: usize) -> Right<'_> {
        assert_eq!((self.d_in, self.d_out), (d_in, d_out), "a packed weight of another shape");
        Right(match &self.stored {
            Stored::Words(words) => Packed::Words(words),
            Stored::Halves(halves) => Packed::Halves(halves),
            Stored::Codes(codes) => Packed::Codes(codes),
        })
    }
}

impl Kernel {
    /// Appends `len` values of k to `blocks`, as a stretch that no block crosses.
    pub(crate) fn push(self, blocks: &mut Blocks, len: usize) {
        blocks.push(len, self.step());
    }

    /// Words of a packed right factor of `n` columns.
    pub(crate) fn packed_words(self, blocks: &Blocks, n: usize) -> usize {
        Columns::new(n, self.max_units()).padded() * blocks.words()
    }
}

/// Packs a right factor of `n` columns into `words`, panel by panel, each block by block.
pub(crate) fn pack_right<'a>(
    kernel: Kernel,
    pool: &mut Pool,
    words: &'a mut [u32],
    factor: Factor<'_>,
    blocks: &Blocks,
    n: usize,
) -> Right<'a> {
    let columns = Columns::new(n, kernel.max_units());
    assert_eq!(words.len(), columns.padded() * blocks.words(), "a right factor of another size");
    let target = Disjoint::new(&mut *words);
    let groups = columns.panels().div_ceil(PACK_PANELS);
    pool.run(groups * blocks.iter().len(), &|chunk, scratch| {
        let block = blocks.get(chunk / groups);
        let first = chunk % groups * PACK_PANELS;
        let panels = first..columns.panels().min(first + PACK_PANELS);
        let lines = columns.range(panels.start).start..columns.range(panels.end - 1).end;
        // A few k of all panels at a time, because they are neighbours in memory if the factor lies across k.
        for skipped in (0..block.len).step_by(PACK_K) {
            let len = PACK_K.min(block.len - skipped);
            let (k, [buffer, ..]) = (block.start + skipped, &mut scratch.buffers);
            let (factor, [first_line, first_k]) =
                factor.readable(kernel.level, lines.clone(), k..k + len, buffer);
            for panel in panels.clone() {
                let (start, range) = (columns.start(panel), columns.range(panel));
                let width = columns.start(panel + 1) - start;
                let word = block.word + skipped / kernel.step();
                // SAFETY: every chunk takes its own words.
                let words = unsafe {
                    target.slice(start * blocks.words() + word * width, len.div_ceil(kernel.step()) * width)
                };
                let window = factor.window(range.start - first_line, range.len(), k - first_k, len);
                kernel.pack_panel(words, window, width);
            }
        }
    });
    Right(Packed::Words(words))
}

impl Product<'_> {
    /// Computes it into `out`.
    pub(crate) fn run(&self, kernel: Kernel, pool: &mut Pool, out: Sink<'_>) {
        let columns = Columns::new(self.n, kernel.max_units());
        assert!(self.right.0.fits(columns, self.blocks), "a right factor of another size");
        assert_eq!(out.len(), self.m * self.n, "a result of another size");
        assert!(self.bias.is_none_or(|bias| bias.len() == self.n), "a bias of another size");
        assert!(!self.add || matches!(out, Sink::F32(_)), "only f32 is added to");
        if self.blocks.k() == 0 {
            assert!(self.add, "a product over nothing");
            return;
        }
        let grid = Grid::new(kernel, self.m, columns, self.blocks.iter().len(), pool.threads());
        pool.run(grid.chunks(), &|chunk, scratch| {
            let (rows, panels) = grid.chunk(chunk);
            // SAFETY: the chunks of a grid do not overlap, and each is handed out once; the sizes were
            // asserted.
            unsafe { self.chunk(kernel, columns, &out, rows, panels, scratch) };
        });
    }

    /// Computes the elements of `rows` and of the columns of `panels`.
    ///
    /// # Safety
    ///
    /// `out` has `m · n` values, `rows` are below `m` and `panels` among those of `columns`, which are `n`;
    /// no other thread touches these elements meanwhile.
    unsafe fn chunk(
        &self,
        kernel: Kernel,
        columns: Columns,
        out: &Sink<'_>,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: &mut Scratch,
    ) {
        let [left, sums, unpacked, ..] = &mut scratch.buffers;
        let first_column = columns.start(panels.start);
        // Where the sum so far lies while it is not final: in the result itself if that is `f32`.
        let width = columns.start(panels.end) - first_column;
        let (target, partial, partial_stride) = match out {
            Sink::F32(out) => {
                let out = out.start().wrapping_add(rows.start * self.n + first_column);
                (Out::F32(out), out, self.n)
            }
            Sink::Bf16(out) => {
                let out = out.start().wrapping_add(rows.start * self.n + first_column);
                let sums =
                    if self.blocks.iter().len() > 1 { sums.floats(rows.len() * width) } else { &mut [] };
                (Out::Bf16(out), sums.as_mut_ptr(), width)
            }
        };
        // The tiles of a panel bring the next one nearer, each its share; a lone one reads as fast as memory
        // gives.
        let tiles = rows.len().div_ceil(kernel.mr());
        let share = if tiles > 1 { (PREFETCH_WORDS * kernel.max_units()).div_ceil(tiles) } else { 0 };
        let last = self.blocks.iter().len() - 1;
        for (index, block) in self.blocks.iter().enumerate() {
            let words = block.len.div_ceil(kernel.step());
            let left = left.words(kernel.left_words(rows.len(), block.len));
            kernel.pack_rows(left, self.left.window(rows.start, rows.len(), block.start, block.len));
            let (to, to_stride) =
                if index == last { (target, self.n) } else { (Out::F32(partial), partial_stride) };
            let share_of_tile = words.div_ceil(PREFETCH_WORDS) * share;
            let tile = |panel: usize, row: usize, right: *const u32, next: *const u32| {
                let range = columns.range(panel);
                let offset = range.start - first_column;
                let add = partial.wrapping_add(row * partial_stride + offset).cast_const();
                let bias = self.bias.filter(|_| index == last).map(|bias| bias[range.start..].as_ptr());
                Tile {
                    words,
                    left: left[row * words..].as_ptr(),
                    right,
                    is_halves: matches!(self.right.0, Packed::Halves(_)),
                    prefetch: (next.wrapping_add(row / kernel.mr() * share_of_tile * UNIT), share),
                    rows: (rows.len() - row).min(kernel.mr()),
                    units: columns.units(panel),
                    cols: range.len(),
                    out: to.offset(row * to_stride + offset),
                    out_stride: to_stride,
                    add: if index > 0 || self.add { add } else { std::ptr::null() },
                    add_stride: partial_stride,
                    bias: bias.unwrap_or(std::ptr::null()),
                }
            };
            #[cfg(target_arch = "x86_64")]
            if let Packed::Codes(codes) = self.right.0
                && let Some(units) = kernel.units_of_codes(codes, rows.len())
            {
                let mut panel = panels.start;
                while panel < panels.end {
                    let (one, two) = (panel, (panel + units - 1).min(panels.end - 1));
                    let [one, two] =
                        [one, two].map(|panel| tile(panel, 0, std::ptr::null(), std::ptr::null()));
                    let tiles = [one, two];
                    let tiles = if panel + units <= panels.end { &tiles[..units] } else { &tiles[..1] };
                    // SAFETY: as below; a panel of this level is a unit, and blocks of an even number of terms have
                    // even ones.
                    unsafe { super::codes_avx2::run(codes, panel, block.start, tiles) };
                    panel += tiles.len();
                }
                continue;
            }
            for panel in panels.clone() {
                let right = match self.right.0 {
                    Packed::Codes(codes) => {
                        let width = columns.units(panel) * UNIT;
                        let first = columns.start(panel) / UNIT;
                        let unpacked = unpacked.words(words * width);
                        let terms = block.start..block.start + block.len;
                        codes.unpack(kernel, unpacked, first..first + width / UNIT, terms);
                        unpacked.as_ptr()
                    }
                    _ => self.right_panel(columns, panel, block),
                };
                let next = match self.right.0 {
                    Packed::Words(_) | Packed::Halves(_) if panel + 1 < panels.end => {
                        self.right_panel(columns, panel + 1, block)
                    }
                    _ => right,
                };
                for row in (0..rows.len()).step_by(kernel.mr()) {
                    let tile = tile(panel, row, right, next);
                    // SAFETY: the panels hold `words` words; `out` has `m · n` elements, of which this
                    // chunk's rows and columns are its own; `partial` is the same, or scratch of `rows ·
                    // width`.
                    unsafe { kernel.run(&tile) };
                }
            }
        }
    }

    /// The address of a panel's part, whose values are words or halves.
    fn right_panel(&self, columns: Columns, panel: usize, block: Block) -> *const u32 {
        let (start, end) = (columns.start(panel), columns.start(panel + 1));
        let panel = start * self.blocks.words()..end * self.blocks.words();
        let part = block.word * (end - start);
        match self.right.0 {
            Packed::Words(words) => words[panel][part..].as_ptr(),
            Packed::Halves(halves) => halves[panel][part..].as_ptr().cast(),
            Packed::Codes(_) => panic!("codes are unpacked first"),
        }
    }
}

/// The result, cut into chunks of rows and panels.
#[derive(Clone, Copy)]
struct Grid {
    m: usize,
    rows: usize,
    panels: usize,
    panels_per_chunk: usize,
}

impl Grid {
    fn new(kernel: Kernel, m: usize, columns: Columns, blocks: usize, threads: usize) -> Self {
        let wide = columns.panels().max(1);
        let panel_width = columns.padded().div_ceil(wide).max(1);
        let mut rows = CHUNK_ROWS.min(m.next_multiple_of(kernel.mr())).max(kernel.mr());
        rows = rows / kernel.mr() * kernel.mr();
        let mut panels_per_chunk =
            if blocks == 1 { wide } else { wide.min((CHUNK_COLUMNS / panel_width).max(1)) };
        let count = |rows: usize, panels: usize| m.div_ceil(rows) * wide.div_ceil(panels);
        // Few chunks: halve their rows first, because rows are packed once for each chunk across.
        while threads > 1 && count(rows, panels_per_chunk) < CHUNKS_PER_THREAD * threads {
            if rows > FEW_ROWS || panels_per_chunk == 1 && rows > kernel.mr() {
                rows = (rows / 2).next_multiple_of(kernel.mr());
            } else if panels_per_chunk > 1 {
                panels_per_chunk = panels_per_chunk.div_ceil(2);
            } else {
                break;
            }
        }
        Self { m, rows, panels: wide, panels_per_chunk }
    }

    fn chunks(&self) -> usize {
        self.m.div_ceil(self.rows) * self.panels.div_ceil(self.panels_per_chunk)
    }

    /// Rows and panels of a chunk.
    fn chunk(&self, chunk: usize) -> (Range<usize>, Range<usize>) {
        let across = self.panels.div_ceil(self.panels_per_chunk);
        let (row, panel) = (chunk / across * self.rows, chunk % across * self.panels_per_chunk);
        (row..(row + self.rows).min(self.m), panel..(panel + self.panels_per_chunk).min(self.panels))
    }
}
