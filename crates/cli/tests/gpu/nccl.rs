//! Processes with a GPU each: what they exchange goes from GPU to GPU over NCCL, here an emulated one
//! (`kernels-cuda/tests/emulator/nccl.cc`), which counts its calls. Whoever moves the bytes, and however many processes
//! there are, a run ends with the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::launcher::{JobEnded, Kind, Launcher};
use crate::{Gpu, pretrain};

const STEPS: usize = 4;
/// Copies of so many bytes are what the peak is measured with, as often as there is time; those of a run are smaller.
const FOR_THE_PEAK: usize = 256 * 256 * 4;

/// The recipe of a run, whose lanes are four.
fn recipe(out: &str, precision: &str) -> String {
    let recipe = pretrain(out, "--device cuda --set lanes=4");
    let recipe = recipe.replace("--steps 10", &format!("--steps {STEPS}"));
    recipe.replace("--precision f32", &format!("--precision {precision}"))
}

/// A run by so many processes.
struct Together {
    ended: JobEnded,
    /// What was copied between hosts and GPUs: bytes up and down.
    copied: BTreeMap<String, usize>,
    /// The calls of NCCL of each process, by what they are: how many, and their bytes.
    calls: Vec<BTreeMap<String, (usize, usize)>>,
}

/// Runs the recipe into `out` by so many processes, in an environment with `variables` besides.
fn together(gpu: &Gpu, size: usize, out: &str, precision: &str, variables: &[(&str, &str)]) -> Together {
    let path = |name: &str| gpu.path(name).display().to_string();
    let dir = gpu.path(&format!("{out}-exchange"));
    fs::create_dir(&dir).expect("a folder");
    // The launcher starts them in its own directory.
    let recipe = recipe(out, precision).replace("--quiet", "");
    let recipe = recipe.replace("--data tokens", &format!("--data {}", path("tokens")));
    let recipe = recipe.replace(&format!("--out {out}"), &format!("--out {}", path(out)));
    let arguments: Vec<String> = recipe.split_whitespace().map(String::from).collect();
    let (libraries, cache, exchange) = (path("libraries"), path("cache"), dir.display().to_string());
    let usual = [
        ("LD_LIBRARY_PATH", &*libraries),
        ("XDG_CACHE_HOME", &cache),
        ("FAKE_GPU_COUNT", "4"),
        ("FAKE_NCCL", &exchange),
        ("FAKE_GPU_COPIES", &exchange),
    ];
    let variables: Vec<(&str, &str)> = usual.into_iter().chain(variables.iter().copied()).collect();
    let launcher = Launcher::find(Kind::OpenMpi).expect("it was found before");
    let program = env!("CARGO_BIN_EXE_mynah").to_owned();
    let ended = launcher.start_each(&[(size, program, arguments)], &variables).end();
    let (mut copied, mut calls) = (BTreeMap::new(), vec![BTreeMap::new(); size]);
    for entry in fs::read_dir(&dir).expect("a folder") {
        let file = entry.expect("a file").path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let lines = |file: PathBuf| fs::read_to_string(file).expect("text");
        let each = |(what, bytes): (&str, &str)| (what.to_owned(), bytes.parse::<usize>().expect("bytes"));
        if let Some(rank) = name.strip_prefix("calls-") {
            let calls = &mut calls[rank.parse::<usize>().expect("a rank")];
            for (what, bytes) in lines(file).lines().filter_map(|line| line.split_once(' ')).map(each) {
                let (count, sum) = calls.entry(what).or_insert((0, 0));
                (*count, *sum) = (*count + 1, *sum + bytes);
            }
        } else if name.starts_with("copies-") {
            for (way, bytes) in lines(file).lines().filter_map(|line| line.split_once(' ')).map(each) {
                *copied.entry(way).or_insert(0) += if bytes < FOR_THE_PEAK { bytes } else { 0 };
            }
        }
    }
    Together { ended, copied, calls }
}

impl Together {
    fn succeeds(self) -> Self {
        assert_eq!(self.ended.code, Some(0), "{}", self.ended.said);
        self
    }
}

/// What a run ends with.
fn results(gpu: &Gpu, run: &str) -> [Vec<u8>; 3] {
    let last = format!("checkpoints/step-{STEPS:06}");
    let files =
        ["metrics.jsonl", &format!("{last}/model.safetensors"), &format!("{last}/optimizer.safetensors")];
    files.map(|file| fs::read(gpu.path(run).join(file)).unwrap_or_else(|why| panic!("{run}/{file}: {why}")))
}

pub(crate) fn each_process_takes_a_gpu(gpu: &Gpu) {
    gpu.make_tokens();
    let one = together(gpu, 2, "one", "f32", &[("FAKE_GPU_COUNT", "1")]).ended;
    assert!(one.code != Some(0) && one.said.contains("there is no GPU 1"), "{}", one.said);
}

pub(crate) fn gpus_exchange_what_processes_share(gpu: &Gpu) {
    gpu.make_tokens();
    // In bf16 a copy of the weights is kept, which has to follow what others have updated.
    for (precision, sizes) in [("f32", &[2, 4][..]), ("bf16", &[2])] {
        let named = |name: &str| format!("{name}-{precision}");
        gpu.run(&recipe(&named("alone"), precision));
        let alone = results(gpu, &named("alone"));
        // Four bytes of every number that is learned, which is more than a file's header.
        let model = alone[2].len() / 2;
        let hosts = together(gpu, 2, &named("hosts"), precision, &[("MYNAH_NCCL", "off")]).succeeds();
        for &size in sizes {
            let name = named(&format!("{size}-processes"));
            let run = together(gpu, size, &name, precision, &[]).succeeds();
            assert!(run.ended.said.contains("go from GPU to GPU (NCCL 2.27.3)"), "{}", run.ended.said);
            assert!(results(gpu, &name) == alone, "{size} processes in {precision} learn something else");
            for calls in &run.calls {
                let of = |what: &str| calls.get(what).copied().unwrap_or_default();
                assert_eq!((of("send").0, of("receive").0), (STEPS * size, STEPS * size));
                assert_eq!(of("all-gather").0, STEPS);
                for (what, parts) in [("send", 1), ("receive", 1), ("all-gather", size), ("broadcast", 1)] {
                    let bytes = parts * of(what).1;
                    let whole = STEPS * model;
                    assert!(bytes > whole / 10 * 9 && bytes < whole / 10 * 13, "{what}: {bytes} of {whole}");
                }
            }
            if size == 2 {
                // Down and up again went the gradients of each; the weights down once and up once.
                for way in ["down", "up"] {
                    let spared = hosts.copied[way] - run.copied[way];
                    let expected = STEPS * model * 3;
                    assert!(
                        spared > expected / 10 * 9 && spared < expected / 10 * 11,
                        "{spared} bytes {way} less, of {expected}"
                    );
                }
            }
        }
        assert!(results(gpu, &named("hosts")) == alone, "through the hosts they learn something else");
        assert!(hosts.calls.iter().all(BTreeMap::is_empty), "{:?}", hosts.calls);
    }
}

pub(crate) fn without_nccl_it_goes_through_the_hosts(gpu: &Gpu) {
    gpu.make_tokens();
    let run = together(gpu, 2, "hosts", "f32", &[("MYNAH_NCCL", "nowhere/libnccl.so.2")]).succeeds();
    for part in
        ["through the memory of the hosts", "nowhere/libnccl.so.2", "pip install nvidia-nccl", "MYNAH_NCCL"]
    {
        assert!(run.ended.said.contains(part), "{part}: {}", run.ended.said);
    }
}

pub(crate) fn gpus_that_hear_nothing_more_end_the_job(gpu: &Gpu) {
    gpu.make_tokens();
    let lost = [("FAKE_NCCL_LOST", "6"), ("MYNAH_MPI_TIMEOUT", "10")];
    let hangs = together(gpu, 2, "hangs", "f32", &lost).ended;
    assert!(
        hangs.code != Some(0) && hangs.said.contains("has waited for the others for 10 s"),
        "{}",
        hangs.said
    );
    let failed = [("FAKE_NCCL_LOST", "6"), ("FAKE_NCCL_FAILED", "1")];
    let failed = together(gpu, 2, "failed", "f32", &failed).ended;
    let parts = ["NCCL failed in an exchange between GPUs", "remote process exited", "MYNAH_NCCL=off"];
    assert!(failed.code != Some(0) && parts.iter().all(|part| failed.said.contains(part)), "{}", failed.said);
}
