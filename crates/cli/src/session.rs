//! What was typed for every verb, resolved: the machine, the terminal, where results go.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gpt::checkpoint::{self, Checkpoint, Stored};
use gpt::output::Out;
use gpt::progress::Progress;
use gpt::report::quoted;
use gpt::stage::{Ending, Machine};
use kernels::{BlockFormat, Cpu, CpuOptions, Precision};
use ranks::{Launch, Ranks};
use serde::Serialize;

use crate::device::{Compute, Computes, Device, DeviceName, Devices};
use crate::options::{Global, PrecisionName, Usage, WeightsArg, WeightsName};
use crate::precision;
use crate::terminal::{self, Terminal, text};
use crate::{together, verbs};

/// How long the peak is measured before a training.
const PEAK_DURATION: Duration = Duration::from_millis(200);
/// How long a launcher takes to pass on what was said, before it ends all processes.
const PASSED_ON: Duration = Duration::from_millis(300);
/// How long a process that fails leaves the first one to say why, which mostly fails of the same.
const FIRST_SPEAKS: Duration = Duration::from_secs(2);

/// One call of the program.
pub(crate) struct Session {
    global: Global,
    terminal: OnceLock<Terminal>,
    devices: Devices,
    /// Whether it was said that a GPU computes for which nobody asked.
    told_device: OnceLock<()>,
    /// Whether the GPUs of several processes were connected, or could not be.
    linked: OnceLock<()>,
    /// The precision that a command began with, which goes on with it.
    text_precision: OnceLock<Precision>,
    /// Whether a file goes to standard output, so that nothing else may.
    stdout_is_taken: OnceLock<()>,
    /// What a launcher of several processes says of this one.
    launch: Option<Launch>,
    /// Who does the work together.
    ranks: OnceLock<Ranks>,
}

impl Session {
    pub(crate) fn new(global: Global) -> Self {
        let launch = Launch::from_environment();
        // Of processes with one command the first speaks.
        let quiet = global.quiet || launch.as_ref().is_some_and(|launch| launch.rank > 0);
        Session {
            global: Global { quiet, ..global },
            launch,
            ranks: OnceLock::new(),
            terminal: OnceLock::new(),
            devices: Devices::default(),
            told_device: OnceLock::new(),
            linked: OnceLock::new(),
            text_precision: OnceLock::new(),
            stdout_is_taken: OnceLock::new(),
        }
    }

    /// The same for work of its own: with this seed, in this precision, its results as text.
    pub(crate) fn with_seed(&self, seed: u64, precision: &str) -> Result<Self> {
        let precision = Some(PrecisionName::named(precision).context("no precision has this name")?);
        Ok(Session::new(Global { seed, precision, json: false, ..self.global.clone() }))
    }

    pub(crate) fn seed(&self) -> u64 {
        self.global.seed
    }

    pub(crate) fn quiet(&self) -> bool {
        self.global.quiet
    }

    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Says what a person may not have meant.
    pub(crate) fn check(&self) {
        let (asked, cores) = (self.global.threads, CpuOptions::default().threads);
        if let Some(threads) = asked.filter(|&threads| threads > cores) {
            let cores = text::plural(cores as u64, "core");
            self.say(&format!(
                "note: {threads} threads on {cores}: more threads than cores only slow it down; without --threads it takes one a core"
            ));
        }
    }

    /// Those that are asked for; else all cores, which the processes of this machine share.
    pub(crate) fn threads(&self) -> usize {
        let beside = self.launch.as_ref().and_then(|launch| launch.on_this_machine).unwrap_or(1);
        self.global.threads.unwrap_or_else(|| (CpuOptions::default().threads / beside.max(1)).max(1))
    }

    /// Joins the processes that do `verb` together with this one, where there are others.
    ///
    /// # Errors
    /// See [`together::join`].
    pub(crate) fn join(&self, verb: &str) -> Result<()> {
        let ranks = together::join(self.launch.as_ref(), verb, verbs::SHARED.contains(&verb))?;
        self.ranks.get_or_init(|| ranks);
        Ok(())
    }

    /// Who does the work together: this process alone, unless it has [joined](Self::join) others.
    pub(crate) fn ranks(&self) -> Ranks {
        self.ranks.get().cloned().unwrap_or_else(Ranks::alone)
    }

    /// The end of this process with the exit code `ended`: in order, or with a failure, which ends the others.
    pub(crate) fn leave(&self, ended: Result<u8, u8>) -> u8 {
        let ranks = self.ranks();
        match ended {
            Ok(code) => {
                ranks.finish();
                code
            }
            Err(code) if ranks.size() > 1 => {
                std::thread::sleep(PASSED_ON);
                ranks.abort(code.into())
            }
            Err(code) => code,
        }
    }

    /// Whether this process is to say why it fails. All may fail of the same, and then the first says it and
    /// ends the others; the others wait for that to happen.
    pub(crate) fn speaks_of_failure(&self) -> bool {
        let is_first = self.launch.as_ref().is_none_or(|launch| launch.rank == 0);
        if !is_first && self.ranks().size() > 1 {
            std::thread::sleep(FIRST_SPEAKS);
        }
        is_first || self.ranks().size() > 1
    }

    /// `rank 3: ` on a process that is not the first.
    pub(crate) fn rank_name(&self) -> String {
        match self.ranks().rank() {
            0 => String::new(),
            rank => format!("rank {rank}: "),
        }
    }

    /// `lanes=8`, where nobody says how many lanes the training into `out` has.
    pub(crate) fn lanes(&self, out: &Path) -> Option<String> {
        together::lanes(self.launch.as_ref(), out).map(|lanes| format!("lanes={lanes}"))
    }

    /// The watcher of work that can be stopped: from the first call on, Ctrl-C asks the work to save and
    /// stop.
    pub(crate) fn watcher(&self) -> &Terminal {
        let terminal = self.terminal();
        terminal.listen();
        terminal
    }

    /// Shows progress; Ctrl-C ends the program at once unless [`watcher`](Self::watcher) was asked for.
    pub(crate) fn terminal(&self) -> &Terminal {
        self.terminal.get_or_init(|| Terminal::new(self.global.quiet))
    }

    /// A backend on the device that is asked for, or that a run began on, in the precision that suits `purpose`
    /// unless `--precision` says otherwise.
    ///
    /// # Errors
    /// A GPU is asked for that cannot be opened.
    pub(crate) fn compute(&self, purpose: Purpose) -> Result<Compute> {
        Ok(self.computes(purpose)?())
    }

    /// The same for who makes several.
    ///
    /// # Errors
    /// See [`compute`](Self::compute).
    pub(crate) fn computes(&self, purpose: Purpose) -> Result<impl Fn() -> Compute + use<>> {
        let (device, options) = (self.ranks().together(self.device(purpose))?, self.options());
        if device.is_gpu() {
            self.ranks().refuse_differences(&[("the GPU", device.about())])?;
            let trains = matches!(purpose, Purpose::Training(_)) && self.ranks().size() > 1;
            if trains && self.linked.set(()).is_ok() {
                device.link(&self.ranks())?.into_iter().for_each(|by| self.say(&by));
            }
        }
        let precision = self.precision(&device, purpose)?;
        Ok(move || device.compute(precision, options))
    }

    /// The processor, for what is measured of it alone.
    ///
    /// # Errors
    /// A GPU is asked for.
    pub(crate) fn cpu(&self, purpose: Purpose) -> Result<Cpu> {
        let on_gpu = matches!(self.device_name(), Some(DeviceName::Cuda(_)));
        ensure!(!on_gpu, "this is measured of the processor alone: leave --device away");
        self.processor(purpose)
    }

    /// The processor, whatever device is asked for.
    ///
    /// # Errors
    /// The first of several processes has none.
    pub(crate) fn processor(&self, purpose: Purpose) -> Result<Cpu> {
        Ok(Cpu::new(CpuOptions { precision: self.precision(&Device::Cpu, purpose)?, ..self.options() }))
    }

    /// A backend on this device, whichever is asked for.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn compute_on(&self, device: DeviceName, purpose: Purpose) -> Result<Compute> {
        let device = self.devices.open(Some(device))?;
        Ok(device.compute(self.precision(&device, purpose)?, self.options()))
    }

    /// The precision of [`compute`](Self::compute), as it is typed.
    ///
    /// # Errors
    /// See [`compute`](Self::compute).
    pub(crate) fn precision_name(&self, purpose: Purpose) -> Result<&'static str> {
        Ok(precision::name(self.precision(&self.device(purpose)?, purpose)?))
    }

    /// The device as it was typed.
    pub(crate) fn typed_device(&self) -> Option<&str> {
        self.global.device.as_deref()
    }

    /// The device that is asked for. `plan` has others, which are no matter here.
    fn device_name(&self) -> Option<DeviceName> {
        self.global.device.as_deref().and_then(|name| DeviceName::parse(name).ok())
    }

    /// Whether the run `out` trains on a GPU.
    ///
    /// # Errors
    /// The device that is asked for is not there.
    pub(crate) fn trains_on_gpu(&self, out: &Path) -> Result<bool> {
        Ok(self.device(Purpose::Training(out))?.is_gpu())
    }

    fn device(&self, purpose: Purpose) -> Result<Device> {
        let begun_on = match purpose {
            Purpose::Training(run) => DeviceName::begun_on(run),
            _ => None,
        };
        let wanted = self.device_name().or(begun_on);
        if self.ranks().size() > 1 {
            let Some(DeviceName::Cuda(first)) = wanted else { return Ok(Device::Cpu) };
            let local_rank = self.launch.as_ref().and_then(|launch| launch.local_rank).context(
                "the launcher does not say which of this machine's processes this is, and so not which GPU is its own: start them \
                 with mpirun or srun, or take --device cpu",
            )?;
            return self.devices.open(Some(DeviceName::Cuda(first + local_rank)));
        }
        let device = self.devices.open(wanted)?;
        if wanted.is_none() && device.is_gpu() {
            self.told_device.get_or_init(|| self.say("on the GPU; --device cpu takes the processor"));
        }
        Ok(device)
    }

    /// The precision of all processes is what the first one finds.
    fn precision(&self, device: &Device, purpose: Purpose) -> Result<Precision> {
        let found =
            self.ranks().lead(|| Ok(precision::name(self.own_precision(device, purpose)).to_owned()))?;
        Ok(PrecisionName::named(&found).context("no precision has this name")?.into())
    }

    fn own_precision(&self, device: &Device, purpose: Purpose) -> Precision {
        let options = self.options();
        match (self.global.precision, purpose) {
            (Some(asked), _) => asked.into(),
            (None, Purpose::Figures) => options.precision,
            (None, Purpose::Training(run)) if device.is_gpu() => {
                precision::begun_in(run).unwrap_or(Precision::Bf16)
            }
            // What its tensor cores are made for.
            (None, _) if device.is_gpu() => Precision::Bf16,
            // Measured once: another time it may come out otherwise.
            (None, Purpose::Text) => *self.text_precision.get_or_init(|| precision::for_decoding(options)),
            (None, Purpose::Service) => *self.text_precision.get_or_init(|| precision::for_serving(options)),
            (None, Purpose::NewTraining) => precision::for_training(options),
            (None, Purpose::Training(run)) => {
                precision::begun_in(run).unwrap_or_else(|| precision::for_training(options))
            }
        }
    }

    /// How the weights of `models` are stored, which are only read. Text has the precision that goes with them from here
    /// on, unless another one is asked for: blocks are read as they are where products are exact.
    ///
    /// # Errors
    /// They are stored in another precision than the one that is asked for, or in blocks on a GPU.
    pub(crate) fn stored(&self, asked: WeightsArg, models: &[&Path]) -> Result<Stored> {
        self.stored_where(asked, || models.iter().any(|model| self.has_blocks(model)))
    }

    /// The same of a model that is open already.
    pub(crate) fn stored_of(&self, asked: WeightsArg, model: &Checkpoint) -> Result<Stored> {
        self.stored_where(asked, || model.spared_bytes() > 0)
    }

    fn stored_where(&self, asked: WeightsArg, has_blocks: impl FnOnce() -> bool) -> Result<Stored> {
        let on_gpu = self.device(Purpose::Text)?.is_gpu();
        let Some(weights) = asked.weights else {
            if !on_gpu && self.global.precision.is_none() && has_blocks() {
                self.text_precision.get_or_init(|| Precision::F32);
            }
            return Ok(if on_gpu { Stored::Exactly } else { Stored::AsInFile });
        };
        let (precision, stored) = match weights {
            WeightsName::F32 => (Precision::F32, Stored::Exactly),
            WeightsName::Bf16 => (Precision::Bf16, Stored::Exactly),
            WeightsName::Q8_0 => (Precision::F32, Stored::In(BlockFormat::Q8_0)),
            WeightsName::Q4_0 => (Precision::F32, Stored::In(BlockFormat::Q4_0)),
        };
        if stored == Stored::Exactly
            && self.global.precision.is_some_and(|asked| Precision::from(asked) != precision)
        {
            let usage = "--weights and --precision say two things: products read their weights in their own precision; \
                 leave one of the two out";
            return Err(Usage(usage.into()).into());
        }
        if stored != Stored::Exactly && on_gpu {
            let usage =
                "only the processor reads weights in blocks: give --device cpu, or leave --weights out";
            return Err(Usage(usage.into()).into());
        }
        self.text_precision.get_or_init(|| precision);
        Ok(stored)
    }

    /// Whether a model is a GGUF file with matrices in blocks. Whoever opens it tells what is wrong with it.
    fn has_blocks(&self, model: &Path) -> bool {
        let is_gguf = model.is_file() || model.to_string_lossy().contains(".gguf");
        is_gguf
            && checkpoint::open(model, self.watcher()).is_ok_and(|model| model.apart().0.spared_bytes() > 0)
    }

    fn options(&self) -> CpuOptions {
        CpuOptions { threads: self.threads(), ..CpuOptions::default() }
    }

    /// The file that a verb writes, which is none of its `inputs`. From here on standard output is the file's
    /// if it is meant, and the precision of text is the one that the file was begun with, unless another one
    /// is asked for.
    pub(crate) fn out(&self, asked: &Path, force: bool, inputs: &[&Path]) -> Result<Out> {
        let out = Out::new(asked, force, inputs)?;
        if out.is_standard() {
            self.stdout_is_taken.get_or_init(|| ());
        }
        let begun_with = out
            .recipe()
            .filter(|_| !force)
            .and_then(|recipe| PrecisionName::named(recipe.setting("precision")?));
        if let Some(precision) = begun_with {
            self.text_precision.get_or_init(|| precision.into());
        }
        Ok(out)
    }

    /// What the backend is, its peak measured.
    pub(crate) fn machine(&self, compute: &mut impl Computes) -> Machine {
        let ranks = self.ranks();
        let about = [ranks.describe(), compute.about()];
        Machine {
            description: about
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", each "),
            device: compute.device().into(),
            memory_bytes: compute.own_memory(),
            precision: precision::name(compute.precision()).into(),
            // Of all together.
            peak_flops: ranks.gather(&[compute.peak(PEAK_DURATION)]).iter().sum(),
            command: Self::command(),
            tensorboard: self.global.tensorboard,
            ranks,
        }
    }

    /// The command that was typed, as one would type it again.
    pub(crate) fn command() -> String {
        let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
        std::iter::once("mynah".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Gives the library's thread pool the number of threads asked for, the first time that it is needed.
    pub(crate) fn start_threads(&self) -> Result<()> {
        static STARTED: OnceLock<()> = OnceLock::new();
        if STARTED.set(()).is_err() {
            return Ok(());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads());
        pool.build_global().context("cannot start the threads")
    }

    /// Text for people, on standard error.
    pub(crate) fn say(&self, text: &str) {
        self.terminal().line(text);
    }

    /// The result of a verb: `json` with `--json`, else the text, on standard output.
    pub(crate) fn result(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if !self.ranks().is_first() {
            return Ok(());
        }
        match (self.stdout_is_taken.get(), self.json()) {
            (Some(()), true) => {
                terminal::eprint_line(&serde_json::to_string(json).context("a result must be JSON")?)
            }
            (Some(()), false) => terminal::eprint_line(text().trim_end()),
            (None, true) => terminal::print_json(json)?,
            (None, false) => terminal::print(text().as_bytes())?,
        }
        Ok(())
    }

    /// What a verb did to files: `json` on standard output with `--json`, else the text for people, also with
    /// `--quiet`: it is the result.
    pub(crate) fn summary(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        if self.json() || !self.ranks().is_first() {
            return self.result(json, text);
        }
        self.close();
        terminal::eprint_line(text().trim_end());
        Ok(())
    }

    /// Takes moving bars off the screen.
    pub(crate) fn close(&self) {
        if let Some(terminal) = self.terminal.get() {
            terminal.close();
        }
    }
}

/// What a processor computes, which decides its precision.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// A training in this run directory or of this road: in the precision that it began with, else in the one
    /// that this machine trains faster in. One precision does rollouts, scores and updates.
    Training(&'a Path),
    /// A training without a directory.
    NewTraining,
    /// Text that nobody compares: in the precision that this machine decodes faster in.
    Text,
    /// Text that a server writes for long: likewise, wherever bf16 is the faster to read.
    Service,
    /// Figures to be compared: in `f32` on every machine.
    Figures,
}

/// How a verb ended, unless it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All is done.
    Done,
    /// Somebody asked it to stop; what there was is saved.
    Stopped,
}

/// The last line about a run: its steps, what was measured of it at its end, and its page.
pub(crate) fn closing(ending: &Ending, unit: &str, measured: Option<String>) -> String {
    let measured = measured.map_or_else(String::new, |measured| format!(", {measured}"));
    format!("{} {unit}{measured} → {}", text::count(ending.step), ending.report.display())
}

impl Ended {
    /// How a stage ended.
    pub(crate) fn of(ending: &Ending) -> Self {
        if ending.stopped { Ended::Stopped } else { Ended::Done }
    }
}
