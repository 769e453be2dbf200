//! Distillation on the processor: a student comes nearer to its teacher, on given answers and on its own, whole and by an
//! adapter; what cannot be compared is refused.

use crate::workshop::{continues, costs, cpu, machine, modern, save, settings};
use crate::{answers_are_shown, base, demonstrations, init};
use gpt::data::{Conversations, Sequence};
use gpt::model::Config;
use gpt::progress::{Progress, Silent};
use gpt::stage::{
    DistilOptions, DistilOutcome, DistilSource, Init, SftOptions, TeacherStore, distil, sft, store_teacher,
};
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::with_ours;
use kernels::Cpu;
use std::path::{Path, PathBuf};

fn wide(vocab_size: usize) -> Config {
    Config::gpt2(vocab_size, 64, 2, 2, 48)
}

/// A directory of this name.
fn place(dir: &Path, name: &str) -> PathBuf {
    let place = dir.join(name);
    std::fs::create_dir(&place).unwrap();
    place
}

/// A teacher that knows the answers.
fn taught(dir: &Path) -> Init {
    let untaught = init(&base(dir, wide));
    let options = SftOptions {
        init: &untaught,
        train: &demonstrations(&untaught, 20),
        val: &demonstrations(&untaught, 5),
        reward: None,
        ptx: Vec::new(),
        out: dir.join("taught"),
        settings: settings(&["steps=40", "batch_size=5", "lr=5e-3", "dropout=0"]),
        seed: 2,
    };
    sft(cpu(2), &machine(), &options, &Silent).unwrap();
    init(&options.out)
}

/// What is kept of a teacher about all that is learned here.
fn stored(teacher: &Init) -> Vec<u8> {
    store_teacher(&mut cpu(1), teacher, &demonstrations(teacher, 20), 6, 1.0, &Silent).unwrap()
}

fn run(
    (student, teacher): (&Init, DistilSource<'_>),
    out: &Path,
    b: Cpu,
    changes: &[&str],
    progress: &dyn Progress,
) -> anyhow::Result<DistilOutcome> {
    let options = DistilOptions {
        init: student,
        teacher,
        train: &demonstrations(student, 20),
        val: &demonstrations(student, 5),
        out: out.into(),
        settings: settings(&[&["steps=16", "batch_size=5", "max_tokens=6"], changes].concat()),
        seed: 1,
    };
    distil(b, &machine(), &options, progress)
}

#[test]
fn a_student_comes_nearer_to_its_teacher_and_continues_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let [small, large] = ["small", "large"].map(|name| place(dir.path(), name));
    let small = base(&small, modern);
    let (teacher, whole) = (taught(&large), init(&small));
    let beside = init(&small).beside(&"r=4,dropout=0.05".parse().unwrap(), None).unwrap();
    let data = dir.path().join("store");
    std::fs::write(&data, stored(&teacher)).unwrap();
    let store = TeacherStore::open(&data).unwrap();
    assert!(TeacherStore::is_at(&data) && !TeacherStore::is_at(&small.join("model.safetensors")));
    let (asked, looked_up) = (DistilSource::Model(&teacher), DistilSource::Store(&store));
    let settings: [(&str, &Init, DistilSource<'_>, f64, &[&str]); 4] = [
        ("stored", &whole, looked_up, 0.8, &["lr=1e-2", "lmbda=0", "beta=0"]),
        ("given", &whole, asked, 0.8, &["lr=1e-2", "lmbda=0", "beta=0"]),
        ("own", &whole, asked, 0.8, &["lr=1e-2", "lmbda=0.5", "beta=0.5", "dropout=0.1"]),
        ("beside", &beside, asked, 0.995, &["lr=2e-2", "lmbda=0.5", "beta=1", "temperature=1.5"]),
    ];
    for (name, student, source, most, changes) in settings {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let whole = continues(&dir, &[2, 5, 9], |out, b, progress| {
            let outcome = run((student, source), out, b, changes, progress).unwrap();
            if !outcome.ending.stopped {
                let before = outcome.before.unwrap();
                let (before, after) = (before.divergence, outcome.after.unwrap().divergence);
                assert!(after < most * before, "{name}: {before} → {after}");
            }
            outcome.ending.stopped
        });
        answers_are_shown(&whole);
        let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
        let owns = metrics.lines().filter(|line| line.contains("objective/answer_tokens")).count();
        assert_eq!(
            owns > 0 && owns < 16,
            ["own", "beside"].contains(&name),
            "{name}: {owns} steps on own answers"
        );
        if name == "given" {
            let config = |init: &Init| init.model().config.training_flops_per_token_of(12.0);
            // The student learns, the teacher reads.
            costs(&whole, 1.0 + config(&teacher) / config(student) / 3.0);
        }
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [small, large, padded] = ["small", "large", "padded"].map(|name| place(dir.path(), name));
    let student = init(&base(&small, modern));
    let other = with_ours(
        &Tokenizer::train((0..40).map(|i| Ok(format!("{i} zebras\n"))), 290, &[], &Silent).unwrap(),
    );
    let other = init(&save(&large, &other.unwrap(), wide));
    let refusal = |teacher: DistilSource<'_>, changes: &[&str]| {
        let out = dir.path().join("out");
        format!("{:#}", run((&student, teacher), &out, cpu(1), changes, &Silent).map(|_| ()).unwrap_err())
    };
    let told = refusal(DistilSource::Model(&other), &[]);
    assert!(told.contains("different tokenizers") && told.contains("to the teacher and"), "{told}");
    let padded = init(&base(&padded, |n| wide(n + 10)));
    let told = refusal(DistilSource::Model(&padded), &[]);
    assert!(told.contains("has rows for") && told.contains("cannot be compared"), "{told}");

    let path = dir.path().join("store");
    let bytes = stored(&student);
    std::fs::write(&path, &bytes).unwrap();
    let store = TeacherStore::open(&path).unwrap();
    let told = refusal(DistilSource::Store(&store), &["lmbda=0.5"]);
    assert!(told.contains("--set lmbda=0"), "{told}");
    let told = refusal(DistilSource::Store(&store), &["lmbda=0", "temperature=2"]);
    assert!(told.contains("temperature is 2, and what was kept of"), "{told}");
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let told = format!("{:#}", TeacherStore::open(&path).err().unwrap());
    assert!(told.contains("as a teacher"), "{told}");
    let untold =
        Conversations::new(&[Sequence { tokens: vec![1, 2], targets: vec![2, 3], cut_tokens: 0 }], 1);
    std::fs::write(&path, store_teacher(&mut cpu(1), &student, &untold, 3, 1.0, &Silent).unwrap()).unwrap();
    let told = refusal(DistilSource::Store(&TeacherStore::open(&path).unwrap()), &["lmbda=0"]);
    assert!(told.contains("does not know a conversation"), "{told}");
    let none = |k| store_teacher(&mut cpu(1), &student, &untold, k, 1.0, &Silent).is_err();
    assert!(none(0) && none(100_000));
    assert!(!dir.path().join("out/checkpoints").exists());

    // A student that never could answer itself.
    let told = refusal(DistilSource::Model(&student), &["lmbda=0.5", "max_tokens=1000"]);
    assert!(told.contains("no prompt leaves room for an answer of max_tokens 1000"), "{told}");
}
