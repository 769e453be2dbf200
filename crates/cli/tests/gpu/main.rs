//! The program on a GPU that is not there: its driver and cuBLASLt are libraries that the test compiles, in which the
//! kernels run on the emulator, and `mynah` finds them as it finds NVIDIA's. Without a C++ compiler the tests are
//! counted apart, by their names; so are those of several processes without an `mpirun`.

#[path = "../../../kernels-cuda/tests/emulator/compiled.rs"]
mod compiled;
#[allow(dead_code)] // Jobs that are killed are tested beside it.
#[path = "../ranks/launcher.rs"]
mod launcher;
mod nccl;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use launcher::{Kind, Launcher};
use libtest_mimic::{Arguments, Completion, Trial};
use serde_json::Value;
use tempfile::TempDir;

/// Memory for less than a step of a small model.
const NARROW: &str = "219000000";
/// What a small road may cost.
const MOST_FLOPS: f64 = 5e9;
/// An iteration of PPO reads its tokens with four models and learns with two.
const PPO_PASSES: f64 = 4.0;
/// A model that is learned in seconds on an emulator.
const SHAPE: [&str; 4] = ["n_layer=1", "n_head=2", "d_model=32", "seq_len=128"];

/// What products work with, whatever they are of.
const WORKSPACE_BYTES: u64 = 64 << 20;

type Test = fn(&Gpu);

/// What a call did to the emulated GPU: the most bytes that it had there besides the workspace of products, and its
/// launches.
#[derive(Clone, Copy, Debug)]
struct Did {
    peak_bytes: u64,
    launches: u64,
    graph_launches: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let alone: [(&str, Test); 7] = [
        ("a_small_road_ends_in_a_report", a_small_road_ends_in_a_report),
        ("what_is_missing_is_named", what_is_missing_is_named),
        ("every_chip_gets_code", every_chip_gets_code),
        ("a_plan_measures_the_gpu", a_plan_measures_the_gpu),
        ("recomputed_blocks_take_less_memory", recomputed_blocks_take_less_memory),
        ("free_memory_decides_what_goes_at_once", free_memory_decides_what_goes_at_once),
        ("what_comes_again_is_one_launch", what_comes_again_is_one_launch),
    ];
    let together: [(&str, Test); 4] = [
        ("each_process_takes_a_gpu", nccl::each_process_takes_a_gpu),
        ("gpus_exchange_what_processes_share", nccl::gpus_exchange_what_processes_share),
        ("without_nccl_it_goes_through_the_hosts", nccl::without_nccl_it_goes_through_the_hosts),
        ("gpus_that_hear_nothing_more_end_the_job", nccl::gpus_that_hear_nothing_more_end_the_job),
    ];
    let missing = compiled::no_compiler();
    let several = missing.clone().or_else(|| Launcher::find(Kind::OpenMpi).err());
    let tests = alone.map(|test| (test, &missing)).into_iter().chain(together.map(|test| (test, &several)));
    let trials = tests.map(|((name, test), missing)| {
        let missing = missing.clone();
        Trial::ignorable_test(name, move || match missing {
            None => {
                test(&Gpu::new(&compiled::compile_driver(&kernels_cuda::source())));
                Ok(Completion::Completed)
            }
            Some(why) => Ok(Completion::ignored_with(why)),
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// A machine with the libraries of an emulated GPU.
struct Gpu {
    dir: TempDir,
}

impl Gpu {
    fn new(library: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (folder, names) in
            [("libraries", &["cuda.so", "cublasLt.so", "nccl.so.2"][..]), ("driver", &["cuda.so"])]
        {
            let folder = dir.path().join(folder);
            fs::create_dir(&folder).expect("a folder");
            for name in names {
                symlink(library, folder.join(format!("lib{name}"))).expect("a link");
            }
        }
        Gpu { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `mynah` in the directory of this machine, with the libraries of a folder.
    fn with(&self, libraries: &str, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mynah"));
        command.args(arguments.split_whitespace()).current_dir(self.dir.path());
        command.env("LD_LIBRARY_PATH", self.path(libraries));
        command
    }

    /// Lessons, and their texts as token shards.
    fn make_tokens(&self) {
        self.run("lessons --out lessons --text-bytes 60000 --demonstrations 80 --prompts 40 --held-out 10 --task-rows 10 --calculator 10");
        self.run("corpus lessons/text.jsonl --text-field text --no-dedup --out corpus");
        self.run("tokenizer train --corpus corpus --vocab-size 300 --out tokenizer.json");
        self.run("tokenize --corpus corpus --tokenizer tokenizer.json --out tokens");
    }

    /// What a call says on standard output, which succeeds.
    fn run(&self, arguments: &str) -> String {
        let ended = ended(self.with("libraries", arguments));
        let (said, complained) = (text(&ended.stdout), text(&ended.stderr));
        assert!(ended.status.success(), "mynah {arguments}: {complained}");
        said
    }

    /// A call that succeeds, with variables of the emulated driver: what it says, and what it did to the GPU.
    fn measured(&self, arguments: &str, variables: &[(&str, &str)]) -> (String, Did) {
        let report = self.path("report.json");
        let mut command = self.with("libraries", arguments);
        command.env("FAKE_GPU_REPORT", &report).envs(variables.iter().copied());
        let ended = ended(command);
        assert!(ended.status.success(), "mynah {arguments}: {}", text(&ended.stderr));
        let told: Value = serde_json::from_str(&fs::read_to_string(report).expect("a report")).expect("JSON");
        let number = |key: &str| told[key].as_u64().expect("a number");
        let did = Did {
            peak_bytes: number("peak_bytes") - WORKSPACE_BYTES,
            launches: number("launches"),
            graph_launches: number("graph_launches"),
        };
        (text(&ended.stdout), did)
    }

    /// A call that does not, and says this.
    fn fails(&self, command: Command, parts: &[&str]) {
        let ended = ended(command);
        let complained = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{complained}");
        parts.iter().for_each(|part| assert!(complained.contains(part), "{part:?} is not in: {complained}"));
    }

    /// The lines of a run's file.
    fn lines(&self, file: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(file)).expect(file);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Tokens that a run has learned from.
    fn tokens(&self, run: &str) -> f64 {
        let number = |line: &Value, key: &str| line[key].as_f64().expect("a number");
        let lines = self.lines(&format!("{run}/timings.jsonl"));
        lines.iter().map(|line| number(line, "tokens_per_sec") * number(line, "step_secs")).sum()
    }
}

fn ended(mut command: Command) -> Output {
    command.output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The recipe of pretraining into the run `out`.
fn pretrain(out: &str, further: &str) -> String {
    let sets = SHAPE.map(|set| format!("--set {set}")).join(" ");
    format!(
        "pretrain --data tokens --preset tiny --out {out} --steps 10 --set batch_tokens=512 --set warmup_steps=3 \
         --set eval_every=5 --set eval_windows=2 --set checkpoint_every=5 --set sample_every=10 {sets} \
         --threads 1 --quiet --precision f32 {further}"
    )
}

fn a_small_road_ends_in_a_report(gpu: &Gpu) {
    let on = "--threads 1 --quiet --device cuda";
    gpu.make_tokens();
    gpu.run(&pretrain("base", "--device cuda"));
    gpu.fails(gpu.with("libraries", &pretrain("base", "--device cpu")), &["settings.device: \"cuda\""]);
    let recipe = "--steps 5 --set batch_size=4 --set eval_every=5 --precision f32";
    gpu.run(&format!("sft --model base --data lessons/demonstrations.jsonl --out sft {recipe} {on}"));
    let answers = "--k 3 --max-tokens 8 --precision bf16 --out candidates.jsonl";
    gpu.run(&format!("candidates --model sft --prompts lessons/prompts.jsonl {answers} {on}"));
    gpu.run("rank simulate --candidates candidates.jsonl --judge lessons --out rankings.jsonl");
    gpu.run(&format!("reward --model sft --rankings rankings.jsonl --out reward {recipe} {on}"));
    let recipe = "--steps 2 --set batch_size=4 --set minibatches=2 --set epochs=1 --set max_tokens=8 --set eval_prompts=4 --set eval_every=2";
    let prompts = "--prompts lessons/prompts.jsonl --judge lessons";
    gpu.run(&format!("ppo --model sft --reward reward {prompts} --out ppo {recipe} --precision f32 {on}"));
    let figures =
        gpu.run(&format!("eval --model ppo --tasks add-2-digits --limit 4 --max-tokens 4 --json {on}"));
    assert!(figures.contains("exact_match"), "{figures}");
    gpu.run("report ppo");
    let page = fs::read_to_string(gpu.path("ppo/report.html")).expect("a report");
    assert!(page.contains("emulated GPU") && page.ends_with("</html>\n"), "{page}");

    // The processor learns the same from the same.
    gpu.run(&pretrain("on-cpu", "--device cpu"));
    let [here, there] = ["on-cpu", "base"].map(|run| gpu.lines(&format!("{run}/metrics.jsonl")));
    assert_eq!(here.len(), there.len());
    for (here, there) in here.iter().zip(&there) {
        let [here, there] = [here, there].map(|line| line["loss"].as_f64().expect("a loss"));
        assert!((here - there).abs() < 1e-5 * here, "{here} on the processor, {there} on the GPU");
    }

    let sets = SHAPE.map(|set| format!("--set {set}")).join(" ");
    let plan = gpu.run(&format!("plan --preset tiny --vocab-size 300 --device h100 --json {sets}"));
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let a_token = plan["plan"]["flops_per_token"].as_f64().expect("a number");
    let tokens = ["base", "sft", "reward"].map(|run| gpu.tokens(run)).iter().sum::<f64>();
    let flops = a_token * (tokens + PPO_PASSES * gpu.tokens("ppo"));
    assert!(flops > 0.2 * MOST_FLOPS && flops < MOST_FLOPS, "{flops}");
}

fn what_is_missing_is_named(gpu: &Gpu) {
    let asked = "plan --preset tiny --device cuda";
    gpu.fails(
        gpu.with("driver", asked),
        &["cannot open libcublasLt.so.13", "LD_LIBRARY_PATH", "pip install nvidia-cublas"],
    );
    gpu.fails(gpu.with("libraries", &format!("{asked}:1")), &["there is no GPU 1", "sees 1"]);
    let mut old = gpu.with("libraries", asked);
    old.env("FAKE_GPU_CHIP", "75");
    gpu.fails(old, &["compute capability 7.5", "8.0 or newer", "--device cpu"]);
}

fn every_chip_gets_code(gpu: &Gpu) {
    let opened = |chip: &str, ptx_only: bool| {
        let mut asked = gpu.with("libraries", "plan --preset tiny --device cuda --quiet");
        asked.env("FAKE_GPU_CHIP", chip);
        if ptx_only {
            asked.env("FAKE_GPU_PTX_ONLY", "1");
        }
        let ended = ended(asked);
        assert!(ended.status.success(), "{chip}: {}", text(&ended.stderr));
    };
    // Ampere, Ada, Hopper and Blackwell for data centres; what only PTX is for; a driver that refuses machine code.
    ["80", "89", "90", "100", "103", "120"].iter().for_each(|chip| opened(chip, false));
    opened("90", true);
}

fn a_plan_measures_the_gpu(gpu: &Gpu) {
    let plan = gpu.run("plan --preset tiny --device cuda --device h100 --json");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let device = |i: usize| &plan["on"][i]["device"];
    assert_eq!(
        (&device(0)["name"], &device(1)["name"]),
        (&"emulated GPU, 4 GiB, bf16 products".into(), &"h100".into())
    );
    assert!(device(0)["flops"].as_f64().is_some_and(|flops| flops > 1e6), "{plan}");
    assert!(
        device(0)["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 3 << 30 && bytes <= 4 << 30),
        "{plan}"
    );
}

/// Blocks that are computed again on the way back: the same is learned, with more launches and less memory. Every stage
/// but PPO has this from one place, and pretraining and PPO from places of their own.
fn recomputed_blocks_take_less_memory(gpu: &Gpu) {
    gpu.make_tokens();
    let learns = |what: &str| {
        let [(kept, with), (again, without)] = [false, true].map(|recompute| {
            let out = format!("{}-{recompute}", what.split_whitespace().next().expect("a verb"));
            let call = format!("{what} --out {out} --set recompute={recompute}");
            let (_, did) = gpu.measured(&call, &[("MYNAH_CUDA_GRAPHS", "off")]);
            (fs::read(gpu.path(&out).join("metrics.jsonl")).expect("metrics"), did)
        });
        assert!(kept == again, "{what}: something else is learned");
        // Some of both is what the peak is measured with.
        let less = without.peak_bytes < with.peak_bytes && without.launches > with.launches;
        assert!(less, "{what}: {without:?}, and kept {with:?}");
    };
    let deep = "--set n_layer=5 --set d_model=32 --set n_head=2 --set seq_len=64";
    let on = "--steps 1 --threads 1 --quiet --device cuda --precision f32 --set eval_every=1 --set checkpoint_every=1 --set sample_every=0";
    learns(&format!(
        "pretrain --data tokens --preset tiny --set batch_tokens=1024 --set eval_windows=1 {deep} {on}"
    ));
    let base = "--model pretrain-false";
    learns(&format!("sft {base} --data lessons/demonstrations.jsonl --set batch_size=16 {on}"));
}

/// How much goes through a model at once is decided by the memory that is free when a run begins, and stays so.
fn free_memory_decides_what_goes_at_once(gpu: &Gpu) {
    gpu.make_tokens();
    let recipe = |out: &str, further: &str| {
        format!(
            "pretrain --data tokens --preset tiny --out {out} --steps 4 --set batch_tokens=1024 --set eval_every=2 \
             --set eval_windows=1 --set checkpoint_every=2 --set sample_every=0 --set n_layer=1 --set n_head=2 \
             --set d_model=32 --set seq_len=128 --threads 1 --precision f32 --device cuda {further}"
        )
    };
    let narrow = |out: &str, further: &str| {
        let mut command = gpu.with("libraries", &recipe(out, further));
        command.env("FAKE_GPU_MEMORY", NARROW);
        command
    };
    let kept = |run: &str| {
        let recipe = fs::read_to_string(gpu.path(run).join("config.toml")).expect("a recipe");
        let (settings, _) = recipe.split_once("[runtime]").expect("what happened beside it");
        let line = settings.lines().find_map(|line| line.strip_prefix("micro_batch_tokens = "));
        line.expect("how much goes at once").parse::<u64>().expect("a number")
    };
    let whole = ended(narrow("whole", ""));
    assert!(whole.status.success(), "{}", text(&whole.stderr));
    let few = kept("whole");
    assert!([128, 256, 512].contains(&few), "{few}");
    let said = format!(
        "micro_batch_tokens {few}: training takes 0.1 GB then, and 0.2 GB of the GPU's memory are free"
    );
    assert!(text(&whole.stderr).contains(&said), "{}", text(&whole.stderr));

    // Killed, and continued where there is more.
    let mut begun = narrow("killed", "--quiet").spawn().expect("the program starts");
    while !gpu.path("killed/checkpoints/step-000002").exists() {
        assert!(begun.try_wait().expect("a process").is_none(), "it has ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    begun.kill().and_then(|()| begun.wait()).expect("it is killed");
    gpu.run(&recipe("killed", "--quiet"));
    assert_eq!(kept("killed"), few);
    let [whole, killed] =
        ["whole", "killed"].map(|run| fs::read(gpu.path(run).join("metrics.jsonl")).expect("metrics"));
    assert!(whole == killed, "more memory makes another run of it");
    let other = gpu.with("libraries", &recipe("killed", "--set micro_batch_tokens=1024"));
    gpu.fails(other, &[&format!("settings.micro_batch_tokens: {few} → 1024")]);

    gpu.run(&recipe("roomy", "--quiet"));
    assert_eq!(kept("roomy"), 1024, "all of a step");
    let mut full = gpu.with("libraries", &recipe("full", ""));
    full.env("FAKE_GPU_MEMORY", "150000000");
    gpu.fails(full, &["training needs", "a pass over 128 tokens", "--set recompute=true"]);
    // The stages after it decide likewise.
    gpu.run("sft --model roomy --data lessons/demonstrations.jsonl --out sft --steps 1 --set batch_size=2 --set eval_every=1 \
             --set sample_every=0 --threads 1 --quiet --device cuda --precision f32");
    assert_eq!(kept("sft"), 65_536);
}

/// The launches of a token are those of the token before it: the same text comes of a graph of them.
fn what_comes_again_is_one_launch(gpu: &Gpu) {
    gpu.make_tokens();
    let train = |out: &str, variables| {
        let steps = "--set batch_tokens=128 --set seq_len=64 --set eval_windows=1 --set sample_every=0 --set dropout=0";
        let (_, did) =
            gpu.measured(&pretrain(out, &format!("--device cuda {steps} --set n_layer=2")), variables);
        (fs::read(gpu.path(out).join("metrics.jsonl")).expect("metrics"), did)
    };
    let off: &[(&str, &str)] = &[("MYNAH_CUDA_GRAPHS", "off")];
    let ((plain, one_by_one), (graphs, together)) = (train("plain", off), train("graphs", &[]));
    assert!(plain == graphs, "something else is learned");
    assert_eq!(one_by_one.graph_launches, 0);
    assert!(2 * together.launches < one_by_one.launches, "{together:?}, and one by one {one_by_one:?}");

    let tokens = 40;
    let write = format!(
        "complete --model graphs Hello --max-tokens {tokens} --threads 1 --quiet --device cuda --precision bf16 --seed 3"
    );
    let (text, one_by_one) = gpu.measured(&write, off);
    let (again, together) = gpu.measured(&write, &[]);
    assert!(text == again && text.len() > 10, "{text:?} one by one, {again:?} as graphs");
    let calls = together.launches + together.graph_launches;
    assert!(
        together.graph_launches > tokens - 8 && 5 * calls < one_by_one.launches,
        "{together:?}, {one_by_one:?}"
    );
    // A driver that records nothing.
    let (again, refused) = gpu.measured(&write, &[("FAKE_GPU_NO_CAPTURE", "1")]);
    assert!(text == again && refused.launches == one_by_one.launches, "{refused:?}, {one_by_one:?}");
}
